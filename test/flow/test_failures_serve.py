"""failures of a server's run: they know their object type, and are tried again with its mapping."""
from flow import rows_of, says
from peer_cql import READ_FAILURE, error
from serving import PATHS, batch, batches, cassandra, elastic, locations, serve  # noqa: F401

REFUSED = {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "scripted"}}

ENROLMENT = ("object: user_course\nsource: {keyspace: sunbird_courses, table: user_enrolments}\nselect: batchid\n"
             "target: {index: user-courses, id: \"{batchid}_{userid}\"}\nversioning: sequence\n")


def test_what_serve_could_not_do(serve, cassandra, elastic, program):  # noqa: F811
    locations(cassandra, "a", "b")
    elastic.item_script = lambda action, meta, source: REFUSED if meta["_id"] == "a" else None
    serve.start()
    serve.call("location", ["a", "b"])
    serve.call("batch", [{"courseId": ["nosuch"]}])
    serve.idle()
    serve.stop()
    run = rows_of(program.run("runs", "--json").out)[0]["id"]
    shown = rows_of(program.run("failures", "show", run, "--json").out)
    assert sorted((f["key"], f["object"], f["reason"]) for f in shown) == sorted([("a", "location", "mapper_parsing_exception"), ('{"courseId":["nosuch"]}', "batch", "missing")])
    elastic.item_script = None
    locations(cassandra, "a", name="new")
    c = rows_of(says(program.run("failures", "retry", run, "--json"), code=1).out)[0]
    assert (c["tried"], c["settled"], c["failed"]) == (2, 1, 1)
    assert elastic.sources("location")["a"]["name"] == "new a"
    assert [f["key"] for f in rows_of(program.run("failures", "show", run, "--json").out)] == ['{"courseId":["nosuch"]}']


def test_an_id_that_a_scan_found_is_looked_for_again(serve, cassandra, elastic, program):  # noqa: F811
    """A batch id, which enrolments aren't keyed by: the retry scans as the server was allowed to."""
    elastic.index("user-courses")
    mapping = program.file("enrolment.yaml", ENROLMENT)
    cassandra.tables["sunbird_courses", "user_enrolments"].put([("u%d" % n, "c", "b", True) for n in range(5)])
    elastic.item_script = lambda action, meta, source: REFUSED if meta["_id"] == "b_u3" else None
    serve.start("--filter-scan", "allow", mappings=(mapping,))
    assert serve.sync("user_course", ["b"])["esSyncResponse"] == {"b": False}
    serve.stop()
    run = rows_of(program.run("runs", "--json").out)[0]["id"]
    c = rows_of(says(program.run("failures", "retry", run, "--json"), code=1).out)[0]
    assert (c["tried"], c["settled"]) == (1, 0)
    assert [(f["key"], f["reason"]) for f in rows_of(program.run("failures", "show", run, "--json").out)] == [("b", "mapper_parsing_exception")]
    assert len(elastic.sources("user-courses")) == 4
    elastic.item_script = None
    c = rows_of(says(program.run("failures", "retry", run, "--json"), code=0).out)[0]
    assert (c["tried"], c["settled"]) == (1, 1)
    assert elastic.sources("user-courses")["b_u3"]["userid"] == "u3"
    assert rows_of(program.run("failures", "show", run, "--json").out) == []


LOOKS_LIKE_JSON = ["re\0al", "?", '{"id":"real"}', '"real"', "5", " 5", "[1]", "null", "true", '"', "{"]


def test_an_id_comes_back_as_what_it_was(serve, cassandra, program):  # noqa: F811
    """Text that looks like JSON is no object and no number; a number is no text: else another row would settle it."""
    locations(cassandra, "real")
    serve.start()
    serve.sync("location", [*LOOKS_LIKE_JSON, {"id": "nosuch"}])
    serve.stop()
    run = rows_of(program.run("runs", "--json").out)[0]["id"]
    assert len(rows_of(program.run("failures", "show", run, "--json").out)) == len(LOOKS_LIKE_JSON) + 1
    c = rows_of(says(program.run("failures", "retry", run, "--json"), code=1).out)[0]
    assert (c["tried"], c["settled"]) == (len(LOOKS_LIKE_JSON) + 1, 0)
    locations(cassandra, *LOOKS_LIKE_JSON, "nosuch")
    c = rows_of(says(program.run("failures", "retry", run, "--json"), code=0).out)[0]
    assert (c["tried"], c["settled"]) == (len(LOOKS_LIKE_JSON) + 1, len(LOOKS_LIKE_JSON) + 1)
    assert set(serve.docs("location")) == {*LOOKS_LIKE_JSON, "nosuch"}


def test_what_is_no_id_stays_none(serve, cassandra, program):  # noqa: F811
    locations(cassandra, "5", "null", "[1]")
    serve.start()
    serve.sync("location", [5, None, [1]])
    serve.stop()
    run = rows_of(program.run("runs", "--json").out)[0]["id"]
    assert sorted(f["key"] for f in rows_of(program.run("failures", "show", run, "--json").out)) == ["5", "[1]", "null"]
    c = rows_of(says(program.run("failures", "retry", run, "--json"), code=1).out)[0]
    assert (c["tried"], c["settled"], serve.docs("location")) == (3, 0, {})
    assert {f["reason"] for f in rows_of(program.run("failures", "show", run, "--json").out)} == {"bad_id"}


def test_failures_of_a_run_that_goes_on_are_forgotten(serve, program):  # noqa: F811
    """The oldest beyond --serve-keep-ids, at the start and as it runs."""
    serve.start()
    for n in range(5):
        serve.call("location", ["gone-%d" % n], operationType="sync")
    serve.kill()
    serve.start("--serve-keep-ids", 2)
    run = rows_of(program.run("runs", "--json").out)[0]["id"]
    serve.until(lambda: "event=failures_forgotten failures=3" in serve.server.err())
    assert [f["key"] for f in rows_of(program.run("failures", "show", run, "--json").out)] == ["gone-3", "gone-4"]


def test_a_whole_table_is_tried_again(serve, cassandra, elastic, program):  # noqa: F811
    """Its failures know the mapping among those served, and the settings; what a client is told has none of them."""
    batches(cassandra, *[("c%d" % n, "b%d" % n) for n in range(20)])
    elastic.item_script = lambda action, meta, source: REFUSED if meta["_id"] in ("b3", "b7") else None
    serve.start("--whole-table", "allow")
    run = serve.call("batch", []).headers["X-Cass2es-Run"]
    serve.until(lambda: serve.http("GET", PATHS[0] + "/runs/" + run).result["state"] == "done")
    told = serve.http("GET", PATHS[0] + "/runs/" + run).result
    assert told["summary"]["exit_code"] == 1 and told["summary"]["counts"]["failed"] == 2
    assert told["of"] == {"object_type": "batch", "table": "sunbird_courses.course_batch", "index": "course-batch"}
    listed = rows_of(program.run("failures", "list", run, "--json").out)
    assert [(f["reason"], f["count"]) for f in listed] == [("mapper_parsing_exception", 2)]
    batches(cassandra, ("c3", "b3"), name="new")
    elastic.item_script = lambda action, meta, source: REFUSED if meta["_id"] == "b7" else None
    c = rows_of(says(program.run("failures", "retry", run, "--json"), code=1).out)[0]
    assert (c["tried"], c["settled"], c["failed"]) == (2, 1, 1), c
    assert serve.docs("batch")["b3"] == batch("c3", "b3", "new") and len(serve.docs("batch")) == 19
    elastic.item_script = None
    says(program.run("failures", "retry", run), code=0)
    assert serve.docs("batch")["b7"] == batch("c7", "b7")
    assert rows_of(program.run("failures", "show", run, "--json").out) == []


def test_a_range_of_a_whole_table_is_read_again(serve, cassandra, program):  # noqa: F811
    batches(cassandra, *[("c%d" % n, "b%d" % n) for n in range(20)])
    fault = cassandra.on("EXECUTE", r"token\(", do=error(READ_FAILURE, "tombstones"), times=None)
    serve.start("--whole-table", "allow")
    run = serve.call("batch", []).headers["X-Cass2es-Run"]
    serve.until(lambda: serve.http("GET", PATHS[0] + "/runs/" + run).result["state"] == "done")
    assert serve.http("GET", PATHS[0] + "/runs/" + run).result["summary"]["counts"]["unread_ranges"] > 0
    assert serve.docs("batch") == {}
    cassandra.rules.remove(fault)
    says(program.run("failures", "retry", run), code=0)
    assert len(serve.docs("batch")) == 20
    assert rows_of(program.run("failures", "show", run, "--json").out) == []
