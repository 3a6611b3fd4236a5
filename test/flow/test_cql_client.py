"""src/cql alone against scripted peers, driven through `cqlrun`: connections, time-outs, the control connection."""
import threading
import time

import pytest

from cqlrun import CqlRun, refused
from flow import goes_elsewhere, one_of, until
from peer_cql import OVERLOADED, call, delay, error, hang, late, page

COUNT = 40
ALL = "SELECT id, n FROM shop.users"
ONE = "SELECT n FROM shop.numbers WHERE id = ?"


def fill(ring, count=COUNT):
    ring.table("shop", "users", "id text, n int", "id", rows=[("id%04d" % i, i) for i in range(count)])
    ring.table("shop", "numbers", "id int, n int", "id", rows=[(i, i) for i in range(2000)])
    return ring


def run(ring, *flags):
    return CqlRun(ring.address, ring.port, *["-H", ring.address] * 8, *flags)  # opened in spite of a short -r


def count(r, *before):
    return sum(p["rows"] for p in r.pages(*before, ".quiet on", ALL))


# ---- requests in flight

@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("lz4", [[], ["-z"]], ids=["plain", "lz4"])
def test_more_requests_than_stream_ids(make_ring, version, lz4):
    with fill(make_ring(versions=(4, version))) as ring, run(ring, *lz4) as r:
        assert r.ok(f".many 2000 {ONE}") == [{"answers": 2000, "rows": 2000}]
        streams = [q.stream for q in ring.seen("EXECUTE")]
        assert len(streams) == 2000 and max(streams) < 1024 and len({q.conn for q in ring.seen("EXECUTE")}) == 1


def test_a_late_answer_is_dropped_and_its_stream_id_kept_back(make_ring):
    with fill(make_ring()) as ring, run(ring, "-r", "2000") as r:
        assert count(r) == COUNT
        go = threading.Event()
        ring.on("EXECUTE", "users", do=late(go), times=1)
        e = r.error(".quiet on", ALL)
        assert e["error"] == "retry" and "timed out after 2000 ms" in e["text"]
        held = ring.seen("EXECUTE", "users")[-1]
        assert r.ok(f".many 50 {ONE}") == [{"answers": 50, "rows": 50}]
        assert held.stream not in {q.stream for q in ring.seen("EXECUTE", "numbers")}, "not used while its answer may come"
        go.set()
        time.sleep(0.2)
        assert r.ok(f".many 50 {ONE}") == [{"answers": 50, "rows": 50}]
        assert {q.conn for q in ring.seen("EXECUTE")} == {held.conn}, "the connection was kept"


def test_a_connection_that_stays_silent_is_given_up(make_ring):
    with fill(make_ring()) as ring, run(ring, "-r", "1500") as r:
        assert count(r) == COUNT
        rule = ring.on("EXECUTE", "users", do=hang(), times=2)
        for _ in range(2):
            assert r.error(".quiet on", ALL)["error"] == "retry"
        assert rule.hits == 2
        assert count(r) == COUNT
        conns = [q.conn for q in ring.seen("EXECUTE", "users")]
        assert conns[-1] != conns[0] == conns[1] == conns[2]


def test_too_many_abandoned_requests_end_the_connection(make_ring):
    with fill(make_ring()) as ring, run(ring, "-r", "2000") as r:
        assert count(r) == COUNT
        ring.on("EXECUTE", "numbers", do=hang(), times=None, where=lambda q: int.from_bytes(q.values[0], "big") >= 100)
        e = r.error(f".many 700 {ONE}")
        assert e["error"] == "retry"
        assert count(r) == COUNT


def test_a_connection_closed_while_idle_is_not_an_error(make_ring):
    with fill(make_ring()) as ring, run(ring) as r:
        assert count(r) == COUNT
        for conn in list(ring.nodes[0].conns):
            conn.drop()
        time.sleep(0.1)
        assert count(r) == COUNT


def test_pages_are_asked_for_ahead(make_ring):
    with fill(make_ring(page_rows=10)) as ring, run(ring) as r:
        r.pages(".rows 10", ".pages 1", ALL)
        ring.wait_for(lambda seen: len([q for q in seen if q.op == "EXECUTE"]) == 2)
        before = len(ring.seen("EXECUTE"))
        r.pages(".prefetch off", ".pages 1", ALL)
        time.sleep(0.1)
        assert len(ring.seen("EXECUTE")) == before + 1


def test_after_an_error_the_next_page_goes_on(make_ring):
    """cqlrun stops at an error; the state of the page before goes on."""
    with fill(make_ring(page_rows=10)) as ring, run(ring) as r:
        ring.on("EXECUTE", do=error(OVERLOADED, "too busy"), times=1, skip=2)
        out = r.lines(".quiet on", ALL)
        assert [p.get("rows") for p in out] == [10, 10, None] and "too busy" in out[-1]["text"]
        rest = r.pages(f".state {out[1]['state']}", ALL)
        assert sum(p["rows"] for p in rest) == COUNT - 20


def test_the_time_of_reading_is_before_the_request(make_ring):
    with fill(make_ring(page_rows=10)) as ring, run(ring) as r:
        ring.on("EXECUTE", do=[delay(0.2)], times=1)
        begin = time.time()
        pages = r.pages(".quiet on", ALL)
        times = [p["read_at_us"] for p in pages]
        asked = ring.seen("EXECUTE")[0].time + time.time() - time.monotonic()
        assert times == sorted(set(times)) and begin * 1e6 - 1000 <= times[0] <= (asked + 0.001) * 1e6


def test_every_attempt_has_a_time_of_its_own_before_its_bytes(make_ring):
    """Pages asked for ahead, and a page that only the second node gives."""
    ring = fill(make_ring(nodes=2, page_rows=10))
    ring.keyspace("shop", rf=2)
    with ring, run(ring) as r:
        ring.on("EXECUTE", "users", do=[call(lambda q: time.sleep(0.3)), error(OVERLOADED)], times=1, skip=1)
        wall = time.time() - time.monotonic()
        pages = r.pages(".quiet on", ALL)
        asked = [q.time + wall for q in ring.seen("EXECUTE", "users")]
        assert len(asked) == len(pages) + 1
        first, refused, *others = asked
        times = [p["read_at_us"] / 1e6 for p in pages]
        assert all(t <= a + 0.001 for t, a in zip(times, [first, *others]))
        assert times[1] >= refused + 0.29, "that of the attempt which was answered"


def test_an_empty_page_is_not_the_end(make_ring):
    with fill(make_ring(page_rows=10)) as ring, run(ring) as r:
        ring.on("EXECUTE", do=page(0), times=2)
        assert count(r) == COUNT


# ---- the control connection

def nodes(r):
    return int(r.ok(".describe")[0].rsplit(", ", 1)[1].split()[0])


def registered(ring):
    return [q for q in ring.seen("REGISTER")]


def test_a_short_run_has_one_connection_and_three_round_trips(make_ring):
    def short():
        with fill(make_ring(latency=0.1)) as ring:
            with run(ring) as r:
                r.ok(".schema shop users", ALL)
            conns, trips = ring.nodes[0].accepted, ring.seen("EXECUTE")[0].trip - ring.logged_in_trip
        return None if conns == 1 and trips <= 4 else (conns, trips)
    one_of(5, short)


def test_the_control_connection_is_the_only_one_that_registers(make_ring):
    with fill(make_ring()) as ring, run(ring) as r:
        assert count(r) == COUNT
        ring.wait_for(lambda seen: any(q.op == "REGISTER" for q in seen))
        (register,) = registered(ring)
        assert set(register.events) == {"TOPOLOGY_CHANGE", "STATUS_CHANGE", "SCHEMA_CHANGE"}
        assert register.conn not in {q.conn for q in ring.seen("EXECUTE")}


def test_a_new_node_is_learned_from_an_event(make_ring):
    ring = fill(make_ring(nodes=3))
    third = ring.nodes.pop()
    with ring, run(ring) as r:
        assert nodes(r) == 2
        ring.wait_for(lambda seen: any(q.op == "REGISTER" for q in seen))
        until(lambda: len(ring.seen("QUERY", "system.local")) >= 2)
        ring.nodes.append(third)
        third.up()
        for _ in range(5):  # a storm of events is one reading
            ring.push("TOPOLOGY_CHANGE", "NEW_NODE", inet=third.address)
        until(lambda: nodes(r) == 3)
        time.sleep(1.2)
        assert len(ring.seen("QUERY", "system.local")) <= 4


def test_the_control_connection_moves_when_its_node_goes(make_ring):
    ring = fill(make_ring(nodes=3))
    ring.keyspace("shop", rf=3)
    with ring, run(ring) as r:
        ring.wait_for(lambda seen: any(q.op == "REGISTER" for q in seen))
        first = registered(ring)[0].node
        first.down()
        ring.wait_for(lambda seen: len([q for q in seen if q.op == "REGISTER"]) == 2)
        assert registered(ring)[1].node is not first
        assert count(r) == COUNT


def test_a_node_that_is_said_to_be_down_is_tried_last(make_ring):
    ring = fill(make_ring(nodes=2))
    ring.keyspace("shop", rf=2)
    with ring, run(ring) as r:
        ring.wait_for(lambda seen: any(q.op == "REGISTER" for q in seen))
        for node in ring.nodes[::-1]:
            def ask():
                assert count(r) == COUNT
            goes_elsewhere(ring, node, ask, told=lambda: ring.push("STATUS_CHANGE", "DOWN", inet=node.address))
            ring.push("STATUS_CHANGE", "UP", inet=node.address)
            time.sleep(0.3)


def test_all_nodes_gone_and_back(make_ring):
    ring = fill(make_ring(nodes=2))
    with ring, run(ring) as r:
        assert count(r) == COUNT
        for node in ring.nodes:
            node.down()
        e = r.error(".quiet on", ALL)
        assert e["error"] == "retry" and "refused" in e["text"] and "2 nodes were tried" in e["text"], e
        for node in ring.nodes:
            node.up()
        assert count(r) == COUNT


@pytest.mark.long
def test_keep_alive(make_ring):
    with fill(make_ring()) as ring, run(ring) as r:
        assert count(r) == COUNT
        ring.on("OPTIONS", do=hang(), times=1, skip=1)
        until(lambda: ring.seen("OPTIONS"), 40)
        assert ring.seen("OPTIONS")[0].conn == registered(ring)[0].conn
        until(lambda: len(registered(ring)) == 2, 45)  # the second was not answered


# ---- log-in

def test_both_contact_points_are_named(make_ring):
    e = refused("127.0.0.1:1", 1, "-H", "127.0.0.1:2")
    assert e["error"] == "retry" and "127.0.0.1:1: Connection refused" in e["text"] and "127.0.0.1:2: Connection refused" in e["text"]


@pytest.mark.parametrize("host", ["", "a:0", "a:70000", "a:x"])
def test_a_host_that_is_none(host):
    assert refused(host, 9042)["error"] == "user"
