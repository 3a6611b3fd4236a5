"""A server that does what it must not, or what none of ours did so far: no row is lost, nobody waits for ever."""
import signal
import threading
import time

import pytest

from cqlrun import CqlRun
from flow import cass, counted, goes_elsewhere, rows_of, says, until
from peer_cql import OP, READ_TIMEOUT, close, error, half, hang, parse_type, reset, segments, w_inetaddr, w_string
from program import wait_for_text

COUNT = 200
SCAN = r'"users".*token\('


def fill(ring, count=COUNT):
    ring.table("shop", "users", "id text, n int", "id", rows=[("id%04d" % i, i) for i in range(count)])
    return ring


def read(program, ring, *flags, tries=1):
    return program.run("sync", "shop.users", "--to", "-", *cass(ring, tries), *flags)


def complete(result):
    assert result.code == 0, result
    assert counted(rows_of(result.out)) == counted({"id": "id%04d" % i, "n": i} for i in range(COUNT))


def run(ring, *flags):
    return CqlRun(ring.address, ring.port, *["-H", ring.address] * 8, *flags)  # opened in spite of a short -r


def control_is_there(ring):
    ring.wait_for(lambda seen: any(q.op == "REGISTER" for q in seen))
    ring.wait_for(lambda seen: len([q for q in seen if q.op == "QUERY" and "system_schema.views" in q.cql]) >= 2)


# ---- log-in

@pytest.mark.parametrize("op", ["OPTIONS", "STARTUP", "REGISTER"])
@pytest.mark.parametrize("how", [reset, half, close])
def test_a_log_in_interrupted_in_the_middle_of_a_run_is_done_again(program, make_ring, op, how):
    with fill(make_ring(page_rows=11)) as ring:
        ring.on(op, do=how(), times=1, skip=0 if op == "REGISTER" else 1)
        complete(read(program, ring))


# ---- answers

@pytest.mark.parametrize("factor", [0, 40], ids=["fewer", "more"])
def test_another_number_of_columns_than_asked_for(program, make_ring, factor):
    with fill(make_ring()) as ring:
        for node in ring.nodes:
            def lie(cql, right=node.statement):
                st = right(cql)
                if "token(" in cql.lower():
                    st.outputs = st.outputs * factor or st.outputs[:1]
                return st
            node.statement = lie
        says(read(program, ring), "columns came, 2 were asked for", code=2)


def void(conn, req):
    conn.answer(req, OP["RESULT"], b"\0\0\0\1")
    return True


def test_a_select_answered_without_rows_is_not_the_end(program, make_ring):
    with fill(make_ring(page_rows=11)) as ring:
        ring.on("EXECUTE", SCAN, do=void, times=2, skip=3)
        complete(read(program, ring))


def test_a_select_that_never_gives_rows(program, make_ring):
    with fill(make_ring()) as ring:
        ring.on("EXECUTE", SCAN, do=void, times=None)
        says(read(program, ring, "--retry-budget", "300ms"), "a SELECT was answered without rows", code=3)


def test_columns_that_change_between_two_ranges(program, make_ring):
    """A field is added to a user-defined type: what was compiled for the old one is not used on."""
    ring = make_ring()
    ring.type("shop", "name", first="text")
    ring.table("shop", "users", "id text, u name", "id", rows=[("id%04d" % i, {"first": "x"}) for i in range(COUNT)])
    with ring:
        def alter(conn, req):
            table = ring.tables["shop", "users"]
            name = table.columns["u"].type
            if len(name.fields) == 1:
                name.fields.append("last")
                name.args.append(parse_type("text"))
                for row in table.rows:
                    row["u"] += b"\0\0\0\1y"
                for n in ring.nodes:
                    n.prepared.clear()
        ring.on("EXECUTE", SCAN, do=alter, times=1, skip=2)
        r = says(read(program, ring, "--workers", 1), "columns changed while it was read", code=2)
        assert all(row["u"] == {"first": "x"} for row in rows_of(r.out))


def test_pages_that_are_too_much_are_asked_for_smaller(program, make_ring):
    with fill(make_ring()) as ring:
        ring.on("EXECUTE", SCAN, do=error(READ_TIMEOUT, "too much at once"), times=None, where=lambda q: q.page_size > 5)
        complete(read(program, ring))


# ---- waiting

def flood(seconds):
    """Events without end, in place of an answer."""
    def act(conn, req):
        body = w_string("STATUS_CHANGE") + w_string("UP") + w_inetaddr("10.1.1.1") + b"\0\0\0\1"
        data = conn.envelope(-1, OP["EVENT"], body) * 1000
        data = segments(data[:len(data)], conn.lz4 is not None) * 20

        def pour():
            end = time.monotonic() + seconds
            try:
                while time.monotonic() < end:
                    conn.raw(data)
            except OSError:
                pass
        threading.Thread(target=pour, daemon=True).start()
        return True
    return act


def test_a_server_that_never_stops_talking_does_not_stop_the_clock(make_ring):
    with fill(make_ring()) as ring, run(ring, "-r", "2000") as r:
        ring.on("EXECUTE", "users", do=flood(60), times=1)
        begin = time.monotonic()
        e = r.error(".quiet on", "SELECT id, n FROM shop.users")
        assert e["error"] == "retry" and "timed out after 2000 ms" in e["text"]
        assert time.monotonic() - begin < 30


def test_a_node_that_hangs_at_prepare_is_left_alone(program, make_ring):
    ring = fill(make_ring(nodes=3, vnodes=16))
    ring.keyspace("shop", rf=3)
    with ring:
        ring.nodes[1].on("PREPARE", do=hang(), times=None)
        r = read(program, ring, "--cassandra-request-timeout", "1s", "--workers", 2, tries=9)
        complete(r)
        asked = [q for q in ring.seen("PREPARE") if q.node is ring.nodes[1]]
        assert len(asked) <= 8, len(asked)


@pytest.mark.parametrize("where", ["log-in", "TLS handshake", "topology", "PREPARE", "EXECUTE"])
def test_two_signals_end_every_wait(program, make_ring, certs, where):
    ring = make_ring(raw=(lambda sock: (waits.set(), time.sleep(60))) if where == "TLS handshake" else None)
    waits = threading.Event()
    with fill(ring):
        op = {"log-in": "STARTUP", "topology": "QUERY"}.get(where, where)
        ring.on(op, do=lambda conn, q: waits.set() or True, times=None)
        tls = ["--cassandra-tls", "--cassandra-ca-file", certs.pem("ca")] if where == "TLS handshake" else []
        p = program.start("sync", "shop.users", "--to", "-", *cass(ring), *tls)
        assert waits.wait(60)
        p.send_signal(signal.SIGINT)
        wait_for_text(p, "once more stops now")
        begin = time.monotonic()
        p.send_signal(signal.SIGINT)
        r = program.finish(p)
        assert r.code == 130 and time.monotonic() - begin < 10, r


# ---- events

@pytest.mark.parametrize("flags", [["-4"], ["-4", "-z"], ["-z"]], ids=["v4", "v4 lz4", "v5 lz4"])
def test_events_of_every_form_are_read(make_ring, flags):
    ring = fill(make_ring(nodes=2))
    ring.keyspace("shop", rf=2)
    with ring, run(ring, *flags) as r:
        control_is_there(ring)
        for node in ring.nodes:
            goes_elsewhere(ring, node, lambda: r.ok(".quiet on", "SELECT id FROM shop.users"),
                           told=lambda: ring.push("STATUS_CHANGE", "DOWN", inet=node.address))
            ring.push("STATUS_CHANGE", "UP", inet=node.address)
            time.sleep(0.3)


def test_an_event_that_comes_while_the_topology_is_read(make_ring):
    ring = fill(make_ring(nodes=2))
    ring.keyspace("shop", rf=2)
    with ring, run(ring) as r:
        control_is_there(ring)
        r.ok(".quiet on", "SELECT id FROM shop.users")
        node = ring.seen("EXECUTE")[-1].node
        said = threading.Event()

        def say(conn, req):
            ring.push("STATUS_CHANGE", "DOWN", inet=node.address)
            said.set()
        ring.on("QUERY", "system.local", do=say, times=1)
        ring.push("SCHEMA_CHANGE", "UPDATED", "TABLE", "shop", "users")
        assert said.wait(60)
        goes_elsewhere(ring, node, lambda: r.ok("SELECT id FROM shop.users"))


# ---- where the data is

def test_no_replica_in_the_local_data_centre(program, make_ring):
    ring = fill(make_ring(nodes=2, dcs=["dc1", "dc2"]))
    ring.keyspace("shop", cls="NetworkTopologyStrategy", dc2=1)
    with ring:
        says(read(program, ring, "--local-dc", "dc1"), "keyspace 'shop' has no replica in data centre 'dc1', but in 'dc2'", code=2)
        complete(read(program, ring, "--local-dc", "dc1", "--consistency", "quorum"))
        complete(read(program, ring, "--local-dc", "dc2"))


def test_a_keyspace_that_was_just_replicated_here(make_ring):
    ring = fill(make_ring(nodes=2, dcs=["dc1", "dc2"]))
    ring.keyspace("shop", cls="NetworkTopologyStrategy", dc2=1)
    with ring, run(ring, "-d", "dc1") as r:
        assert r.error(".schema shop users")["error"] == "user"
        ring.keyspace("shop", cls="NetworkTopologyStrategy", dc1=1, dc2=1)
        r.ok(".schema shop users", ".scan shop users id 1")


def test_old_servers_listen_on_the_contact_points_port(make_ring):
    with fill(make_ring(nodes=2, versions=(3, 4), release="3.11.19", extra_versions=())) as ring:
        with CqlRun("%s:%d" % (ring.address, ring.port), 1) as r:
            assert r.ok(".scan shop users id 2")[0]["rows"] == COUNT
        assert {q.node.index for q in ring.seen("EXECUTE")} == {0, 1}


def test_peers_that_are_only_half_there(make_ring):
    ring = fill(make_ring(nodes=4))
    ring.keyspace("shop", rf=4)
    make = ring.make_peers_v2

    def peers(node, ks):
        t = make(node, ks)
        for row, lacks in zip(t.rows, ["host_id", "tokens", "native_address"]):
            row[lacks] = None
            if lacks == "native_address":  # "peer" is where it is, then
                continue
        return t
    ring.make_peers_v2 = peers
    with ring, run(ring) as r:
        assert r.ok(".describe")[0].endswith("2 nodes")
        assert r.ok(".scan shop users id 2")[0]["rows"] == COUNT


@pytest.mark.parametrize("wildcard", [bytes(4), bytes(16)], ids=["0.0.0.0", "::"])
def test_nodes_that_listen_everywhere(make_ring, wildcard):
    ring = fill(make_ring(nodes=2))
    for name in ("make_peers_v2", "make_local"):
        def listens(node, ks, make=getattr(ring, name)):
            t = make(node, ks)
            for row in t.rows:
                row["native_address" if "native_address" in t.columns else "rpc_address"] = wildcard
            return t
        setattr(ring, name, listens)
    with ring, run(ring) as r:
        assert r.ok(".scan shop users id 2")[0]["rows"] == COUNT
        assert {q.node.index for q in ring.seen("EXECUTE")} == {0, 1}


def test_a_node_replaced_at_the_same_address(make_ring):
    import uuid
    ring = fill(make_ring(nodes=2))
    ring.keyspace("shop", rf=1)
    with ring, run(ring) as r:
        control_is_there(ring)
        assert r.ok(".scan shop users id 1")[0]["rows"] == COUNT
        node = ring.nodes[1]
        node.down()
        node.host_id, node.prepared = uuid.uuid4(), {}
        node.up()
        read_before = len(ring.seen("QUERY", "system_schema.views"))
        ring.push("TOPOLOGY_CHANGE", "NEW_NODE", inet=node.address)
        ring.wait_for(lambda seen: len(ring.seen("QUERY", "system_schema.views")) > read_before)

        def both_are_asked():
            before = len(ring.seen("EXECUTE"))
            assert r.ok(".describe")[0].endswith("2 nodes")
            assert r.ok(".scan shop users id 1")[0]["rows"] == COUNT
            return {q.node.index for q in ring.seen("EXECUTE")[before:]} == {0, 1}
        until(both_are_asked)


# ---- tables that CQL did not make

def test_a_static_compact_table_shows_what_cql_shows(make_ring):
    ring = make_ring()
    ring.table("shop", "old", "k text, column1 text, a int, b text, value blob", "k", ["column1"], static=["a", "b"], flags=())
    with ring, run(ring) as r:
        (schema,) = r.ok(".schema shop old")
        assert schema["clustering"] == 0 and [(c["name"], c["kind"]) for c in schema["columns"]] == [("k", 0), ("a", 3), ("b", 3)]
