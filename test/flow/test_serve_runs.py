"""serve: what became of a call, whole tables, filters without a key, keys, reloads, the end."""
import json
import os
import re
import resource
import socket
import threading
import time

import pytest
from peer_cql import OVERLOADED, READ_FAILURE, error
from serving import (PATHS, USER, Serve, batch, batches, cassandra, elastic, location, locations, on_step, request_of,  # noqa: F401
                     serve)

ENROLMENT = ("object: user_course\nsource: {table: user_enrolments}\nselect: batchid\n"
             "target: {index: user-courses, id: \"{batchid}_{userid}\"}\nversioning: sequence\n")
JSON = {"Content-Type": "application/json"}


def run_of(serve, name, path=PATHS[0]):  # noqa: F811
    answer = serve.http("GET", "%s/runs/%s" % (path, name))
    assert answer.status == 200, answer
    assert answer.json["responseCode"] == "OK" and answer.json["params"]["err"] is None
    return answer.result


def outcomes(run):
    return {r["id"] if isinstance(r["id"], str) else json.dumps(r["id"]): r["outcome"] for r in run["results"]}


def enrolments(cassandra, *rows):  # noqa: F811
    cassandra.tables["sunbird_courses", "user_enrolments"].put([(u, c, b, True) for u, c, b in rows])


# ---- runs

def test_what_became_of_a_call(serve, cassandra, elastic):  # noqa: F811
    locations(cassandra, "a", "b", "c")
    elastic.put("location", "b", location("b"))
    elastic.item_script = lambda action, meta, source: {
        "_id": meta["_id"], "status": 400, "error": {"type": "mapper_parsing_exception", "reason": "no"}} if meta["_id"] == "c" else None
    serve.start()
    answer = serve.call("location", ["a", "b", "c", "nobody", "a", {"nope": 1}, 7])
    assert answer.status == 200 and answer.result == {"response": "SUCCESS"}
    name = answer.headers["X-Cass2es-Run"]
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}-1", name)
    serve.idle()
    for path in PATHS:
        run = run_of(serve, name, path)
        assert outcomes(run) == {"a": "duplicate", "b": "unchanged", "c": "failed", "nobody": "missing", '{"nope": 1}': "bad", "7": "bad"}
        assert [r["outcome"] for r in run["results"]][0] == "indexed"
        assert (run["state"], run["objectType"], run["ids"], run["run"]) == ("done", "location", 7, name)
        assert run["counts"] == {"waiting": 0, "indexed": 1, "unchanged": 1, "stale": 0, "merged": 0, "failed": 1, "missing": 1,
                                 "kept": 0, "deleted": 0, "duplicate": 1, "bad": 2, "refused": 0}
        assert run["results"][2]["reason"] == "mapper_parsing_exception" and run["results"][3]["reason"] == "missing"
        assert run["acceptedAt"] <= run["endedAt"]
    assert serve.call("location", ["a"], operationType="sync").headers["X-Cass2es-Run"] == name[:-1] + "2"
    assert serve.call("location", []).headers["X-Cass2es-Run"] is None
    serve.stop()
    serve.start()
    assert run_of(serve, name)["counts"]["indexed"] == 1
    other = serve.call("location", ["a"]).headers["X-Cass2es-Run"]
    assert other.rsplit("-", 1)[0] != name.rsplit("-", 1)[0], "a run that ended is over"


def test_waiting_and_after_a_kill(serve, cassandra, elastic):  # noqa: F811
    locations(cassandra, "a", "b")
    serve.start()
    elastic.stop()
    names = [serve.call("location", [i]).headers["X-Cass2es-Run"] for i in ("a", "b")]
    run = run_of(serve, names[0])
    assert run["state"] == "waiting" and run["endedAt"] is None and outcomes(run) == {"a": "waiting"}
    serve.kill()
    elastic.start()
    serve.start()
    serve.idle()
    assert [outcomes(run_of(serve, n)) for n in names] == [{"a": "indexed"}, {"b": "indexed"}]
    third = serve.call("location", ["a"]).headers["X-Cass2es-Run"]
    assert third.rsplit("-", 1)[0] == names[0].rsplit("-", 1)[0] and third not in names


def test_a_call_nobody_knows(serve):  # noqa: F811
    serve.start()
    for name in ("x", "20200101-000000-0000", "20200101-000000-0000-1", "a-b-c-d", "%2e%2e"):
        answer = serve.http("GET", PATHS[0] + "/runs/" + name)
        assert answer.status == 404 and answer.json["params"]["err"] == "NOT_FOUND", answer
    assert serve.http("POST", PATHS[0] + "/runs/x", "{}", JSON).status == 404


def test_old_calls_are_forgotten(serve, cassandra):  # noqa: F811
    locations(cassandra, "a", "b")
    serve.start()
    first, second = (serve.call("location", [i], operationType="sync").headers["X-Cass2es-Run"] for i in ("a", "b"))
    serve.kill()
    serve.start("--serve-keep-ids", 1)
    serve.until(lambda: serve.http("GET", PATHS[0] + "/runs/" + first).status == 404)
    assert outcomes(run_of(serve, second)) == {"b": "indexed"}


def test_a_large_call_in_parts(serve, cassandra, elastic):  # noqa: F811
    ids = ["id-%04d" % n for n in range(2500)]
    locations(cassandra, *ids)
    serve.start("--sync-timeout", "60s")
    answer = serve.call("location", ids, operationType="sync")
    assert answer.status == 200 and answer.result["esSyncResponse"] == {i: True for i in ids}
    run = run_of(serve, answer.headers["X-Cass2es-Run"])
    assert run["counts"]["indexed"] == 2500 and [r["id"] for r in run["results"]] == ids
    m = serve.metrics()
    assert (m["calls_taken_total"], m["ids_found_total"], m["queue_calls"]) == (1, 2500, 0)


def test_a_large_body_in_little_memory(serve, cassandra, program):  # noqa: F811
    """40 MB of ids take about twice as much."""
    from program import BIN
    sanitized = re.search(rb"__[at]san_init", BIN.read_bytes())
    ids = ["%0400d" % n for n in range(19000 if sanitized else 95000)]
    serve.start("--serve-threads", 2)
    before = serve.server.peak_kib()
    body = json.dumps(request_of("location", ids))
    assert len(body) > (7_600_000 if sanitized else 38_000_000)
    answer = serve.http("POST", PATHS[0], body, JSON, timeout=60)
    assert answer.status == 200, answer
    serve.until(lambda: serve.metrics()["queue_ids"] == 0, 200)
    assert serve.metrics()["ids_missing_total"] == len(ids)
    if not sanitized:
        assert serve.server.peak_kib() - before < 125 << 10, serve.server.peak_kib()


def test_more_ids_than_the_queue_holds(serve):  # noqa: F811
    """A million tiny elements are not even made a tree of."""
    serve.start("--serve-queue-ids", 1000)
    before = serve.server.peak_kib()
    answer = serve.http("POST", PATHS[0], '{"request":{"objectType":"location","objectIds":[%s]}}' % ",".join(["1"] * 1000000), JSON)
    assert answer.status == 413 and answer.json["params"]["err"] == "REQUEST_TOO_LARGE"
    assert serve.call("location", ["x%d" % n for n in range(1001)]).status == 413
    from program import BIN
    if not re.search(rb"__[at]san_init", BIN.read_bytes()):
        assert serve.server.peak_kib() - before < 20 << 10


# ---- no ids: the whole table

NO_IDS = [[], None, [{}], ["c1", {}]]


@pytest.mark.parametrize("ids", NO_IDS, ids=str)
def test_the_whole_table_is_refused(serve, cassandra, elastic, ids):  # noqa: F811
    batches(cassandra, ("c1", "b1"))
    serve.start()
    answer = serve.call("batch", ids)
    assert answer.status == 400 and answer.json["params"]["err"] == "WHOLE_TABLE_OFF" and answer.headers["X-Cass2es-Run"] is None
    assert serve.call("location", ids).status == 200, "userorg-service does nothing"
    assert serve.docs("batch") == {} and serve.docs("location") == {}


@pytest.mark.parametrize("ids", NO_IDS, ids=str)
def test_the_whole_table(serve, cassandra, elastic, ids):  # noqa: F811
    rows = [("c%d" % (n % 7), "b%d" % n) for n in range(40)]
    batches(cassandra, *rows)
    serve.start("--whole-table", "allow")
    answer = serve.call("batch", ids)
    assert answer.status == 200 and answer.result == {"response": "SUCCESS"}
    name = answer.headers["X-Cass2es-Run"]
    serve.until(lambda: run_of(serve, name)["state"] == "done")
    run = run_of(serve, name)
    assert run["of"]["object_type"] == "batch" and run["summary"]["exit_code"] == 0
    assert run["summary"]["counts"]["indexed"] == 40 and run["summary"]["error"] is None
    assert serve.docs("batch") == {b: batch(c, b) for c, b in rows}
    m = serve.metrics()
    assert (m["whole_tables_total"], m["whole_tables_running"], m["whole_tables_failed_total"]) == (1, 0, 0)
    assert (m["documents_indexed_total"], m["documents_failed_total"]) == (40, 0)
    name = serve.call("batch", ids).headers["X-Cass2es-Run"]
    serve.until(lambda: run_of(serve, name)["state"] == "done")
    m = serve.metrics()
    assert (m["documents_indexed_total"], m["documents_unchanged_total"]) == (40, 40)
    assert serve.call("location", []).headers["X-Cass2es-Run"] is None


def test_one_whole_table_at_a_time(serve, cassandra, elastic):  # noqa: F811
    batches(cassandra, *[("c1", "b%d" % n) for n in range(5)])
    locations(cassandra, "a")
    go = threading.Event()
    count = on_step(elastic, lambda step, n, request: go.wait(60) and None if step == "_bulk" else None)
    serve.start("--whole-table", "allow")
    name = serve.call("batch", []).headers["X-Cass2es-Run"]
    serve.until(lambda: count.get("_bulk"))
    assert run_of(serve, name)["state"] == "running"
    busy = serve.call("batch", [])
    assert busy.status == 429 and busy.headers["Retry-After"] == "60" and busy.json["params"]["err"] == "WHOLE_TABLE_BUSY"
    go.set()
    serve.until(lambda: run_of(serve, name)["state"] == "done")
    again = serve.call("batch", []).headers["X-Cass2es-Run"]
    assert again != name
    serve.until(lambda: run_of(serve, again)["state"] == "done")


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_whole_table_goes_on_after_a_restart(serve, cassandra, elastic, how):  # noqa: F811
    batches(cassandra, *[("c%d" % n, "b%d" % n) for n in range(60)])
    serve.start("--whole-table", "allow")
    elastic.stop()
    name = serve.call("batch", []).headers["X-Cass2es-Run"]
    serve.until(lambda: "whole_table_waits" in serve.server.err() or "retry" in serve.server.err())
    serve.kill() if how == "kill" else serve.stop()
    elastic.start()
    serve.start("--whole-table", "allow")
    serve.until(lambda: run_of(serve, name)["state"] == "done")
    assert len(serve.docs("batch")) == 60
    m = serve.metrics()
    assert m["documents_indexed_total"] + m["documents_unchanged_total"] == 60, "those of this process"
    serve.stop()
    serve.start("--whole-table", "allow")
    assert serve.metrics()["documents_indexed_total"] == 0
    assert serve.metrics()["whole_tables_total"] == 0, "a run that ended is not begun again"


LEFT = ("object: batch\nsource: {keyspace: sunbird_courses, table: course_batch}\nselect: batchid\n"
        "target: {index: course-batch, id: \"{batchid}\"}\nversioning: sequence\n%s")


def leave_a_table(serve, cassandra, elastic, mapping):  # noqa: F811
    """Some of its rows are indexed; the server is killed."""
    batches(cassandra, *[("c%d" % n, "b%d" % n) for n in range(60)])
    on_step(elastic, lambda step, n, request: time.sleep(60) if step == "_bulk" and serve.docs("batch") else None)
    serve.start("--whole-table", "allow", mappings=(mapping,))
    name = serve.call("batch", []).headers["X-Cass2es-Run"]
    serve.until(lambda: serve.docs("batch"))
    time.sleep(0.3)  # its marks are saved
    serve.kill()
    elastic.always = None
    assert 0 < len(serve.docs("batch")) < 60
    return name


@pytest.mark.parametrize("change", ["mapping", "versioning", "consistency"])
def test_a_whole_table_that_was_begun_otherwise_begins_anew(serve, cassandra, elastic, program, change):  # noqa: F811
    mapping = program.file("m.yaml", LEFT % "")
    name = leave_a_table(serve, cassandra, elastic, mapping)
    flags = ["--whole-table", "allow"]
    if change == "mapping":
        program.file("m.yaml", LEFT % "steps:\n  - copy: {title: name}\n")
    elif change == "versioning":
        program.file("m.yaml", LEFT.replace("sequence", "none") % "")
        flags.append("--change-versioning")
    else:
        flags += ["--consistency", "quorum"]
    serve.start(*flags, mappings=(mapping,))
    anew = re.search(r"level=warn event=whole_table_begins_anew run=(\S+) left=%s" % name, serve.server.err())[1]
    serve.until(lambda: run_of(serve, anew)["state"] == "done")
    assert run_of(serve, anew)["summary"]["counts"]["rows"] == 60
    if change == "mapping":
        assert all("title" in d for d in serve.docs("batch").values()), "no document of the old mapping"
    old = run_of(serve, name)
    assert old["state"] == "done" and anew in old["summary"]["error"]
    serve.stop()
    serve.start(*flags, mappings=(mapping,))
    assert serve.metrics()["whole_tables_total"] == 0, "neither is gone on with"


def test_a_left_whole_table_needs_the_permission_still(serve, cassandra, elastic, program):  # noqa: F811
    mapping = program.file("m.yaml", LEFT % "")
    name = leave_a_table(serve, cassandra, elastic, mapping)
    there = set(serve.docs("batch"))
    serve.start(mappings=(mapping,))
    assert re.search("level=warn event=whole_table_left run=%s" % name, serve.server.err())
    assert serve.metrics()["whole_tables_total"] == 0 and run_of(serve, name)["state"] == "interrupted"
    serve.stop()
    assert set(serve.docs("batch")) == there
    serve.start("--whole-table", "allow", mappings=(mapping,))
    serve.until(lambda: run_of(serve, name)["state"] == "done")
    assert len(serve.docs("batch")) == 60


def test_a_left_whole_table_is_not_forgotten_for_a_later_one(serve, cassandra, elastic, program):  # noqa: F811
    """Its type is not served at one start, where the table of another is synced to its end."""
    elastic.index("user-courses")
    mappings = (program.file("m.yaml", LEFT % ""), program.file("uc.yaml", ENROLMENT))
    enrolments(cassandra, ("u1", "c1", "b1"))
    name = leave_a_table(serve, cassandra, elastic, mappings[0])
    serve.start("--whole-table", "allow", mappings=mappings[1:])
    later = serve.call("user_course", []).headers["X-Cass2es-Run"]
    serve.until(lambda: run_of(serve, later)["state"] == "done")
    serve.stop()
    serve.start("--whole-table", "allow", mappings=mappings)
    serve.until(lambda: run_of(serve, name)["state"] == "done")
    assert len(serve.docs("batch")) == 60 and serve.metrics()["whole_tables_total"] == 1


def test_whole_tables_that_are_left_go_on_one_after_the_other(serve, cassandra, elastic, program):  # noqa: F811
    elastic.index("user-courses")
    mappings = (program.file("m.yaml", LEFT % ""), program.file("uc.yaml", ENROLMENT))
    enrolments(cassandra, ("u1", "c1", "b1"))
    names = [leave_a_table(serve, cassandra, elastic, mappings[0])]
    serve.start("--whole-table", "allow", mappings=mappings[1:])
    elastic.stop()
    names.append(serve.call("user_course", []).headers["X-Cass2es-Run"])
    serve.until(lambda: "whole_table_waits" in serve.server.err() or "retry" in serve.server.err())
    serve.kill()
    elastic.start()
    serve.start("--whole-table", "allow", mappings=mappings)
    serve.until(lambda: all(run_of(serve, name)["state"] == "done" for name in names))
    assert re.findall(r"event=whole_table_goes_on run=(\S+)", serve.server.err()) == names, "oldest first"
    assert len(serve.docs("batch")) == 60 and set(elastic.sources("user-courses")) == {"b1_u1"}
    serve.stop()
    serve.start("--whole-table", "allow", mappings=mappings)
    assert serve.metrics()["whole_tables_total"] == 0


@pytest.mark.parametrize("lasts", [False, True])
def test_a_whole_table_without_room_on_the_disk(serve, cassandra, elastic, lasts):  # noqa: F811
    """Waited out; what lasts leaves it for the next start, and is no mistake of the caller's."""
    batches(cassandra, *[("c%d" % n, "b%d" % n) for n in range(60)])
    go = threading.Event()
    count = on_step(elastic, lambda step, n, request: go.wait(60) and None if step == "_bulk" else None)
    serve.start("--whole-table", "allow")
    name = serve.call("batch", []).headers["X-Cass2es-Run"]
    serve.until(lambda: count.get("_bulk"))
    old = resource.prlimit(serve.server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(serve.server.pid, resource.RLIMIT_FSIZE, (8192, old[1]))  # the log is a file, too
    go.set()
    serve.until(lambda: "event=whole_table_waits" in serve.server.err())
    if lasts:
        serve.until(lambda: re.search("event=whole_table_ended .*code=4", serve.server.err()))
    resource.prlimit(serve.server.pid, resource.RLIMIT_FSIZE, old)
    if lasts:
        serve.until(lambda: run_of(serve, name)["state"] == "interrupted")
        assert serve.metrics()["whole_tables_failed_total"] == 1
        serve.stop()
        serve.start("--whole-table", "allow")
    serve.until(lambda: run_of(serve, name)["state"] == "done")
    assert run_of(serve, name)["summary"]["exit_code"] == 0 and len(serve.docs("batch")) == 60


# ---- filters without the partition key

def test_a_filter_that_would_scan_is_refused(serve, cassandra, elastic):  # noqa: F811
    batches(cassandra, ("c1", "b1"))
    serve.start()
    answer = serve.call("batch", ["c1", {"courseId": "c1"}, {"batchId": "b1"}])
    assert answer.status == 400 and answer.json["params"]["err"] == "FILTER_SCAN_OFF"
    assert "objectIds[2]: has no value for courseid of the partition key" in answer.json["params"]["errmsg"]
    serve.idle()
    assert serve.docs("batch") == {}, "nothing of the call is done"


def test_a_filter_that_scans(serve, cassandra, elastic):  # noqa: F811
    batches(cassandra, ("c1", "b1"), ("c1", "b2"), ("c2", "b1"), ("c3", "b9"), name="n")
    batches(cassandra, ("c4", "b4"), name="other")
    serve.start("--filter-scan", "allow")
    answer = serve.call("batch", [{"batchId": "b2"}, {"batchId": ["b9", "none"]}, {"name": "other", "status": [1, 2]}, {"batchId": "nobody"},
                                  "c2"], operationType="sync")
    assert answer.result["esSyncResponse"] == {
        '{"batchId":"b2"}': True, '{"batchId":["b9","none"]}': True, '{"name":"other","status":[1,2]}': True,
        '{"batchId":"nobody"}': False, "c2": True}
    assert set(serve.docs("batch")) == {"b1", "b2", "b9", "b4"} and serve.docs("batch")["b4"] == batch("c4", "b4", "other")
    serve.until(lambda: serve.metrics()["filter_scan_rows_total"] == 5)
    assert serve.metrics()["filter_scans_total"] == 1
    assert outcomes(run_of(serve, answer.headers["X-Cass2es-Run"]))['{"batchId": "nobody"}'] == "missing"


def test_trouble_while_scanning(serve, cassandra, elastic):  # noqa: F811
    """What may pass is read again; a range that can't be read fails what was looked for in it, and nothing else."""
    batches(cassandra, *[("c%d" % n, "b%d" % n) for n in range(30)])
    serve.start("--filter-scan", "allow")
    cassandra.on("EXECUTE", r"token\(", do=error(OVERLOADED), times=2)
    assert serve.sync("batch", [{"batchId": "b7"}])["esSyncResponse"] == {'{"batchId":"b7"}': True}
    assert serve.docs("batch") == {"b7": batch("c7", "b7")}
    cassandra.on("EXECUTE", r"token\(", do=error(READ_FAILURE, "tombstones"), times=None)
    answer = serve.call("batch", [{"batchId": "b8"}, "c9"], operationType="sync")
    assert answer.result["esSyncResponse"] == {'{"batchId":"b8"}': False, "c9": True}
    run = run_of(serve, answer.headers["X-Cass2es-Run"])
    assert run["results"][0]["outcome"] == "failed" and run["results"][0]["reason"] == "read_failed"
    serve.stop()


def test_user_courses_by_batch(serve, cassandra, elastic, program):  # noqa: F811
    """Strings are batch ids: refused where the table may not be scanned; one scan for all of a call where it may."""
    elastic.index("user-courses")
    mapping = program.file("uc.yaml", ENROLMENT)
    rows = [("u%d" % n, "c1", "b%d" % (n % 10)) for n in range(100)]
    enrolments(cassandra, *rows)
    serve.start(mappings=[mapping])
    answer = serve.call("user_course", ["b1", "b2"])
    assert answer.status == 400 and answer.json["params"]["err"] == "FILTER_SCAN_OFF"
    assert serve.call("user_course", [{"userId": "u3"}], operationType="sync").result["esSyncResponse"] == {'{"userId":"u3"}': True}
    serve.stop()
    elastic.sources("user-courses")
    serve.start("--filter-scan", "allow", mappings=[mapping])
    result = serve.sync("user_course", ["b1", "b2", "none", {"userId": "u5"}])
    assert result["esSyncResponse"] == {"b1": True, "b2": True, "none": False, '{"userId":"u5"}': True}
    wanted = {"%s_%s" % (b, u) for u, c, b in rows if b in ("b1", "b2") or u in ("u3", "u5")}
    assert set(elastic.sources("user-courses")) == wanted
    serve.until(lambda: serve.metrics()["filter_scan_rows_total"] == 100)
    assert serve.metrics()["filter_scans_total"] == 1


def test_trouble_now_and_then_does_not_begin_a_scan_anew(serve, cassandra, elastic):  # noqa: F811
    """Pages that come are progress, though nothing in them matches."""
    batches(cassandra, *[("c%d" % n, "b%d" % n) for n in range(200)])
    asked = []

    def slow_and_bad(conn, req):
        asked.append(req)
        if len(asked) in (1, 4):
            return error(OVERLOADED)(conn, req)
        time.sleep(0.8 if len(asked) < 4 else 0)
        return False
    cassandra.on("EXECUTE", r"token\(", do=slow_and_bad, times=None)
    serve.start("--filter-scan", "allow", "--retry-budget", "1s")
    assert serve.sync("batch", [{"batchId": "nobody"}])["esSyncResponse"] == {'{"batchId":"nobody"}': False}
    assert len(asked) > 4 and "work_waits" not in serve.server.err()
    serve.until(lambda: serve.metrics()["filter_scan_rows_total"] == 200)
    assert serve.metrics()["filter_scans_total"] == 1


def test_scans_leave_threads_to_other_work(serve, cassandra, elastic):  # noqa: F811
    batches(cassandra, *[("c%d" % n, "b%d" % n) for n in range(3)])
    locations(cassandra, "a")
    go, asked = threading.Event(), threading.Event()
    cassandra.on("EXECUTE", r"token\(", do=lambda conn, req: asked.set() or not go.wait(60), times=None)
    serve.start("--filter-scan", "allow", "--serve-threads", 2)
    for n in range(3):
        assert serve.call("batch", [{"batchId": "b%d" % n}]).status == 200
    serve.until(asked.is_set)
    assert serve.sync("location", ["a"])["esSyncResponse"] == {"a": True}
    assert serve.docs("batch") == {}
    go.set()
    serve.idle()
    assert set(serve.docs("batch")) == {"b0", "b1", "b2"}
    serve.until(lambda: serve.metrics()["filter_scans_total"] == 3)


# ---- keys

def test_keys(serve, cassandra, program):  # noqa: F811
    locations(cassandra, "a")
    file = program.file("keys", "# of the gateway\nsecret-one\n\nsecret-two\n")
    serve.start("--keys-file", file)
    body = json.dumps(request_of("location", ["a"]))

    def status(key, method="POST", path=PATHS[0]):
        return serve.http(method, path, body if method == "POST" else None, {**JSON, **({"Authorization": key} if key else {})})
    for key in (None, "Bearer secret", "Bearer secret-one2", "secret-one", "Basic secret-one", "Bearer # of the gateway"):
        answer = status(key)
        assert answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer", (key, answer)
        assert answer.json["responseCode"] == "CLIENT_ERROR" and answer.json["params"]["err"] == "UNAUTHORIZED_USER"
        assert status(key, "GET", PATHS[0] + "/runs/x").status == 401
    assert status(None, path=PATHS[2]).json["params"]["status"] == "FAILED", "in the words of the path's service"
    assert status("Bearer secret-one").status == 200 and status("bearer   secret-two").status == 200
    assert serve.http("GET", "/health/live").status == serve.ready().status == serve.http("GET", "/metrics").status == 200
    program.file("keys", "secret-three\n")
    serve.until(lambda: status("Bearer secret-three").status == 200)
    assert status("Bearer secret-one").status == 401
    program.file("keys", "")
    serve.until(lambda: "keys_not_taken" in serve.server.err())
    assert status("Bearer secret-three").status == 200, "the old ones stay"
    os.unlink(file)
    time.sleep(1.2)
    assert status("Bearer secret-three").status == 200
    assert serve.server.err().count("keys_not_taken") <= 2
    log = serve.stop().err
    assert "secret" not in log


def test_a_keys_file_without_keys(serve, program):  # noqa: F811
    assert "there is no key in it" in serve.fails("--keys-file", program.file("keys", "\n# none\n"), code=2)
    assert "No such file" in serve.fails("--keys-file", "nowhere", code=2)


# ---- SIGHUP

ONE = "object: location\nsource: {table: location}\ntarget: {index: location, id: \"{id}\"}\nversioning: sequence\n%s"


def hup(serve, event):  # noqa: F811
    seen = serve.server.err().count(event)
    serve.server.signal(1)
    serve.until(lambda: serve.server.err().count(event) > seen)


def test_mappings_are_read_again(serve, cassandra, elastic, program):  # noqa: F811
    locations(cassandra, "a", "b", "c", "d")
    mapping = program.file("m.yaml", ONE % "")
    serve.start(mappings=[mapping])
    serve.sync("location", ["a"])
    assert "name" in serve.docs("location")["a"]
    program.file("m.yaml", ONE % "steps:\n  - drop: [name]\n  - copy: {what: type}\n")
    serve.sync("location", ["b"])
    assert "name" in serve.docs("location")["b"], "not before it is told"
    hup(serve, "event=reloaded")
    serve.sync("location", ["c"])
    assert "name" not in serve.docs("location")["c"] and serve.docs("location")["c"]["what"] == "block"
    program.file("m.yaml", ONE % "steps:\n  - drop: [nome]\n")
    hup(serve, "event=reload_failed")
    assert "m.yaml:6:12: drop: there is no field" in serve.server.err()
    serve.sync("location", ["d"])
    assert serve.docs("location")["d"]["what"] == "block", "the old one stays"
    m = serve.metrics()
    assert (m["reloads_total"], m["reloads_failed_total"]) == (1, 1)
    assert serve.stop().code == 0


def test_work_under_way_keeps_its_plan(serve, cassandra, elastic, program):  # noqa: F811
    locations(cassandra, "a", "b")
    mapping = program.file("m.yaml", ONE % "")
    go = threading.Event()
    count = on_step(elastic, lambda step, n, request: go.wait(60) and None if step == "_bulk" and n == 1 else None)
    serve.start(mappings=[mapping])
    serve.call("location", ["a"])
    serve.until(lambda: count.get("_bulk"))
    program.file("m.yaml", ONE % "steps:\n  - drop: [name]\n")
    hup(serve, "event=reloaded")
    serve.sync("location", ["b"])
    go.set()
    serve.idle()
    assert "name" in serve.docs("location")["a"] and "name" not in serve.docs("location")["b"]


def test_another_type_and_none(serve, cassandra, elastic, program):  # noqa: F811
    locations(cassandra, "a")
    batches(cassandra, ("c", "b"))
    mapping = program.file("m.yaml", ONE % "")
    serve.start(mappings=[mapping])
    assert serve.call("place", ["a"]).status == 400
    program.file("m.yaml", (ONE % "").replace("object: location", "object: place"))
    hup(serve, "event=reloaded")
    assert serve.sync("place", ["a"])["esSyncResponse"] == {"a": True}
    assert serve.call("location", ["a"]).status == 400


def test_a_new_column(serve, cassandra, elastic, program):  # noqa: F811
    """Columns that come are seen after a SIGHUP."""
    mapping = program.file("m.yaml", ONE % "")
    locations(cassandra, "a")
    serve.start(mappings=[mapping])
    serve.sync("location", ["a"])
    cassandra.table("sunbird", "location", "id text, name text, code text, type text, parentid text, colour text", "id")
    cassandra.tables["sunbird", "location"].put([("a", "n", "c", "block", None, "red")])
    hup(serve, "event=reloaded")
    serve.sync("location", ["a"])
    assert serve.docs("location")["a"]["colour"] == "red"


# ---- metrics

def test_metrics_have_their_form(serve):  # noqa: F811
    """Names, kinds, help: each once, in Prometheus' words; what only rises ends with _total."""
    serve.start()
    answer = serve.http("GET", "/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"
    lines = answer.body.decode().split("\n")
    assert lines.pop() == "", "the last line ends, too"
    names = []
    for help_, kind, value in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        name = help_.split()[2]
        names.append(name)
        assert re.fullmatch(r"# HELP %s [A-Z].*\." % name, help_)
        assert kind in ("# TYPE %s counter" % name, "# TYPE %s gauge" % name)
        assert name.endswith("_total") == kind.endswith("counter")
        assert re.fullmatch(r"cass2es_[a-z][a-z_]*", name) and re.fullmatch(name + r" \d+", value)
    assert len(set(names)) == len(names) >= 30


# ---- clients, health, the end

def test_slow_loris(serve):  # noqa: F811
    serve.start("--serve-client-timeout", "500ms")
    address = ("127.0.0.1", serve.port)
    begun = [b"", b"POST /v1/data/sync HTT", b"POST /v1/data/sync HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"]
    socks = [socket.create_connection(address) for _ in begun]
    start = time.monotonic()
    for s, b in zip(socks, begun):
        s.sendall(b)
    for s in socks:
        s.settimeout(60)
        while s.recv(100):
            pass
    assert 0.4 < time.monotonic() - start < 20  # not the 30 s of the default
    serve.until(lambda: serve.metrics()["connections"] == 1)
    assert serve.metrics()["connections_cut_total"] >= 3


def test_too_many_connections_wait(serve):  # noqa: F811
    serve.start("--serve-max-connections", "8", "--serve-client-timeout", "1s")
    idle = [socket.create_connection(("127.0.0.1", serve.port)) for _ in range(30)]
    time.sleep(0.2)
    deadline = time.monotonic() + 60
    while True:
        try:
            assert serve.http("GET", "/health/live", timeout=20).status == 200
            break
        except OSError:
            assert time.monotonic() < deadline, "the idle ones are cut"
    for s in idle:
        s.close()


def test_headers_too_large(serve):  # noqa: F811
    serve.start()
    assert serve.http("GET", "/health/live", headers={"X-Large": "x" * 60000}).status == 431


def test_stopping_refuses_and_finishes(serve, cassandra, elastic):  # noqa: F811
    locations(cassandra, "a", "b", "c")
    go = threading.Event()
    count = on_step(elastic, lambda step, n, request: go.wait(60) and None if step == "_bulk" else None)
    serve.start("--serve-threads", 1)
    for i in ("a", "b", "c"):
        assert serve.call("location", [i]).status == 200
    serve.until(lambda: count.get("_bulk"))
    serve.server.signal(15)
    serve.until(lambda: serve.ready().status == 503)
    answer = serve.call("location", ["a"])
    assert answer.status == 503 and answer.headers["Retry-After"] == "5" and answer.headers["X-Cass2es-Run"] is None
    assert serve.ready().json["reason"] == "stopping" and serve.http("GET", "/health/live").status == 200
    go.set()
    result = serve.server.wait(60)
    assert result.code == 0, result
    assert set(serve.docs("location")) == {"a", "b", "c"}, "all that was taken"


def test_grace_ends(serve, cassandra, elastic):  # noqa: F811
    locations(cassandra, "a")
    serve.start("--grace", "300ms")  # not the 15 s of the default
    elastic.stop()
    serve.call("location", ["a"])
    begin = time.monotonic()
    serve.stop(code=130)
    assert 0.2 < time.monotonic() - begin < 14


@pytest.mark.parametrize("what", ["ids", "ids awaited", "table", "table of a silent Cassandra"])
def test_grace_bounds_a_stop_when_a_server_is_silent(serve, cassandra, elastic, what):  # noqa: F811
    locations(cassandra, "a")
    batches(cassandra, ("c1", "b1"))
    held, asked = threading.Event(), threading.Event()
    if "Cassandra" in what:
        cassandra.on("EXECUTE", r"token\(", do=lambda conn, req: asked.set() or True, times=None)
    count = on_step(elastic, lambda step, n, request: held.wait(60) and None if step == "_bulk" else None)
    serve.start("--grace", "300ms", "--whole-table", "allow")
    if what == "ids awaited":
        caller = threading.Thread(target=lambda: serve.call("location", ["a"], operationType="sync"))
        caller.start()
    else:
        serve.call(*(("location", ["a"]) if what == "ids" else ("batch", [])))
    serve.until(lambda: count.get("_bulk") or asked.is_set())
    begin = time.monotonic()
    serve.stop(code=0 if "table" in what else 130)
    took = time.monotonic() - begin
    held.set()
    assert 0.2 < took < 14, took


def test_not_ready_without_cassandra(serve, cassandra, elastic):  # noqa: F811
    """Also when nobody asked for work."""
    serve.start()
    assert serve.ready().status == 200
    cassandra.nodes[0].down()
    serve.until(lambda: serve.ready().status == 503)
    assert "Cassandra" in serve.ready().json["reason"] and serve.ready().headers["Retry-After"]
    assert serve.http("GET", "/health/live").status == 200
    cassandra.nodes[0].up()
    serve.until(lambda: serve.ready().status == 200)


def test_only_the_state_folder_is_written(serve, cassandra, program):  # noqa: F811
    """Nothing is left elsewhere: a read-only file system will do."""
    locations(cassandra, "a")
    serve.start("--whole-table", "allow", "--filter-scan", "allow")
    serve.sync("location", ["a"])
    pid = serve.server.process.pid
    written = []
    for fd in os.listdir("/proc/%d/fd" % pid):
        if fd in "012":
            continue
        try:
            path = os.readlink("/proc/%d/fd/%s" % (pid, fd))
            flags = int(re.search(r"flags:\s+(\d+)", open("/proc/%d/fdinfo/%s" % (pid, fd)).read())[1], 8)
        except OSError:
            continue
        if path.startswith("/") and flags & 3 and not path.startswith("/dev/"):
            written.append(path)
    state = [w for w in written if "journal" in w or "/locks/" in w]
    outside = [w for w in written if w not in state]
    assert state and not outside, written
