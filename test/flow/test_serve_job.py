"""The job against our own Sync API: what is in Cassandra is then in Elasticsearch."""
import re
import time

import pytest
from flow import says
from serving import USER, batch, batches, cassandra, elastic, location, locations, on_step, serve, Serve  # noqa: F401

ENROLMENT = """object: user_course
source: {keyspace: sunbird_courses, table: user_enrolments}
target: {index: enrolments, id: "{batchid}_{userid}"}
"""


def job(serve, object_type, table, *flags, code=0, **more):  # noqa: F811
    """`cass2es sync` of a whole table, or of `ids`."""
    param = {"sunbird_cassandra_server": serve.ring.address, "sunbird_cassandra_port": serve.ring.port, "dry_run": "false",
             "sunbird_sync_api_endpoint": "http://127.0.0.1:%d/api/data/v1/index/sync" % serve.port, "sunbird_sync_block_size": 7,
             "sunbird_sync_sleep_time": 0, "sunbird_cassandra_table": table, "sunbird_sync_object_type": object_type, **more}
    args = [w for k, v in param.items() for w in ("--context_param", "%s=%s" % (k, v))]
    result = serve.program.run("sync", *args, "--log-dir", serve.program.logs, *flags)
    return says(result, code=code)


def number(result, word):
    found = re.search(r"^ *%s +([\d,.]+)" % word, result.out + result.err, re.M)
    return int(re.sub(r"\D", "", found[1])) if found else 0


@pytest.mark.parametrize("flags", [[], ["--await"]], ids=["accepted", "awaited"])
@pytest.mark.parametrize("object_type", ["batch", "location", "user"])
def test_a_whole_table(serve, cassandra, object_type, flags):  # noqa: F811
    batches(cassandra, *[("c%d" % (n // 3), "b%d" % n) for n in range(60)])
    locations(cassandra, *["l/ü %d" % n for n in range(50)])
    cassandra.tables["sunbird", "user"].put([("u%d" % n, "n%d" % n, "login", ["r"], None) for n in range(50)])
    serve.start()
    table = {"batch": "course_batch", "location": "location", "user": "user"}[object_type]
    result = job(serve, object_type, table, *flags)
    m = serve.idle()
    expected = {
        "batch": {"b%d" % n: batch("c%d" % (n // 3), "b%d" % n) for n in range(60)},
        "location": {"l/ü %d" % n: location("l/ü %d" % n) for n in range(50)},
        "user": {"u%d" % n: {"id": "u%d" % n, "identifier": "u%d" % n, "firstName": "n%d" % n, "roles": ["r"], "isDeleted": None}
                 for n in range(50)},
    }[object_type]
    assert serve.docs(object_type) == expected
    assert m["documents_indexed_total"] == len(expected)
    assert m["ids_taken_total"] == m["ids_found_total"] == (20 if object_type == "batch" else 50)
    assert number(result, "confirmed" if flags else "accepted") == m["ids_taken_total"], result
    assert m["calls_taken_total"] == (3 if object_type == "batch" else 8)


def test_ids_that_fail_are_told_by_an_awaited_job(serve, cassandra, program):  # noqa: F811
    for object_type, good in (("location", "l1"), ("user", "u1"), ("batch", "c1")):
        locations(cassandra, "l1")
        batches(cassandra, ("c1", "b1"))
        cassandra.tables["sunbird", "user"].put([("u1", "n", None, None, None)])
        if serve.port is None:
            serve.start()
        program.file("ids.csv", "%s\nnobody\n" % good)
        table = {"batch": "course_batch", "location": "location", "user": "user"}[object_type]
        result = job(serve, object_type, table, "--await", code=1, sunbird_sync_id_file="ids.csv")
        assert (number(result, "confirmed"), number(result, "failed")) == (1, 1), result
        assert "nobody" in program.run("failures", "show").out


def test_enrolments_by_objects(serve, cassandra, elastic, program):  # noqa: F811
    """One object with a list of users in each call; its key in the answer is found again."""
    elastic.index("enrolments")
    cassandra.tables["sunbird_courses", "user_enrolments"].put(
        [("u%d" % (n % 20), "c%d" % n, "b%d" % n, True) for n in range(60)])
    serve.start(mappings=[program.file("e.yaml", ENROLMENT)])
    result = job(serve, "user_course", "user_enrolments", "--await")
    assert number(result, "confirmed") == 20, result
    assert set(elastic.sources("enrolments")) == {"b%d_u%d" % (n, n % 20) for n in range(60)}
    assert serve.metrics()["ids_taken_total"] == 3


def test_a_full_queue_is_waited_for(serve, cassandra, elastic):  # noqa: F811
    """429 with Retry-After is no failure."""
    locations(cassandra, *["l%d" % n for n in range(21)])

    def hold(step, n, request):
        if step == "_bulk" and n == 1:
            serve.until(lambda: serve.metrics()["calls_full_total"] >= 1)
    on_step(elastic, hold)
    serve.start("--serve-queue-ids", 8, "--serve-threads", 1)
    result = job(serve, "location", "location", "--workers", 2)
    m = serve.idle()
    assert number(result, "accepted") == 21 and len(serve.docs("location")) == 21
    assert m["calls_full_total"] >= 1, "the queue was never full: nothing was tried"


def test_a_slow_server_is_asked_again_without_waiting(serve, cassandra, elastic):  # noqa: F811
    """500 UOS_ESSYNCnull: the outcome is unknown, so the block is sent once more, and accepted."""
    locations(cassandra, "l1")

    def hold(step, n, request):
        if step == "_bulk" and n == 1:
            serve.until(lambda: serve.metrics()["calls_late_total"] >= 1)
    on_step(elastic, hold)
    serve.start("--sync-timeout", "200ms")
    result = job(serve, "location", "location", "--await")
    assert (number(result, "accepted"), number(result, "failed")) == (1, 0), result
    serve.idle()
    assert serve.docs("location") == {"l1": location("l1")}
