"""serve with mappings that write with versions, between scripted peers; the same against real servers: test/live/test_order.py."""
import signal
import time

import peer_http
import pytest
from flow import says
from serving import PATHS, batches, cassandra, elastic, location, locations, on_step, serve  # noqa: F401

HOUR_US = 3600 * 1000000


@pytest.fixture
def mapping(tmp_path):
    """A mapping of the location table, in the mode asked for."""
    def write(versioning, name="location.yaml"):
        path = tmp_path / name
        path.write_text("object: location\nsource: {keyspace: sunbird, table: location}\ntarget: {index: location}\n"
                        "versioning: %s\n" % versioning)
        return path
    return write


def start(serve, path):  # noqa: F811
    return serve.start(mappings=(path,))


def document(id_, name="n"):
    return {"id": id_, "name": "%s %s" % (name, id_), "code": "c", "type": "block"}


def names(serve):  # noqa: F811
    return {i: d["name"] for i, d in serve.docs("location").items()}


def test_documents_carry_the_time_of_reading(serve, cassandra, elastic, mapping):  # noqa: F811
    locations(cassandra, "l1", "l2")
    start(serve, mapping("read_time"))
    begin = time.time_ns() // 1000
    assert serve.sync("location", ["l1", "l2", "nobody"])["esSyncResponse"] == {"l1": True, "l2": True, "nobody": False}
    assert names(serve) == {"l1": "n l1", "l2": "n l2"}
    assert all(begin <= d["_version"] <= time.time_ns() // 1000 for d in elastic.indices["location"].values())
    assert serve.metrics()["documents_indexed_total"] == 2


@pytest.mark.parametrize("fault", [peer_http.Reply(503), peer_http.Reply(429), peer_http.Reply(fault="close")])
def test_what_may_have_been_written_is_read_again(serve, cassandra, elastic, mapping, fault):  # noqa: F811
    """Fails when a body is sent again: the row has changed meanwhile."""
    locations(cassandra, "l1")
    bodies = []

    def hook(step, n, request):
        if step != "_bulk":
            return None
        bodies.append(request.body)
        if n == 1:
            locations(cassandra, "l1", name="newer")
            return fault
        return None
    on_step(elastic, hook)
    start(serve, mapping("read_time"))
    assert serve.sync("location", ["l1"])["esSyncResponse"] == {"l1": True}
    assert names(serve) == {"l1": "newer l1"}
    assert len(bodies) == 2 and bodies[0] != bodies[1]
    assert serve.metrics()["documents_indexed_total"] == 1, "counted once"


def test_created_under_another_term(serve, cassandra, elastic, mapping):  # noqa: F811
    """Fails without the check: a document whose row and version are gone would come back."""
    locations(cassandra, "l1", "l2")

    def hook(step, n, request):
        if step == "_bulk" and n == 1:
            cassandra.tables["sunbird", "location"].delete(id="l1")
            elastic.terms["location"] += 1
        return None
    on_step(elastic, hook)
    start(serve, mapping("read_time"))
    assert serve.sync("location", ["l1", "l2"])["esSyncResponse"] == {"l1": False, "l2": True}
    assert set(names(serve)) == {"l2"}


def test_foreign_version(serve, cassandra, elastic, mapping):  # noqa: F811
    locations(cassandra, "l1")
    with elastic.lock:
        elastic.write("location", "index", {"_id": "l1", "version": time.time_ns() // 1000 + HOUR_US, "version_type": "external"}, {"name": "x"})
    start(serve, mapping("read_time"))
    assert serve.sync("location", ["l1"])["esSyncResponse"] == {"l1": False}
    assert names(serve) == {"l1": "x"}
    assert serve.metrics()["documents_failed_total"] == 1


def test_a_conflict_is_read_once_more(serve, cassandra, elastic, mapping):  # noqa: F811
    locations(cassandra, "l1")

    def other(step, n, request):
        if step == "_bulk" and n <= 2:
            elastic.write("location", "index", {"_id": "l1", "version": time.time_ns() // 1000, "version_type": "external"}, {"name": "later"})
        return None
    on_step(elastic, other)
    start(serve, mapping("read_time"))
    assert serve.sync("location", ["l1"])["esSyncResponse"] == {"l1": True}
    metrics = serve.metrics()
    assert (metrics["documents_stale_total"], metrics["documents_indexed_total"]) == (1, 0)
    assert serve.sync("location", ["l1"])["esSyncResponse"] == {"l1": True}
    assert names(serve) == {"l1": "n l1"}


def test_none_writes_as_it_comes(serve, cassandra, elastic, mapping):  # noqa: F811
    locations(cassandra, "l1")
    start(serve, mapping("none"))
    for _ in range(2):
        assert serve.sync("location", ["l1"])["esSyncResponse"] == {"l1": True}
    assert elastic.indices["location"]["l1"]["_version"] == 2


def test_preserve_needs_a_look(serve, mapping):  # noqa: F811
    path = mapping("read_time")
    path.write_text(path.read_text() + "preserve: [own]\n")
    assert "preserve needs versioning: sequence" in serve.fails(mappings=(path,), code=2)


# ---- the mode of an index is remembered

WAS = "index location was written under versioning read_time, this run would use sequence"


def test_an_index_of_another_mode_is_refused_at_the_start(serve, cassandra, program, mapping):  # noqa: F811
    locations(cassandra, "l1")
    flags = ["--cassandra-hosts", cassandra.address, "--cassandra-port", cassandra.port, "--elastic-url", serve.elastic.url]
    says(program.run("sync", "--mapping", mapping("read_time"), *flags), code=0)
    text = serve.fails(mappings=(mapping("sequence"),), code=2)
    assert WAS in text and "--change-versioning" in text, text
    serve.start("--change-versioning", mappings=(mapping("sequence"),))
    assert serve.sync("location", ["l1"])["esSyncResponse"] == {"l1": True}
    serve.stop()
    start(serve, mapping("sequence"))
    serve.stop()
    said = program.run("sync", "--mapping", mapping("read_time"), "--fresh", *flags)
    says(said, "index location was written under versioning sequence", code=2)


def test_what_the_index_was_made_for(serve, elastic, mapping):  # noqa: F811
    elastic.meta["location"]["mappings"]["_meta"] = {"cass2es": {"versioning": "read_time"}}
    text = serve.fails(mappings=(mapping("sequence"),), code=2)
    assert "index location was made for versioning read_time" in text, text
    start(serve, mapping("read_time"))


def test_a_reload_to_another_mode_is_refused(serve, cassandra, elastic, mapping):  # noqa: F811
    """The old mapping stays at work, and its mode the index's."""
    locations(cassandra, "l1")
    path = mapping("read_time")
    start(serve, path)
    mapping("sequence")
    serve.server.signal(signal.SIGHUP)
    serve.server.expect("event=reload_failed")
    assert WAS in serve.server.err()
    assert serve.sync("location", ["l1"])["esSyncResponse"] == {"l1": True}
    assert elastic.indices["location"]["l1"]["_version"] > HOUR_US, "a time, not a count"
    mapping("read_time")
    serve.server.signal(signal.SIGHUP)
    serve.until(lambda: serve.metrics()["reloads_total"] == 1)


def test_a_whole_table_of_an_index_made_anew_for_another_mode(serve, elastic, cassandra, mapping, program):  # noqa: F811
    """The server looked at its start; the index is another one when the table is asked for."""
    batches(cassandra, ("c1", "b1"))
    path = program.file("b.yaml", 'object: batch\nsource: {keyspace: sunbird_courses, table: course_batch}\n'
                        'target: {index: course-batch, id: "{batchid}"}\nversioning: sequence\n')
    serve.start("--whole-table", "allow", mappings=(path,))
    elastic.meta["course-batch"]["settings"]["uuid"] = "another"
    elastic.meta["course-batch"]["mappings"]["_meta"] = {"cass2es": {"versioning": "read_time"}}
    name = serve.call("batch", []).headers["X-Cass2es-Run"]
    serve.until(lambda: serve.http("GET", PATHS[0] + "/runs/" + name).result["state"] == "done")
    summary = serve.http("GET", PATHS[0] + "/runs/" + name).result["summary"]
    assert summary["exit_code"] == 2 and "was made for versioning read_time" in summary["error"], summary
    assert serve.docs("batch") == {}
