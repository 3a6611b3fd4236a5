"""`cass2es serve` between a scripted Cassandra and a scripted Elasticsearch: crashes, outages, single failing items."""
import json
import re
import signal
import threading
import time
import urllib.error
import urllib.request

import peer_cql
import pytest
from flow import says, sunbird
from peer_cql import OVERLOADED, error
from peer_http import Elastic, Reply
from program import ROOT, wait_for_text

PROFILES = ROOT / "profiles"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Served:
    """A running server; .call() posts to it."""

    def __init__(self, program, ring, elastic, *flags):
        self.program, self.ring, self.elastic, self.flags, self.url = program, ring, elastic, flags, None

    def start(self, *more):
        self.process = self.program.start(
            "serve", "--listen", "127.0.0.1:0", "--cassandra-hosts", self.ring.address, "--cassandra-port", self.ring.port,
            "--elastic-url", self.elastic.url, "--profiles-dir", PROFILES, "--mapping", "sunbird/batch,sunbird/location", *self.flags, *more)
        text = wait_for_text(self.process, r"event=listening address=\S+")
        self.url = "http://" + re.search(r"event=listening address=\"?([^\s\"]+)", text).group(1)
        return self

    def http(self, method, path, body=None, headers=None, timeout=70):
        request = urllib.request.Request(self.url + path, body, headers or {"Content-Type": "application/json"}, method=method)
        try:
            with OPENER.open(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def call(self, kind, ids, wait=True, path="/v1/data/sync", timeout=70):
        request = {"objectType": kind, "objectIds": ids, "operationFor": "es"}
        if wait:
            request["operationType"] = "sync"
        status, text = self.http("POST", path, json.dumps({"params": {}, "request": request}).encode(), timeout=timeout)
        return status, json.loads(text)

    def sync(self, kind, ids):
        status, answer = self.call(kind, ids)
        assert status == 200, answer
        return answer["result"]["esSyncResponse"]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.program.finish(self.process)


def put_batches(ring, *rows):
    ring.tables["sunbird_courses", "course_batch"].put([dict(courseid=c, batchid=b, name=n) for c, b, n in rows])


@pytest.fixture
def elastic():
    with Elastic() as e:
        yield e.index("course-batch").index("location")


@pytest.fixture
def stores():
    ring = sunbird(peer_cql.Ring())
    ring.table("sunbird_courses", "course_batch", "courseid text, batchid text, name text, mentors list<text>, status int, "
               "start_date timestamp, cert_templates map<text, frozen<map<text, text>>>", "courseid", "batchid")
    ring.table("sunbird", "location", "id text, name text, code text, type text, parentid text", "id")
    with ring:
        yield ring


@pytest.fixture
def served(program, stores, elastic):
    s = Served(program, stores, elastic)
    yield s
    elastic.always = None
    if s.url and s.process.poll() is None:
        r = s.stop()
        assert r.code in (0, 130), r


def test_a_batch_is_indexed_with_its_other_names(served, elastic, stores):
    stores.tables["sunbird_courses", "course_batch"].put([dict(courseid="c1", batchid="b1", name="n", start_date=1700000000123)])
    assert served.start().sync("batch", ["c1"]) == {"c1": True}
    assert elastic.sources("course-batch") == {"b1": {
        "courseId": "c1", "batchId": "b1", "id": "b1", "name": "n", "mentors": [], "status": None,
        "startDate": "2023-11-14T22:13:20.123Z", "certTemplates": {}}}
    says(served.stop(), code=0)


def test_all_batches_of_a_course_and_a_map(served, elastic, stores):
    put_batches(stores, ("c1", "b1", "x"), ("c1", "b2", "y"), ("c2", "b3", "z"))
    served.start()
    assert served.sync("batch", ["c1", {"courseId": "c2", "batchId": "b3"}]) == {"c1": True, '{"courseId":"c2","batchId":"b3"}': True}
    assert sorted(elastic.sources("course-batch")) == ["b1", "b2", "b3"]


@pytest.mark.parametrize("path", ["/v1/data/sync", "/data/v1/index/sync", "/api/data/v1/index/sync"])
def test_every_route_serves_every_type(served, elastic, stores, path):
    stores.tables["sunbird", "location"].put([("l1", "India", "IN", "country", None)])
    put_batches(stores, ("c1", "b1", "x"))
    served.start()
    for kind, i in (("location", "l1"), ("batch", "c1")):
        assert served.call(kind, [i], path=path)[1]["result"]["esSyncResponse"] == {i: True}


def test_a_missing_row_is_not_true_and_deletes_nothing(served, elastic, stores):
    elastic.put("location", "gone", {"id": "gone"})
    served.start()
    status, answer = served.call("location", ["gone"])
    assert status == 200 and answer["result"].get("esSyncResponse", {}).get("gone") is not True
    assert "gone" in elastic.sources("location")


def test_an_equal_document_is_not_written(served, elastic, stores):
    put_batches(stores, ("c1", "b1", "x"))
    served.start()
    served.sync("batch", ["c1"])
    before = elastic.indices["course-batch"]["b1"]["_seq_no"]
    assert served.sync("batch", ["c1"]) == {"c1": True}
    assert elastic.indices["course-batch"]["b1"]["_seq_no"] == before


def test_fields_that_only_the_index_has_are_preserved(served, elastic, stores):
    put_batches(stores, ("c1", "b1", "new"))
    elastic.put("course-batch", "b1", {"batchId": "b1", "name": "old", "participantCount": 7, "stray": 1})
    assert served.start().sync("batch", ["c1"]) == {"c1": True}
    doc = elastic.sources("course-batch")["b1"]
    assert doc["name"] == "new" and doc["participantCount"] == 7 and "stray" not in doc


@pytest.mark.parametrize("times", [1, 3])
def test_a_co_writer_between_look_and_write_survives(served, elastic, stores, times):
    put_batches(stores, ("c1", "b1", "one"))
    elastic.put("course-batch", "b1", {"name": "zero"})
    served.start()
    seen = []

    def co_writer(req):
        if req.path.endswith("/_bulk") and len(seen) < times:
            seen.append(1)
            put_batches(stores, ("c1", "b1", "live %d" % len(seen)))
            elastic.put("course-batch", "b1", {"name": "live %d" % len(seen), "completedCount": len(seen)})
    elastic.always = co_writer
    assert served.sync("batch", ["c1"]) == {"c1": True}
    doc = elastic.sources("course-batch")["b1"]
    assert doc["name"] == "live %d" % times and doc["completedCount"] == times


def test_a_co_writer_that_never_stops_is_contended(served, elastic, stores):
    put_batches(stores, ("c1", "b1", "one"))
    served.start()
    elastic.always = lambda req: req.path.endswith("/_bulk") and elastic.put("course-batch", "b1", {"n": req.number}) and None
    status, answer = served.call("batch", ["c1"])
    assert answer.get("result", {}).get("esSyncResponse", {}).get("c1") is not True
    elastic.always = None
    r = served.stop()
    assert r.code in (0, 1), r
    says(served.program.run("failures", "show"), "contended")


def test_one_item_that_cannot_pass_fails_alone(served, elastic, stores):
    put_batches(stores, ("c1", "b1", "x"), ("c2", "b2", "y"))
    elastic.item_script = lambda action, meta, source: meta["_id"] == "b2" and {
        "_index": "course-batch", "_id": "b2", "status": 400, "error": {"type": "mapper_parsing_exception", "reason": "failed to parse field [name]"}} or None
    served.start()
    answer = served.call("batch", ["c1", "c2"])[1]["result"]["esSyncResponse"]
    assert answer["c1"] is True and answer.get("c2") is not True
    served.stop()
    says(served.program.run("failures", "show"), "mapper_parsing_exception")


def test_one_item_that_may_pass_is_tried_again(served, elastic, stores):
    put_batches(stores, ("c1", "b1", "x"), ("c2", "b2", "y"))
    count = []

    def busy(action, meta, source):
        if meta["_id"] == "b2" and len(count) < 2:
            count.append(1)
            return {"_index": "course-batch", "_id": "b2", "status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "busy"}}
    elastic.item_script = busy
    assert served.start().sync("batch", ["c1", "c2"]) == {"c1": True, "c2": True}
    assert len(count) == 2 and sorted(elastic.sources("course-batch")) == ["b1", "b2"]


@pytest.mark.parametrize("fault", [Reply(429), Reply(503), Reply(502), Reply(fault="close"), Reply(fault="reset"), Reply(200, '{"errors":fal', cut=8)],
                         ids=["429", "503", "502", "close", "reset", "cut"])
@pytest.mark.parametrize("step", ["_mget", "_bulk"])
def test_an_answer_of_elasticsearch_that_may_pass(served, elastic, stores, fault, step):
    put_batches(stores, ("c1", "b1", "x"))
    served.start()
    left = [2]

    def bad(req):
        if req.path.endswith(step) and left[0]:
            left[0] -= 1
            return fault
    elastic.always = bad
    assert served.sync("batch", ["c1"]) == {"c1": True}
    assert elastic.sources("course-batch")["b1"]["name"] == "x"


def test_a_write_whose_answer_is_lost_is_read_again_not_sent_again(served, elastic, stores):
    """The bulk came through, its answer did not, and meanwhile the row changed."""
    put_batches(stores, ("c1", "b1", "one"))
    served.start()
    done = []

    def lose(req):
        if req.path.endswith("/_bulk") and not done:
            done.append(1)
            elastic.usual(req)
            put_batches(stores, ("c1", "b1", "two"))
            return Reply(fault="close")
    elastic.always = lose
    assert served.sync("batch", ["c1"]) == {"c1": True}
    assert elastic.sources("course-batch")["b1"]["name"] == "two"


def test_cassandra_overloaded_for_a_while(served, elastic, stores):
    put_batches(stores, ("c1", "b1", "x"))
    served.start()
    stores.on("EXECUTE", "course_batch", do=error(OVERLOADED), times=3)
    assert served.sync("batch", ["c1"]) == {"c1": True}


def test_the_row_that_goes_while_its_document_is_created_takes_it_along(served, elastic, stores):
    put_batches(stores, ("c1", "b1", "x"))
    served.start()
    elastic.always = lambda req: req.path.endswith("/_bulk") and stores.tables["sunbird_courses", "course_batch"].delete(batchid="b1") and None
    served.call("batch", ["c1"])
    assert "b1" not in elastic.sources("course-batch")


# ---- asynchronous calls

def wait_until(predicate, seconds=60):
    end = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < end, "not within %d s" % seconds
        time.sleep(0.01)


def test_an_asynchronous_call_is_answered_before_the_work(served, elastic, stores):
    put_batches(stores, ("c1", "b1", "x"))
    served.start()
    go = threading.Event()
    elastic.always = lambda req: go.wait(60) and None
    status, answer = served.call("batch", ["c1"], wait=False)
    assert (status, answer["responseCode"], answer["result"]) == (200, "OK", {"response": "SUCCESS"})
    assert not elastic.sources("course-batch")
    go.set()
    wait_until(lambda: elastic.sources("course-batch"))


@pytest.mark.parametrize("calls", [1, 20])
def test_a_crash_loses_no_call_that_was_answered(served, elastic, stores, calls):
    put_batches(stores, *[("c%d" % i, "b%d" % i, "x") for i in range(calls)])
    served.start()
    go = threading.Event()
    elastic.always = lambda req: go.wait(60) and None
    for i in range(calls):
        assert served.call("batch", ["c%d" % i], wait=False)[0] == 200
    served.program.kill(served.process)
    go.set()
    time.sleep(0.05)
    elastic.indices["course-batch"].clear()
    elastic.always = None
    served.start()
    wait_until(lambda: len(elastic.sources("course-batch")) == calls)
    says(served.stop(), code=0)


def test_a_synchronous_call_times_out_as_userorg_does_and_the_work_goes_on(served, elastic, stores):
    stores.tables["sunbird", "location"].put([("l1", "India", "IN", "country", None)])
    served.start("--sync-timeout", "300ms")
    go = threading.Event()
    elastic.always = lambda req: go.wait(60) and None
    status, answer = served.call("location", ["l1"])
    assert status == 500 and answer["params"]["err"] == "UOS_ESSYNCnull" and answer["responseCode"] == "SERVER_ERROR"
    go.set()
    wait_until(lambda: elastic.sources("location"))


def test_elasticsearch_down_for_a_while_loses_nothing(served, elastic, stores):
    put_batches(stores, ("c1", "b1", "x"))
    served.start("--retry-budget", "300ms")
    elastic.stop()
    assert served.call("batch", ["c1"], wait=False)[0] == 200
    wait_until(lambda: served.http("GET", "/health/ready")[0] == 503)
    assert served.http("GET", "/health/live")[0] == 200
    elastic.start()
    wait_until(lambda: elastic.sources("course-batch"))
    wait_until(lambda: served.http("GET", "/health/ready")[0] == 200)


def test_cassandra_down_for_a_while_loses_nothing(served, elastic, stores):
    put_batches(stores, ("c1", "b1", "x"))
    served.start()
    stores.nodes[0].down()
    assert served.call("batch", ["c1"], wait=False)[0] == 200
    time.sleep(0.3)
    stores.nodes[0].up()
    wait_until(lambda: elastic.sources("course-batch"))


def test_stop_finishes_what_is_in_flight(served, elastic, stores):
    put_batches(stores, *[("c%d" % i, "b%d" % i, "x") for i in range(5)])
    served.start()
    elastic.always = lambda req: time.sleep(0.05) and None
    for i in range(5):
        served.call("batch", ["c%d" % i], wait=False)
    r = served.stop()
    assert r.code in (0, 130), r
    if r.code == 130:
        served.start()
        wait_until(lambda: len(elastic.sources("course-batch")) == 5)
    else:
        assert len(elastic.sources("course-batch")) == 5


def test_many_calls_at_once(served, elastic, stores):
    put_batches(stores, *[("c%d" % i, "b%d-%d" % (i, k), "x") for i in range(40) for k in range(3)])
    served.start()
    answers, lock = {}, threading.Lock()

    def one(i):
        got = served.sync("batch", ["c%d" % i, "c%d" % ((i + 1) % 40)])
        with lock:
            answers.update(got)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(40)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert answers == {"c%d" % i: True for i in range(40)} and len(elastic.sources("course-batch")) == 120


# ---- wrong calls

@pytest.mark.parametrize("method,path,status", [("GET", "/v1/data/sync", 404), ("POST", "/v1/data/sync/", 404), ("POST", "/nosuch", 404)])
def test_wrong_paths(served, method, path, status):
    got, text = served.start().http(method, path, b"{}" if method == "POST" else None)
    assert got == status and isinstance(json.loads(text), dict)


def test_invalid_json_is_400(served):
    status, text = served.start().http("POST", "/v1/data/sync", b'{"request":')
    assert status == 400 and isinstance(json.loads(text), dict)


@pytest.mark.parametrize("ids", [None, [], "c1", {"courseId": "c1"}, [{}]])
def test_what_would_mean_everything_means_nothing_here(served, elastic, stores, ids):
    """An empty list never touches the whole table without being asked to."""
    put_batches(stores, ("c1", "b1", "x"))
    status, answer = served.start().call("batch", ids, wait=False)
    time.sleep(0.2)
    assert status in (200, 400) and not elastic.sources("course-batch"), answer


def test_a_body_that_is_too_large(served):
    status, _ = served.start("--serve-max-body", "2KiB").http("POST", "/v1/data/sync", b" " * 10000)
    assert status == 413


def test_the_same_server_twice_names_the_pid(served, program, stores, elastic):
    served.start()
    other = program.run("serve", "--listen", "127.0.0.1:0", "--cassandra-hosts", stores.address, "--cassandra-port", stores.port,
                        "--elastic-url", elastic.url, "--profiles-dir", PROFILES, "--mapping", "sunbird/batch,sunbird/location")
    says(other, r"\b%d\b" % served.process.pid, code=2)


def test_an_index_that_is_not_there_is_said_at_the_start(program, stores):
    with Elastic() as empty:
        r = program.run("serve", "--listen", "127.0.0.1:0", "--cassandra-hosts", stores.address, "--cassandra-port", stores.port,
                        "--elastic-url", empty.url, "--profiles-dir", PROFILES, "--mapping", "sunbird/batch", "--retry-budget", "300ms")
        says(r, "course-batch")
        assert r.code == 2


def test_the_job_against_our_own_server(program, served, elastic, stores, tmp_path):
    """The whole way: ids from the table, to our Sync API, to the index."""
    from flow import Job
    put_batches(stores, *[("c%d" % i, "b%d-%d" % (i, k), "x") for i in range(30) for k in range(2)])
    served.start()

    class Endpoint:
        endpoint = served.url + "/v1/data/sync"
    says(Job(program, stores, Endpoint).run("--await", table="course_batch", type="batch", block=7), r"confirmed +30\b", code=0)
    assert len(elastic.sources("course-batch")) == 60
