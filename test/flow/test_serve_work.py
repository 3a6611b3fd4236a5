"""serve: what was accepted is done, whatever happens: kills, servers away, overload, stops; and what it says of itself."""
import json
import random
import re
import resource
import socket
import threading
import time

import pytest
from peer_cql import OVERLOADED, error
from peer_http import Reply
from program import BIN
from serving import PATHS, Serve, batches, cassandra, elastic, location, locations, on_step, request_of, serve  # noqa: F401

IDS = ["id-%03d" % n for n in range(300)]


def hold(elastic, event):  # noqa: F811
    """No _bulk is done before the event."""
    on_step(elastic, lambda step, n, request: event.wait(60) and None if step == "_bulk" else None)


def post_until_it_dies(serve, seed, accepted):  # noqa: F811
    """Calls with ids of its own choice; `accepted` gets those that were answered 200."""
    dice = random.Random(seed)
    try:
        while True:
            ids = dice.sample(IDS, dice.randint(1, 8))
            if serve.call("location", ids).status == 200:
                accepted.extend(ids)
    except OSError:
        pass
    except Exception as e:  # an answer cut off by the kill
        if "Disconnected" not in type(e).__name__ and "Incomplete" not in type(e).__name__ and "BadStatus" not in type(e).__name__:
            raise


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_killed_at_a_random_moment(serve, cassandra, elastic, seed):  # noqa: F811
    """Every id of a call that was answered is indexed in the end, whether Elasticsearch was there or not."""
    seed = seed * 1000003 + int(time.time()) % 1000
    print("seed", seed)
    dice, accepted = random.Random(seed), []
    locations(cassandra, *IDS)
    for n in range(5):
        serve.start()
        if dice.random() < 0.4:
            elastic.stop()
        callers = [threading.Thread(target=post_until_it_dies, args=(serve, seed + 10 * n + k, accepted)) for k in range(3)]
        for c in callers:
            c.start()
        time.sleep(dice.uniform(0.02, 0.15))
        if n == 4:
            serve.until(lambda: accepted)
        serve.kill()
        for c in callers:
            c.join()
        if not elastic.listener:
            elastic.start()
    assert accepted, "no call was answered: nothing was tried"
    serve.start().idle()
    lost = set(accepted) - set(serve.docs("location"))
    assert not lost, "accepted, and lost: %s" % sorted(lost)
    serve.stop(code=0)


def test_killed_right_after_the_answer(serve, cassandra, elastic):  # noqa: F811
    locations(cassandra, *IDS)
    never = threading.Event()
    hold(elastic, never)
    for n in range(10):
        serve.start()
        assert serve.call("location", IDS[n * 10:n * 10 + 10]).status == 200
        serve.kill()
    never.set()
    serve.start()
    assert serve.idle()["ids_found_total"] == 100
    assert serve.docs("location") == {i: location(i) for i in IDS[:100]}
    result = serve.stop(code=0)
    assert re.search(r"calls +10\b", result.out) and re.search(r"ids +100\b", result.out), result


def test_left_over_calls_of_a_type_that_is_no_longer_served(serve, cassandra, elastic, program):  # noqa: F811
    locations(cassandra, "a")
    serve.start()
    elastic.stop()
    serve.call("location", ["a"])
    serve.call("batch", ["c"])
    serve.kill()
    elastic.start()
    serve.start(mappings=["sunbird/batch"])
    assert serve.idle()["ids_refused_total"] == 1
    serve.stop()
    listed = program.run("failures", "list")
    assert "no mapping for object type location" in listed.out, listed


def test_elasticsearch_goes_and_comes(serve, cassandra, elastic):  # noqa: F811
    locations(cassandra, "a", "b")
    serve.start()
    assert serve.ready().status == 200
    elastic.stop()
    assert serve.call("location", ["a"]).status == 200
    time.sleep(0.2)
    assert serve.http("GET", "/health/live").status == 200
    answer = serve.ready()
    assert answer.status == 503 and "Elasticsearch" in answer.json["reason"]
    assert serve.docs("location") == {}
    elastic.start()
    serve.idle()
    assert serve.ready().status == 200
    assert serve.docs("location") == {"a": location("a")}
    assert serve.sync("location", ["b"])["esSyncResponse"] == {"b": True}


def test_cassandra_goes_and_comes(serve, cassandra, elastic):  # noqa: F811
    locations(cassandra, "a", "b")
    serve.start()
    cassandra.nodes[0].down()
    assert serve.call("location", ["a"]).status == 200
    time.sleep(0.2)
    assert serve.docs("location") == {}
    cassandra.nodes[0].up()
    serve.idle()
    assert serve.docs("location") == {"a": location("a")}
    assert serve.sync("location", ["b"])["esSyncResponse"] == {"b": True}


def test_not_ready_while_a_server_is_away_for_long(serve, cassandra, elastic):  # noqa: F811
    """/health/ready says who is missed, the metrics that somebody waits; both end with its return."""
    locations(cassandra, "a")
    serve.start("--retry-budget", "200ms")
    elastic.stop()
    serve.call("location", ["a"])
    serve.until(lambda: "127.0.0.1:%d" % elastic.port in serve.ready().json.get("reason", ""))
    answer = serve.ready()
    assert answer.status == 503 and answer.headers["Retry-After"] and not answer.json["healthy"]
    m = serve.metrics()
    assert (m["workers_in_trouble"], m["queue_ids"], m["queue_calls"]) == (1, 1, 1) and m["work_waits_total"] >= 1
    assert serve.http("GET", "/health/live").status == 200
    elastic.start()
    m = serve.idle()
    serve.until(lambda: serve.ready().status == 200)
    assert (m["documents_indexed_total"], m["workers_in_trouble"], m["queue_calls"]) == (1, 0, 0)


@pytest.mark.parametrize("reply", [Reply(503, headers={"Retry-After": "0"}), Reply(429, {"error": "busy"}), Reply(fault="reset"),
                                   Reply(200, {"took": 1, "items": []}), Reply(200, b"<html>", content_type="text/html"),
                                   Reply(200, b"{}", cut=1)],
                         ids=["503", "429", "reset", "items_missing", "html", "cut_off"])
def test_answers_to_bulk_that_say_nothing(serve, cassandra, elastic, reply):  # noqa: F811
    """They are no success: the row is read and sent again."""
    locations(cassandra, "a", "b")
    count = on_step(elastic, lambda step, n, request: reply if step == "_bulk" and n <= 2 else None)
    serve.start()
    assert serve.sync("location", ["a", "b"])["esSyncResponse"] == {"a": True, "b": True}
    assert count == {"_mget": 3, "_bulk": 3}
    assert serve.docs("location") == {i: location(i) for i in "ab"}


def test_overloaded_cassandra(serve, cassandra):  # noqa: F811
    locations(cassandra, "a")
    cassandra.on("EXECUTE", "location", do=error(OVERLOADED), times=2)
    serve.start()
    assert serve.sync("location", ["a"])["esSyncResponse"] == {"a": True}


def test_overload(serve, cassandra, elastic):  # noqa: F811
    """The queue is bounded: 429 with Retry-After, and what was taken before is done, what was refused is not."""
    locations(cassandra, *IDS)
    go = threading.Event()
    hold(elastic, go)
    serve.start("--serve-queue-ids", 20, "--serve-threads", 1)
    assert serve.call("location", IDS[:21]).status == 413, "more than there will ever be room for"
    assert [serve.call("location", IDS[n:n + 6]).status for n in (0, 6, 12)] == [200, 200, 200]
    for _ in range(20):
        answer = serve.call("location", IDS[100:103])
        assert answer.status == 429 and int(answer.headers["Retry-After"]) > 0, answer
        assert answer.json["params"]["err"] == "TOO_MANY_REQUESTS" and answer.json["responseCode"] == "CLIENT_ERROR"
    assert serve.call("location", IDS[18:20]).status == 200, "what fits is taken"
    m = serve.metrics()
    assert (m["queue_ids"], m["queue_calls"], m["calls_full_total"], m["calls_taken_total"]) == (20, 4, 20, 4)
    go.set()
    serve.idle()
    assert serve.docs("location") == {i: location(i) for i in IDS[:20]}
    assert serve.call("location", IDS[100:103]).status == 200


def test_the_size_of_a_body(serve, cassandra):  # noqa: F811
    serve.start("--serve-max-body", "4KiB")
    small, large = json.dumps(request_of("location", ["x" * 3000])), json.dumps(request_of("location", ["x" * 100000]))
    head = {"Content-Type": "application/json"}
    assert serve.http("POST", PATHS[0], small, head).status == 200
    answer = serve.http("POST", PATHS[0], large, head)
    assert (answer.status, answer.json["params"]["err"]) == (413, "REQUEST_TOO_LARGE")
    pieces = (large[i:i + 1000].encode() for i in range(0, len(large), 1000))
    assert serve.http("POST", PATHS[0], pieces, head).status == 413
    assert serve.metrics()["calls_taken_total"] == 1


def slow_client(serve, go, got):  # noqa: F811
    """Has sent most of its call when it waits for `go`."""
    body = json.dumps(request_of("location", ["a"])).encode()
    data = b"POST /v1/data/sync HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
    data += b"Content-Length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", serve.port), timeout=60) as s:
        half = len(data) // 2
        for i in range(half):
            s.sendall(data[i:i + 1])
        go.wait(60)
        s.sendall(data[half:])
        answer = b""
        while piece := s.recv(65536):
            answer += piece
    got.append(answer.split(b"\r\n")[0])


def test_slow_clients_hold_up_nobody(serve, cassandra):  # noqa: F811
    locations(cassandra, "a", "b")
    serve.start()
    got = []
    go = threading.Event()
    clients = [threading.Thread(target=slow_client, args=(serve, go, got)) for _ in range(30)]
    for c in clients:
        c.start()
    serve.until(lambda: serve.metrics()["connections"] > 30)
    assert serve.sync("location", ["b"])["esSyncResponse"] == {"b": True}
    assert not got
    go.set()
    for c in clients:
        c.join()
    assert got == [b"HTTP/1.1 200 OK"] * 30


def test_callers_that_wait_hold_up_nobody(serve, cassandra, elastic):  # noqa: F811
    """Ten wait for their work; others are answered meanwhile."""
    locations(cassandra, *IDS)
    go = threading.Event()
    hold(elastic, go)
    serve.start("--serve-threads", 2)
    results = []
    callers = [threading.Thread(target=lambda n=n: results.append(serve.sync("location", [IDS[n]]))) for n in range(10)]
    for c in callers:
        c.start()
    serve.until(lambda: serve.http("GET", "/metrics").status == 200 and serve.metrics()["queue_calls"] == 10)
    assert serve.call("location", [IDS[20]]).result == {"response": "SUCCESS"}
    assert serve.http("GET", "/health/live").status == 200
    assert not results
    go.set()
    for c in callers:
        c.join()
    assert all(set(r["esSyncResponse"].values()) == {True} for r in results) and len(results) == 10


def test_clients_that_go_away(serve, cassandra):  # noqa: F811
    """In the middle of a request, or without waiting for the answer: whoever waits else is served."""
    locations(cassandra, "a")
    serve.start()
    body = json.dumps(request_of("location", ["a"], operationType="sync")).encode()
    data = b"POST /v1/data/sync HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for cut in (0, 1, 30, 100, len(data) - 1, len(data)):
        with socket.create_connection(("127.0.0.1", serve.port)) as s:
            s.sendall(data[:cut])
    assert serve.sync("location", ["a"])["esSyncResponse"] == {"a": True}
    serve.stop(code=0)


def test_many_connections(serve, cassandra, elastic):  # noqa: F811
    locations(cassandra, *IDS)
    serve.start()
    answers = []

    def caller(k):
        c = [serve.call("location", [i]).status for i in IDS[k::60]]
        answers.extend(c)
    idle = [socket.create_connection(("127.0.0.1", serve.port)) for _ in range(100)]
    callers = [threading.Thread(target=caller, args=(k,)) for k in range(60)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    for s in idle:
        s.close()
    assert answers == [200] * len(IDS)
    assert serve.idle()["ids_taken_total"] == len(IDS)
    assert serve.docs("location") == {i: location(i) for i in IDS}


def test_a_stop_finishes_what_is_in_flight(serve, cassandra, elastic):  # noqa: F811
    locations(cassandra, "a")
    go = threading.Event()
    count = on_step(elastic, lambda step, n, request: go.wait(60) and None if step == "_bulk" else None)
    serve.start()
    got = []
    caller = threading.Thread(target=lambda: got.append(serve.call("location", ["a"], operationType="sync")))
    caller.start()
    serve.until(lambda: count.get("_bulk"))
    serve.server.signal(15)
    time.sleep(0.1)
    go.set()
    caller.join()
    result = serve.server.wait(60)
    assert result.code == 0, result
    assert serve.docs("location") == {"a": location("a")}
    assert got[0].status == 200 and got[0].result["esSyncResponse"] == {"a": True}
    assert re.search(r"waiting +0\b", result.out), result


def test_a_stop_leaves_the_rest_in_the_journal(serve, cassandra, elastic):  # noqa: F811
    locations(cassandra, *IDS)
    serve.start("--grace", "100ms")
    elastic.stop()
    for n in range(0, 50, 5):
        assert serve.call("location", IDS[n:n + 5]).status == 200
    result = serve.stop(code=130)
    assert re.search(r"waiting +50\b", result.out) and "the next start goes on" in result.out, result
    elastic.start()
    serve.start()
    serve.idle()
    assert serve.docs("location") == {i: location(i) for i in IDS[:50]}
    result = serve.stop(code=0)
    assert re.search(r"waiting +0\b", result.out) and re.search(r"ids +50\b", result.out) and re.search(r"indexed +50\b", result.out)


def test_a_new_run_after_a_clean_end(serve, cassandra):  # noqa: F811
    locations(cassandra, "a")
    serve.start("--json")
    serve.sync("location", ["a", "nobody", {"nope": "x"}])
    first = json.loads(serve.stop().out)
    assert {k: first[k] for k in ("calls", "ids", "found", "missing", "bad", "duplicate", "documents", "indexed", "waiting")} == {
        "calls": 1, "ids": 3, "found": 1, "missing": 1, "bad": 1, "duplicate": 0, "documents": 1, "indexed": 1, "waiting": 0}
    serve.start("--json")
    second = json.loads(serve.stop().out)
    assert second["run"] != first["run"] and second["ids"] == 0


def test_stopped_twice(serve, cassandra, elastic):  # noqa: F811
    """The second time it does not wait for an answer."""
    locations(cassandra, "a")
    hold(elastic, threading.Event())
    serve.start()
    serve.call("location", ["a"])
    serve.until(lambda: any(c.path.endswith("_bulk") for c in elastic.calls))
    serve.server.signal(15)
    serve.server.expect("once more stops now")
    serve.server.signal(15)
    begin = time.monotonic()
    assert serve.server.wait().code == 130
    assert time.monotonic() - begin < 14  # not the 15 s of --grace


def test_a_journal_that_takes_nothing(serve, cassandra, elastic):  # noqa: F811
    """503 with Retry-After, and nothing was accepted; as soon as there is room it goes on."""
    locations(cassandra, "a", "b")
    serve.start("--retry-budget", "200ms")
    old = resource.prlimit(serve.server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(serve.server.pid, resource.RLIMIT_FSIZE, (1, old[1]))
    answer = serve.call("location", ["a"])
    assert answer.status == 503 and answer.json["params"]["err"] == "SERVICE_UNAVAILABLE" and answer.headers["Retry-After"], answer
    m = serve.metrics()
    assert (m["calls_taken_total"], m["calls_not_kept_total"], m["queue_ids"]) == (0, 1, 0)
    resource.prlimit(serve.server.pid, resource.RLIMIT_FSIZE, old)
    assert serve.sync("location", ["b"])["esSyncResponse"] == {"b": True}
    assert set(serve.docs("location")) == {"b"}
    serve.stop(code=0)


def test_two_servers_of_one_state_folder(serve, program, cassandra, elastic):  # noqa: F811
    serve.start()
    other = Serve(program, cassandra, elastic)
    text = other.fails(code=2)
    other.end()
    assert str(serve.server.pid) in text, text


def test_what_documents_lack_is_counted(serve, cassandra, elastic, program):  # noqa: F811
    """Values that are altered, texts that are no JSON among them, and rows of other tables that are missing."""
    mapping = program.file("place.yaml", "object: place\nsource: {keyspace: sunbird, table: places}\ntarget: {index: location}\nsteps:\n"
                           "  - parse_json: {field: extra, as: object, bad: {}}\n"
                           "  - lookup: {field: owner, table: organisation, key: {id: \"{org}\"}, take: orgname, missing: omit}\n")
    cassandra.table("sunbird", "places", "id text, size double, extra text, org text", "id", rows=[
        ("a", float("nan"), "no json", "o1"), ("b", 1.0, "{}", "o2"), ("c", 2.0, "[]", "o2")])
    cassandra.tables["sunbird", "organisation"].put([("o1", "One")])
    serve.start(mappings=("sunbird/batch", mapping))
    serve.sync("place", ["a", "b", "c"])
    m = serve.metrics()
    assert (m["documents_indexed_total"], m["values_altered_total"], m["values_bad_json_total"], m["lookups_missing_total"]) == (3, 3, 2, 2), m


def test_documents_of_one_id_are_counted(serve, cassandra, elastic, program):  # noqa: F811
    """Rows that share an _id, because it does not hold their key: by ids, and in a whole table."""
    mapping = program.file("batch.yaml", "object: batch\nsource: {keyspace: sunbird_courses, table: course_batch}\n"
                           "target: {index: course-batch, id: \"{courseid}\"}\nversioning: sequence\n")
    batches(cassandra, *[("c%d" % (n % 2), "b%d" % n) for n in range(40)])
    serve.start("--whole-table", "allow", mappings=(mapping,))
    name = serve.call("batch", []).headers["X-Cass2es-Run"]
    path = "%s/runs/%s" % (PATHS[0], name)
    serve.until(lambda: serve.http("GET", path).result["state"] == "done")
    counts = serve.http("GET", path).result["summary"]["counts"]
    assert (counts["id_collision"], counts["rows"], counts["merged"], counts["failed"]) == (38, 40, 38, 0), counts
    serve.sync("batch", ["c0", "c1"])
    m = serve.metrics()
    assert (m["id_collisions_total"], m["documents_unchanged_total"], m["documents_indexed_total"]) == (2 * 38, 2, 2), m


def test_each_call_tells_of_an_id_that_rows_share(serve, cassandra, elastic, program):  # noqa: F811
    """Once; which one is told to those who look close: ids are nobody else's business."""
    elastic.index("user-courses")
    mapping = program.file("enrolment.yaml", "object: user_course\nsource: {keyspace: sunbird_courses, table: user_enrolments}\n"
                           "target: {index: user-courses, id: \"{batchid}_{userid}\"}\nversioning: sequence\n")
    cassandra.tables["sunbird_courses", "user_enrolments"].put([(u, c, b, True) for u in ("u1", "u2") for c in ("c1", "c2", "c3") for b in ("b1", "b2")])
    serve.start("--serve-threads", 1, "--log-level", "debug", mappings=(mapping,))
    for user in ("u1", "u2"):
        serve.sync("user_course", [user])
    told = re.findall(r"level=(\w+) event=id_collision object=user_course (why|id=\S+)", serve.server.err())
    assert told == [("warn", "why"), ("debug", "id=b1_u1"), ("warn", "why"), ("debug", "id=b1_u2")], serve.server.err()


def test_metrics_tell_the_truth(serve, cassandra, elastic):  # noqa: F811
    locations(cassandra, "a", "b", "c")
    elastic.put("location", "b", location("b"))
    elastic.item_script = lambda action, meta, source: {
        "_id": meta["_id"], "status": 400, "error": {"type": "mapper_parsing_exception", "reason": "no"}} if meta["_id"] == "c" else None
    serve.start()
    result = serve.sync("location", ["a", "b", "c", "a", "nobody", {"nope": "c"}])
    assert result["esSyncResponse"] == {"a": True, "b": True, "c": False, "nobody": False, '{"nope":"c"}': False}
    serve.http("GET", "/nowhere")
    m = serve.metrics()
    want = {"calls_taken_total": 1, "calls_refused_total": 1, "calls_full_total": 0, "calls_late_total": 0, "ids_taken_total": 6,
            "ids_duplicate_total": 1, "ids_bad_total": 1, "ids_missing_total": 1, "ids_found_total": 3, "ids_refused_total": 0,
            "documents_indexed_total": 1, "documents_unchanged_total": 1, "documents_failed_total": 1, "documents_stale_total": 0,
            "documents_contended_total": 0, "queue_ids": 0, "queue_calls": 0, "workers_in_trouble": 0}
    assert {k: m[k] for k in want} == want
    text = serve.http("GET", "/metrics")
    assert text.headers["Content-Type"].startswith("text/plain")
    for name in m:
        assert re.search(rb"# HELP cass2es_%s \S.*\n# TYPE cass2es_%s (counter|gauge)\n" % (name.encode(), name.encode()), text.body), name


def test_memory_stays_flat(serve, cassandra, elastic):  # noqa: F811
    """What is resident after ten times as many calls is nearly what it was; and far below 64 MiB."""
    locations(cassandra, *IDS)
    serve.start("--serve-threads", 2)

    def load(calls):
        for n in range(calls):
            assert serve.call("location", [IDS[(n + k) % 300] for k in range(60)]).status in (200, 429)
        serve.idle()
        return serve.server.peak_kib()
    first = load(10)
    then = load(100)
    print("VmHWM KiB after 10 and 110 calls:", first, then)
    if not re.search(rb"__[at]san_init", BIN.read_bytes()):  # those keep what was freed
        assert then < 1.25 * first + 2048, (first, then)
        assert then < 64 << 10
