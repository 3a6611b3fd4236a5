"""serve: operationType sync, and `versioning: sequence` beside other writers, through HTTP."""
import json
import threading
import time

import pytest
from serving import PATHS, batch, batches, cassandra, elastic, location, locations, on_step, serve  # noqa: F811,F401

OWN = {"participantCount": 17, "completedCount": 5, "reportUpdatedOn": "2025-06-01"}


# --- operationType sync -------------------------------------------------------------------------------

def test_every_element_has_its_key(serve, cassandra):  # noqa: F811
    """The string itself, or the object's compact JSON as it was sent; true only if all its documents are safe."""
    batches(cassandra, ("c1", "b1"), ("c1", "b2"), ("c2", "b3"), ("c3", "b4"))
    locations(cassandra, "l1")
    serve.start()
    ids = ["c1", {"batchId": "b3", "courseId": "c2"}, {"courseId": ["c3", "none"]}, {"courseId": "c1", "name": "other"}, "nobody",
           {"courseId": 7}, 7, None, ["c1"], "", True, "c1"]
    assert serve.sync("batch", ids) == {"response": "SUCCESS", "esSyncResponse": {
        "c1": True, '{"batchId":"b3","courseId":"c2"}': True, '{"courseId":["c3","none"]}': True,
        '{"courseId":"c1","name":"other"}': False, "nobody": False, '{"courseId":7}': False,
        "7": False, "null": False, '["c1"]': False, "": False, "true": False}}
    assert set(serve.docs("batch")) == {"b1", "b2", "b3", "b4"}
    assert serve.sync("location", ["l1", "nobody", {"id": "l1"}, {"nope": "x"}])["esSyncResponse"] == {
        "l1": True, "nobody": False, '{"id":"l1"}': True, '{"nope":"x"}': False}


def test_users_are_answered_as_recorded(serve, cassandra):  # noqa: F811
    """A user who failed is `false` beside esSyncResponse, not in it."""
    cassandra.tables["sunbird", "user"].put([("u1", "Ann", "x", None, None)])
    serve.start()
    assert serve.sync("user", ["nobody", "u1", {"name": "x"}]) == {
        "response": "SUCCESS", "nobody": False, '{"name":"x"}': False, "esSyncResponse": {"u1": True}}


def test_a_user_whom_elasticsearch_refuses_is_in_neither(serve, cassandra, elastic):  # noqa: F811
    """As one whom it could not be asked about: only a user without a row, or whose row throws, is `false` beside."""
    cassandra.tables["sunbird", "user"].put([(u, "Ann", "x", None, None) for u in ("u1", "u2", "u3")])
    elastic.item_script = lambda action, meta, source: {
        "_id": meta["_id"], "status": 400, "error": {"type": "mapper_parsing_exception", "reason": "no"}} if meta["_id"] == "u2" else (
        {"_id": meta["_id"], "status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "no"}} if meta["_id"] == "u3" else None)
    serve.start()
    answer = serve.call("user", ["u1", "u2", "u3", "nobody"], operationType="sync")
    assert answer.result == {"response": "SUCCESS", "nobody": False, "esSyncResponse": {"u1": True}}
    run = serve.http("GET", PATHS[0] + "/runs/" + answer.headers["X-Cass2es-Run"]).result
    assert [(r["outcome"], r.get("reason")) for r in run["results"]] == [
        ("indexed", None), ("failed", "mapper_parsing_exception"), ("failed", "contended"), ("missing", "missing")]


def test_a_document_that_is_refused(serve, cassandra, elastic):  # noqa: F811
    """One of two documents of a course: the course is not synced."""
    batches(cassandra, ("c1", "b1"), ("c1", "b2"), ("c2", "b3"))
    elastic.item_script = lambda action, meta, source: {
        "_id": meta["_id"], "status": 400, "error": {"type": "mapper_parsing_exception", "reason": "no"}} if meta["_id"] == "b2" else None
    serve.start()
    assert serve.sync("batch", ["c1", "c2"])["esSyncResponse"] == {"c1": False, "c2": True}
    assert set(serve.docs("batch")) == {"b1", "b3"}


@pytest.mark.parametrize("object_type,id_", [("batch", "c1"), ("location", "l1"), ("user", "u1")])
def test_the_answer_comes_in_time_and_the_work_goes_on(serve, cassandra, elastic, object_type, id_):  # noqa: F811
    batches(cassandra, ("c1", "b1"))
    locations(cassandra, "l1")
    cassandra.tables["sunbird", "user"].put([("u1", "Ann", None, None, None)])
    go = threading.Event()
    on_step(elastic, lambda step, n, request: go.wait(60) and None if step == "_bulk" else None)
    serve.start("--sync-timeout", "250ms")
    begin = time.monotonic()
    answer = serve.call(object_type, [id_], operationType="sync")
    assert 0.24 < time.monotonic() - begin < 30
    body = answer.json
    assert answer.status == 500 and body["responseCode"] == "SERVER_ERROR" and body["result"] == {}
    assert (body["params"]["err"], body["params"]["errmsg"], body["params"]["status"]) == ("UOS_ESSYNCnull", None, "FAILED")
    assert serve.docs(object_type) == {}
    go.set()
    m = serve.idle()
    assert len(serve.docs(object_type)) == 1 and m["documents_indexed_total"] == 1 and m["calls_late_total"] == 1


def test_another_operation_type(serve, cassandra):  # noqa: F811
    """userorg-service does the work and answers 500; lms-service ignores the word."""
    locations(cassandra, "l1")
    batches(cassandra, ("c1", "b1"))
    serve.start()
    assert serve.call("location", ["l1"], operationType="async").status == 500
    assert serve.call("batch", ["c1"], operationType="async").result == {"response": "SUCCESS"}
    serve.idle()
    assert serve.docs("location") == {"l1": location("l1")} and set(serve.docs("batch")) == {"b1"}


@pytest.mark.parametrize("body", [{}, {"objectIds": None}, {"objectIds": []}, {"objectIds": "l1"}, {"objectIds": {"id": "l1"}}])
def test_another_operation_type_without_ids(serve, cassandra, body):  # noqa: F811
    """There is nothing to be done, and still nobody who answers, in userorg-service."""
    locations(cassandra, "l1")
    serve.start()

    def call(type_, **more):
        request = {"request": {"objectType": type_, **body, **more}}
        return serve.http("POST", PATHS[1], json.dumps(request), {"Content-Type": "application/json"})
    for type_ in ("location", "user"):
        answer = call(type_, operationType="other")
        assert (answer.status, answer.json["params"]["err"], answer.result) == (500, "UOS_ESSYNCnull", {})
        for done in (call(type_), call(type_, operationType=" "), call(type_, operationType="sync")):
            assert (done.status, done.result) == (200, {"response": "SUCCESS"})
    assert serve.metrics()["calls_taken_total"] == 0 and serve.docs("location") == {}


# --- other writers -------------------------------------------------------------------------------------

def at_bulk(elastic, number, change):  # noqa: F811
    """change() between our _mget and our n-th _bulk; counts the steps."""
    def hook(step, n, request):
        if step == "_bulk" and n == number:
            change()
    return on_step(elastic, hook)


def test_preserved_fields_survive(serve, cassandra, elastic):  # noqa: F811
    batches(cassandra, ("c", "b"), name="new")
    elastic.put("course-batch", "b", {"batchId": "b", "name": "old", "left": "over", **OWN})
    serve.start()
    assert serve.sync("batch", ["c"])["esSyncResponse"] == {"c": True}
    assert serve.docs("batch") == {"b": {**batch("c", "b", "new"), **OWN}}


def test_what_is_equal_is_not_written(serve, cassandra, elastic):  # noqa: F811
    batches(cassandra, ("c", "b1"), ("c", "b2"))
    elastic.put("course-batch", "b1", {**OWN, **batch("c", "b1")})
    serve.start()
    for expected in ([1, 1], [0, 2], [0, 2]):
        before = serve.metrics()
        seq_no = elastic.indices["course-batch"]["b1"]["_seq_no"]
        assert serve.sync("batch", ["c"])["esSyncResponse"] == {"c": True}
        m = serve.metrics()
        assert [m[k] - before[k] for k in ("documents_indexed_total", "documents_unchanged_total")] == expected
        assert elastic.indices["course-batch"]["b1"]["_seq_no"] == seq_no == 0


@pytest.mark.parametrize("there", [True, False])
def test_a_co_writer_between_our_read_and_our_write(serve, cassandra, elastic, there):  # noqa: F811
    """Its row is newer than what we read: its content and its own fields survive."""
    batches(cassandra, ("c", "b"), name="first")
    if there:
        elastic.put("course-batch", "b", {"batchId": "b", "name": "zero", "participantCount": 1})

    def co_writer():
        batches(cassandra, ("c", "b"), name="second")
        elastic.put("course-batch", "b", {**batch("c", "b", "second"), **OWN})
    count = at_bulk(elastic, 1, co_writer)
    serve.start()
    assert serve.sync("batch", ["c"])["esSyncResponse"] == {"c": True}
    assert serve.docs("batch") == {"b": {**batch("c", "b", "second"), **OWN}}
    assert count == {"_mget": 2, "_bulk": 1}, "looked again, and found nothing to write"


def test_a_row_deleted_before_our_create(serve, cassandra, elastic):  # noqa: F811
    """The document that we made of it is deleted again."""
    batches(cassandra, ("c", "b1"), ("c", "b2"))
    count = at_bulk(elastic, 1, lambda: cassandra.tables["sunbird_courses", "course_batch"].delete(courseid="c", batchid="b1"))
    serve.start()
    assert serve.sync("batch", ["c", {"courseId": "c", "batchId": "b1"}])["esSyncResponse"]["c"] is True
    assert serve.docs("batch") == {"b2": batch("c", "b2")}
    assert count["_bulk"] == 2


def test_a_co_writer_takes_over_what_we_created_of_a_row_that_is_gone(serve, cassandra, elastic):  # noqa: F811
    """Its document is not ours to delete."""
    batches(cassandra, ("c", "b1"))

    def hook(step, n, request):
        if step == "_bulk" and n == 1:
            cassandra.tables["sunbird_courses", "course_batch"].delete(courseid="c", batchid="b1")
        if step == "_bulk" and n == 2:
            elastic.put("course-batch", "b1", {"name": "theirs"})
    on_step(elastic, hook)
    serve.start()
    serve.sync("batch", ["c"])
    assert serve.docs("batch") == {"b1": {"name": "theirs"}}


def test_a_document_deleted_before_our_update(serve, cassandra, elastic):  # noqa: F811
    """By another process, with its row: it is not made anew."""
    batches(cassandra, ("c", "b"))
    elastic.put("course-batch", "b", {"name": "old"})

    def deleter():
        cassandra.tables["sunbird_courses", "course_batch"].delete(courseid="c", batchid="b")
        elastic.write("course-batch", "delete", {"_id": "b"}, None)
    at_bulk(elastic, 1, deleter)
    serve.start()
    assert serve.sync("batch", ["c"])["esSyncResponse"] == {"c": False}
    assert serve.docs("batch") == {}


def test_a_document_deleted_while_its_row_stays(serve, cassandra, elastic):  # noqa: F811
    batches(cassandra, ("c", "b"))
    elastic.put("course-batch", "b", {"name": "old", **OWN})
    at_bulk(elastic, 1, lambda: elastic.write("course-batch", "delete", {"_id": "b"}, None))
    serve.start()
    assert serve.sync("batch", ["c"])["esSyncResponse"] == {"c": True}
    assert serve.docs("batch") == {"b": batch("c", "b")}


def test_a_document_without_a_row_is_left_alone(serve, cassandra, elastic):  # noqa: F811
    """It is reported, not deleted."""
    elastic.put("location", "orphan", {"name": "no row"})
    serve.start()
    assert serve.sync("location", ["orphan"])["esSyncResponse"] == {"orphan": False}
    assert serve.docs("location") == {"orphan": {"name": "no row"}}


def test_contended(serve, cassandra, elastic, program):  # noqa: F811
    """After five tries more it fails, alone, by its name; the last writer's content stays."""
    batches(cassandra, ("busy", "b"), ("calm", "k"))
    elastic.put("course-batch", "b", {"n": 0})
    count = on_step(elastic, lambda step, n, request: elastic.put("course-batch", "b", {"n": n, **OWN}) and None if step == "_bulk" else None)
    serve.start()
    assert serve.sync("batch", ["busy", "calm"])["esSyncResponse"] == {"busy": False, "calm": True}
    assert count["_bulk"] == 6 and serve.docs("batch")["b"] == {"n": 6, **OWN}
    assert serve.metrics()["documents_contended_total"] == 1
    serve.stop(code=0)
    assert "contended" in program.run("failures", "list").out


def test_an_answer_that_was_lost(serve, cassandra, elastic):  # noqa: F811
    """Written, but the answer did not come: it is looked at again, and not written twice."""
    locations(cassandra, "a")
    count = {}

    def lose(request):
        step = request.path.rsplit("/", 1)[-1]
        count[step] = count.get(step, 0) + 1
        if step == "_bulk" and count[step] == 1:
            reply = elastic.usual(request)
            reply.fault = "close"
            return reply
    elastic.always = lose
    serve.start()
    assert serve.sync("location", ["a"])["esSyncResponse"] == {"a": True}
    assert count["_bulk"] == 1 and elastic.indices["location"]["a"]["_version"] == 1


def test_a_change_while_it_waits_is_indexed(serve, cassandra, elastic):  # noqa: F811
    """The row as it is when Elasticsearch is back, not as it was when the call came."""
    locations(cassandra, "a", name="old")
    serve.start()
    elastic.stop()
    serve.call("location", ["a"])
    time.sleep(0.05)
    locations(cassandra, "a", name="new")
    elastic.start()
    serve.idle()
    assert serve.docs("location") == {"a": location("a", "new")}


def test_two_calls_for_the_same_rows_at_once(serve, cassandra, elastic):  # noqa: F811
    locations(cassandra, *["i%d" % n for n in range(50)])
    serve.start()
    answers = []
    callers = [threading.Thread(target=lambda: answers.append(serve.sync("location", ["i%d" % n for n in range(50)]))) for _ in range(6)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    assert [set(a["esSyncResponse"].values()) for a in answers] == [{True}] * 6
    assert {d["_version"] for d in elastic.indices["location"].values()} == {1}, "what is equal is not written"
