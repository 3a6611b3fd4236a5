"""The CQL client as the program uses it: versions, compression, TLS, log-in, faults, fail-over."""
import re
import socket
import struct
import threading
import time

import pytest

from flow import PASSWORD, cass, counted, one_of, rows_of, says
from peer_cql import (BAD_CREDENTIALS, BOOTSTRAPPING, OVERLOADED, PROTOCOL_ERROR, READ_FAILURE, READ_TIMEOUT, SERVER_ERROR,
                      SYNTAX, UNAUTHORIZED, UNAVAILABLE, bad_crc, close, delay, error, garbage, half, hang, new_metadata,
                      page, reset, unprepared, key_token)
from port import Port

COUNT = 200
SCAN = r'"users".*token\('


def fill(ring, count=COUNT):
    ring.table("shop", "users", "id text, name text, n int", "id", rows=[("id%04d" % i, "näme %d" % i, i) for i in range(count)])
    return ring


def read(program, ring, *flags, tries=1, **more):
    return program.run("sync", "shop.users", "--to", "-", *cass(ring, tries), *flags, **more)


def complete(result, count=COUNT):
    assert result.code == 0, result
    got, want = counted(rows_of(result.out)), counted({"id": "id%04d" % i, "name": "näme %d" % i, "n": i} for i in range(count))
    assert got == want, "lost %d, too many %d" % (len(want - got), len(got - want))


# ---- versions and compression

def test_v5_is_spoken_where_it_is_there(program, make_ring):
    with fill(make_ring()) as ring:
        complete(read(program, ring))
        assert {r.version for r in ring.seen("EXECUTE")} == {5}


@pytest.mark.parametrize("extra", [(), ("5/v5-beta",)], ids=["no v5", "v5 is beta"])
def test_v4_is_spoken_else(program, make_ring, extra):
    with fill(make_ring(versions=(3, 4), extra_versions=extra, release="3.11.19")) as ring:
        complete(read(program, ring))
        assert {r.version for r in ring.seen("EXECUTE")} == {4}


def test_only_v3_is_named(program, make_ring):
    with fill(make_ring(versions=(3,), extra_versions=(), release="2.2")) as ring:
        says(read(program, ring), "protocol", code=3)


@pytest.mark.parametrize("version", [4, 5])
def test_lz4(program, make_ring, version):
    with fill(make_ring(versions=(4, version))) as ring:
        complete(read(program, ring, "--cassandra-compression", "lz4"))
        assert "lz4" in [r.options.get("COMPRESSION") for r in ring.seen("STARTUP")]


@pytest.mark.parametrize("version", [4, 5])
def test_without_compression(program, make_ring, version):
    with fill(make_ring(versions=(4, version), compression=())) as ring:
        complete(read(program, ring))
        assert all("COMPRESSION" not in r.options for r in ring.seen("STARTUP"))


@pytest.mark.parametrize("version", [4, 5])
def test_an_answer_of_several_segments(program, make_ring, version):
    ring = make_ring(versions=(4, version))
    ring.table("shop", "users", "id text, name text, n int", "id", rows=[("id%d" % i, "x" * 200000, i) for i in range(4)])
    with ring:
        r = read(program, ring)
        assert r.code == 0 and sorted(len(o["name"]) for o in rows_of(r.out)) == [200000] * 4


def test_the_server_learns_the_drivers_name(program, make_ring):
    with fill(make_ring()) as ring:
        read(program, ring)
        options = ring.seen("STARTUP")[0].options
        assert options["CQL_VERSION"] == "3.0.0" and "cass2es" in options["DRIVER_NAME"] and options.get("DRIVER_VERSION")
        assert options.get("THROW_ON_OVERLOAD") == "1"


# ---- log-in

@pytest.mark.parametrize("version", [4, 5])
def test_log_in(program, make_ring, version):
    with fill(make_ring(versions=(4, version), auth=("cassandra", PASSWORD))) as ring:
        complete(read(program, ring, "--cassandra-username", "cassandra", env={"CASS2ES_CASSANDRA_PASSWORD": PASSWORD}))


def test_wrong_password(program, make_ring):
    with fill(make_ring(auth=("cassandra", "other"))) as ring:
        r = read(program, ring, "--cassandra-username", "cassandra", env={"CASS2ES_CASSANDRA_PASSWORD": PASSWORD})
        says(r, "Provided username cassandra and/or password are incorrect", code=3)
        assert len(ring.seen("AUTH_RESPONSE")) == 1, "a wrong password is not tried again"


def test_a_server_that_wants_a_log_in(program, make_ring):
    with fill(make_ring(auth=("cassandra", "x"))) as ring:
        r = says(read(program, ring), "user|log-in|log in|authenticat|credential")
        assert r.code == 3


def test_an_unknown_authenticator_gets_no_password(program, make_ring):
    with fill(make_ring(auth=("cassandra", PASSWORD), authenticator="com.example.SomeOther")) as ring:
        r = read(program, ring, "--cassandra-username", "cassandra", env={"CASS2ES_CASSANDRA_PASSWORD": PASSWORD})
        says(r, re.escape("com.example.SomeOther"), code=3)
        assert not ring.seen("AUTH_RESPONSE")


# ---- TLS

def tls_flags(certs):
    return ["--cassandra-tls", "--cassandra-ca-file", certs.ca]


def test_tls(program, make_ring, certs):
    with fill(make_ring(tls=certs.server_context())) as ring:
        complete(read(program, ring, *tls_flags(certs)))


def test_tls_of_an_unknown_ca(program, make_ring, certs):
    with fill(make_ring(tls=certs.server_context())) as ring:
        r = says(read(program, ring, "--cassandra-tls"), "certificate")
        assert r.code == 3 and not ring.requests


def test_tls_for_another_name(program, make_ring, certs):
    with fill(make_ring(tls=certs.server_context("other"))) as ring:
        r = says(read(program, ring, *tls_flags(certs)), "certificate|host ?name|mismatch")
        assert r.code == 3 and not ring.requests


def test_tls_with_a_server_name_of_its_own(program, make_ring, certs):
    with fill(make_ring(tls=certs.server_context("other"))) as ring:
        complete(read(program, ring, *tls_flags(certs), "--cassandra-server-name", "db.example.org"))


def test_tls_with_a_client_certificate(program, make_ring, certs):
    with fill(make_ring(tls=certs.server_context(client=True))) as ring:
        complete(read(program, ring, *tls_flags(certs), "--cassandra-cert-file", certs.pem("client"),
                      "--cassandra-key-file", certs.key("client")))


def test_tls_without_the_client_certificate_that_is_wanted(program, make_ring, certs):
    with fill(make_ring(tls=certs.server_context(client=True))) as ring:
        r = says(read(program, ring, *tls_flags(certs)), "certificate|tls|ssl")
        assert r.code == 3


def test_plain_client_to_a_tls_server(program, make_ring, certs):
    with fill(make_ring(tls=certs.server_context())) as ring:
        says(read(program, ring), "TLS", code=3)


def test_tls_client_to_a_plain_server(program, make_ring, certs):
    with fill(make_ring()) as ring:
        says(read(program, ring, *tls_flags(certs)), "TLS", code=3)


# ---- not Cassandra

def http_answer(sock):
    sock.recv(1000)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("raw", [http_answer, lambda s: s.recv(1000), lambda s: None, lambda s: s.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")],
                         ids=["http", "closes after the first message", "closes at once", "ssh"])
def test_a_server_that_is_not_cassandra(program, make_ring, raw):
    with make_ring(raw=raw) as ring:
        r = says(read(program, ring), re.escape(ring.address), code=3)
        assert re.search("not.*Cassandra|closed|CQL", r.err), r


def test_a_server_that_is_silent(program, make_ring):
    with make_ring(raw=lambda s: time.sleep(60)) as ring:
        r = says(read(program, ring, "--cassandra-connect-timeout", "300ms"), "timed out", re.escape(ring.address), code=3)
        assert r.seconds < 25


def test_nobody_listens(program):
    with Port() as port:
        r = program.run("sync", "shop.users", "--to", "-", "--cassandra-hosts", "127.0.0.1", "--cassandra-port", port.number)
    says(r, r"127\.0\.0\.1:%d" % port.number, "refused", code=3)


def test_a_host_name_that_does_not_exist(program):
    says(program.run("sync", "shop.users", "--to", "-", "--cassandra-hosts", "no-such-host.invalid"), r"no-such-host\.invalid", code=3)


def test_contact_points_that_all_fail(program, make_ring):
    """Each with its own reason: they are no chain."""
    with Port("") as kept:
        port = kept.number
        hosts = "127.0.0.1,127.0.0.2,127.0.0.3"
        r = program.run("sync", "shop.users", "--to", "-", "--cassandra-hosts", hosts, "--cassandra-port", port)
        each = "; ".join(r"127\.0\.0\.%d:%d: Connection refused" % (n, port) for n in (1, 2, 3))
        says(r, "could not reach Cassandra: " + each + "$", code=3)
        long = ",".join("127.0.0.%d" % n for n in range(1, 17))
        r = program.run("sync", "shop.users", "--to", "-", "--cassandra-hosts", long, "--cassandra-port", port)
        says(r, r"could not reach Cassandra: 127\.0\.0\.1:%d: Connection refused; .*refused; and \d+ more$" % port, code=3)


def test_the_second_contact_point_is_tried(program, make_ring):
    with fill(make_ring(first_address=2)) as ring:
        complete(program.run("sync", "shop.users", "--to", "-", "--cassandra-hosts", "127.0.0.9,127.0.0.2", "--cassandra-port", ring.port))


# ---- faults while reading: nothing lost, nothing twice

FAULTS = {
    "overloaded": error(OVERLOADED), "read timeout": error(READ_TIMEOUT), "unavailable": error(UNAVAILABLE),
    "bootstrapping": error(BOOTSTRAPPING), "server error": error(SERVER_ERROR), "closed": close(), "reset": reset(),
    "half an answer": half(), "wrong CRC": bad_crc(), "garbage": garbage(), "unprepared": unprepared(),
    "an empty page with more to come": page(0), "a short page": page(3), "changed metadata": new_metadata(),
    "delay": delay(0.1),
}


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_middle_of_a_scan(program, make_ring, fault, version):
    with fill(make_ring(versions=(4, version), page_rows=11)) as ring:
        rule = ring.on("EXECUTE", SCAN, do=FAULTS[fault], times=2, skip=3)
        complete(read(program, ring))
        assert rule.hits > 3


@pytest.mark.parametrize("fault", ["overloaded", "closed", "half an answer", "unprepared"])
def test_a_fault_at_the_very_first_page(program, make_ring, fault):
    with fill(make_ring(page_rows=11)) as ring:
        ring.on("EXECUTE", SCAN, do=FAULTS[fault], times=1)
        complete(read(program, ring))


def test_a_hanging_answer_times_out(program, make_ring):
    with fill(make_ring(page_rows=11)) as ring:
        def in_time():
            ring.on("EXECUTE", SCAN, do=hang(), times=1, skip=2)
            r = read(program, ring, "--cassandra-request-timeout", "1s", tries=9)
            complete(r)
            return r.seconds if r.seconds > 10 else None  # the default is 12 s
        one_of(3, in_time)


def test_an_answer_that_comes_after_its_time_out_is_not_taken_for_another(program, make_ring):
    with fill(make_ring(page_rows=11)) as ring:
        complete(read(program, ring, "--fresh"))
        usual = len(ring.seen("EXECUTE", SCAN))
        ring.on("EXECUTE", SCAN, do=delay(1.5), times=2, skip=2)
        complete(read(program, ring, "--cassandra-request-timeout", "1s", tries=9))
        assert len(ring.seen("EXECUTE", SCAN)) >= 2 * usual + 2, "asked again, not waited for"


def test_answers_out_of_order(program, make_ring):
    with fill(make_ring(page_rows=11)) as ring:
        ring.on("EXECUTE", SCAN, do=delay(0.05), times=None, where=lambda r: r.stream % 2 == 0)
        complete(read(program, ring, "--workers", 4))


@pytest.mark.parametrize("pages", [1, 5, 40])
def test_many_empty_pages(program, make_ring, pages):
    with fill(make_ring(page_rows=50)) as ring:
        ring.on("EXECUTE", SCAN, do=page(0), times=pages)
        complete(read(program, ring))


def test_every_statement_forgotten_all_the_time(program, make_ring):
    with fill(make_ring(page_rows=40)) as ring:
        ring.on("EXECUTE", SCAN, do=unprepared(), times=None, where=lambda r: len(ring.seen("EXECUTE", SCAN)) % 2)
        complete(read(program, ring))


def test_a_column_added_in_the_middle_changes_nothing(program, make_ring):
    with fill(make_ring(page_rows=11)) as ring:
        def alter(conn, req):
            t = ring.tables["shop", "users"]
            if "extra" not in t.columns:
                t.add_column("extra", "text")
                for n in ring.nodes:
                    n.prepared.clear()
                ring.push("SCHEMA_CHANGE", "UPDATED", "TABLE", "shop", "users")
        ring.on("EXECUTE", SCAN, do=alter, times=1, skip=3)
        complete(read(program, ring))


def test_faults_that_stay_end_the_run_resumable(program, make_ring):
    with fill(make_ring(page_rows=11)) as ring:
        ring.on("EXECUTE", SCAN, do=error(OVERLOADED, "too busy today"), times=None, skip=4)
        r = program.run("sync", "shop.users", "--to", "out.json", *cass(ring), "--retry-budget", "500ms")
        says(r, "too busy today", code=3)
        ring.rules.clear()
        r = program.run("sync", "shop.users", "--to", "out.json", *cass(ring))
        assert r.code == 0
        assert len((program.cwd / "out.json").read_text().splitlines()) == COUNT


@pytest.mark.parametrize("code,word,exits", [(UNAUTHORIZED, "no permission", (2, 3)), (SYNTAX, "syntax", (2, 3, 5))])
def test_errors_that_cannot_pass_stop_at_once(program, make_ring, code, word, exits):
    with fill(make_ring()) as ring:
        ring.on("EXECUTE", SCAN, do=error(code, "scripted: " + word), times=None)
        r = says(read(program, ring), "scripted: " + word)
        assert r.code in exits and r.seconds < 25 and len(ring.seen("EXECUTE", SCAN)) < 40


def test_a_range_with_too_many_tombstones_is_split(program, make_ring):
    """The failure stays with the part that has them; all other rows come."""
    with fill(make_ring()) as ring:
        t = ring.tables["shop", "users"]
        bad = t.tokens[COUNT // 2]

        def tombstones(r):
            a, b = (int.from_bytes(v, "big", signed=True) for v in r.values[:2])
            return a < bad <= b and b - a > 1 << 58
        ring.on("EXECUTE", SCAN, do=error(READ_FAILURE, "READ_TOO_MANY_TOMBSTONES"), times=None, where=tombstones)
        complete(read(program, ring))


def test_protocol_error_on_a_paging_state_reads_the_range_again(program, make_ring):
    with fill(make_ring(page_rows=11)) as ring:
        ring.on("EXECUTE", SCAN, do=error(PROTOCOL_ERROR, "Invalid value for the paging state"), times=1, where=lambda r: r.state)
        r = read(program, ring)
        assert r.code in (0, 3), r
        got = [o["id"] for o in rows_of(r.out)]
        assert len(got) == len(set(got))


# ---- several nodes

def three(make_ring, **more):
    ring = fill(make_ring(nodes=3, **more))
    ring.keyspace("shop", rf=3)
    return ring


def test_all_nodes_are_used_each_for_its_own_ranges(program, make_ring):
    with three(make_ring) as ring:
        complete(read(program, ring))
        scans = ring.pages(SCAN)
        assert {p.node.index for p in scans} == {0, 1, 2}


def test_a_node_that_is_down_from_the_start(program, make_ring):
    with three(make_ring) as ring:
        ring.nodes[1].down()
        complete(read(program, ring))


def test_a_node_that_goes_down_in_the_middle(program, make_ring):
    with three(make_ring, page_rows=5) as ring:
        done = threading.Event()

        def die(conn, req):
            if not done.is_set():
                done.set()
                ring.nodes[2].down()
                return True
        ring.nodes[2].on("EXECUTE", SCAN, do=die, times=None, skip=2)
        complete(read(program, ring))
        assert done.is_set()


def test_a_node_that_hangs_is_left_for_another_replica(program, make_ring):
    with three(make_ring, page_rows=20) as ring:
        ring.nodes[1].on("EXECUTE", SCAN, do=hang(), times=None)
        complete(read(program, ring, "--cassandra-request-timeout", "1s", tries=9))


def test_an_overloaded_node_is_left_for_another_replica(program, make_ring):
    with three(make_ring) as ring:
        ring.nodes[0].on("EXECUTE", SCAN, do=error(OVERLOADED), times=None)
        complete(read(program, ring))


def test_unprepared_on_one_node_only(program, make_ring):
    with three(make_ring, page_rows=5) as ring:
        ring.nodes[2].on("EXECUTE", SCAN, do=unprepared(), times=3, skip=1)
        complete(read(program, ring))


def test_local_dc_keeps_away_from_the_other(program, make_ring):
    ring = fill(make_ring(nodes=4, dcs=["dc1", "dc2", "dc1", "dc2"]))
    ring.keyspace("shop", cls="NetworkTopologyStrategy", dc1=1, dc2=1)
    with ring:
        complete(read(program, ring, "--local-dc", "dc1"))
        assert {p.node.dc for p in ring.pages(SCAN)} == {"dc1"}


def test_unknown_local_dc_names_those_that_are(program, make_ring):
    ring = fill(make_ring(nodes=2, dcs=["dc1", "dc2"]))
    with ring:
        r = says(read(program, ring, "--local-dc", "dc3"), "dc3", "dc1")
        assert r.code == 2


def test_address_map_makes_advertised_addresses_reachable(program, make_ring):
    ring = fill(make_ring(nodes=2))
    with ring:
        advertised = ["10.9.8.7", "10.9.8.6"]
        real = [n.address for n in ring.nodes]
        make = ring.make_peers_v2

        def peers(node, ks):
            t = make(node, ks)
            for row, n in zip(t.rows, [n for n in ring.nodes if n is not node]):
                row["native_address"] = socket.inet_aton(advertised[n.index])
            return t
        ring.make_peers_v2 = peers
        flags = [x for a, r in zip(advertised, real) for x in ("--address-map", "%s=%s" % (a, r))]
        complete(read(program, ring, *flags))
        assert {p.node.index for p in ring.pages(SCAN)} == {0, 1}


def test_old_servers_without_peers_v2(program, make_ring):
    with fill(make_ring(nodes=2, versions=(3, 4), release="3.11.19", extra_versions=())) as ring:
        complete(read(program, ring))
        assert {p.node.index for p in ring.pages(SCAN)} == {0, 1}


# ---- how fast it begins

def trips_to_the_first_page(program, ring, job, command):
    del ring.requests[:]
    ring.trips = 0
    if command == "file":
        complete(read(program, ring, "--cassandra-username", "cassandra", env={"CASS2ES_CASSANDRA_PASSWORD": PASSWORD}))
    else:
        job.ring = ring
        says(job.run(table="users", keyspace="shop", username="cassandra", password=PASSWORD), code=0)
    logged_in = next(r for r in ring.requests if r.op == "AUTH_RESPONSE")
    first = next(r for r in ring.requests if r.op in ("EXECUTE", "QUERY") and re.search(SCAN, r.cql or ""))
    return first.trip - logged_in.trip - 1


@pytest.mark.parametrize("command", ["file", "job"])
def test_at_most_three_round_trips_from_log_in_to_the_first_page(program, make_ring, job, command):
    """Answers take 60 ms, so what is sent together counts once. A busy machine can only add trips: the best of ten."""
    with fill(make_ring(auth=("cassandra", PASSWORD), latency=0.1)) as ring:
        def begin():
            trips = trips_to_the_first_page(program, ring, job, command)
            return None if trips <= 3 else "%d trips: %r" % (trips, [(r.op, r.trip, r.conn, (r.cql or "")[:60]) for r in ring.requests])
        one_of(10, begin)


def test_first_byte_to_cassandra_is_reported(program, make_ring, capsys):
    """Not a timed test: the machine may be busy. The number is printed."""
    with fill(make_ring()) as ring:
        seen = []
        for _ in range(5):
            before = len(ring.requests)
            p = program.start("sync", "shop.users", "--to", "-", *cass(ring))
            program.finish(p)
            seen.append(ring.requests[before].time - p.began)
        with capsys.disabled():
            print("\nfirst byte to Cassandra after exec, median of 5: %.1f ms" % (sorted(seen)[2] * 1000))
        assert min(seen) < 2


@pytest.mark.parametrize("event", [("SCHEMA_CHANGE", "UPDATED", "TABLE", "shop", "users"), ("SCHEMA_CHANGE", "CREATED", "KEYSPACE", "new")])
def test_events_during_a_scan_do_no_harm(program, make_ring, event):
    with fill(make_ring(page_rows=5)) as ring:
        ring.on("EXECUTE", SCAN, do=lambda c, r: ring.push(*event) and False, times=5, skip=2)
        complete(read(program, ring))


def test_bad_credentials_in_the_middle_stop(program, make_ring):
    """A password changed while the scan runs: new connections fail, and the run says why."""
    with fill(make_ring(page_rows=5)) as ring:
        def lock_out(conn, req):
            ring.on("STARTUP", do=error(BAD_CREDENTIALS, "Provided username and/or password are incorrect"), times=None)
            for n in ring.nodes:
                for c in list(n.conns):
                    c.drop()
            return True
        ring.on("EXECUTE", SCAN, do=lock_out, times=1, skip=2)
        says(read(program, ring, "--retry-budget", "1s"), "Provided username", code=3)


@pytest.mark.parametrize("version,tls", [(4, False), (5, False), (5, True)])
@pytest.mark.parametrize("pieces", [1, 7])
def test_answers_that_come_in_small_pieces(program, make_ring, certs, version, tls, pieces):
    ring = make_ring(versions=(4, version), dribble=pieces, tls=certs.server_context() if tls else None)
    with fill(ring, 30):
        complete(read(program, ring, *(tls_flags(certs) if tls else [])), 30)


def test_ranges_without_a_replica_stop_resumable(program, make_ring):
    """One copy only, and its node is down: exit 3; when it is back the same command reads the rest."""
    ring = fill(make_ring(nodes=3, page_rows=20))
    ring.keyspace("shop", rf=1)
    with ring:
        ring.nodes[2].on("EXECUTE", SCAN, do=error(UNAVAILABLE, "no replica is alive"), times=None)
        for n in ring.nodes[:2]:
            n.on("EXECUTE", SCAN, do=error(UNAVAILABLE, "no replica is alive"), times=None,
                 where=lambda r: ring.owner(int.from_bytes(r.values[1], "big", signed=True)) is ring.nodes[2])
        command = ["sync", "shop.users", "--to", "out.json", *cass(ring), "--retry-budget", "400ms"]
        says(program.run(*command), "no replica is alive", code=3)
        for n in ring.nodes:
            n.rules.clear()
        says(program.run(*command), "resum|continu|goes on", code=0)
        got = [o["id"] for o in rows_of((program.cwd / "out.json").read_text())]
        assert sorted(got) == ["id%04d" % i for i in range(COUNT)]


def test_a_node_that_comes_back_is_used_again(program, make_ring):
    with three(make_ring, page_rows=5) as ring:
        state = {"n": 0}

        def blink(conn, req):
            state["n"] += 1
            if state["n"] == 3:
                ring.nodes[1].down()
            if state["n"] == 10:
                ring.nodes[1].up()
        ring.on("EXECUTE", SCAN, do=blink, times=None)
        complete(read(program, ring, "--workers", 2))


def test_wide_partitions_are_read_page_by_page(program, make_ring):
    ring = make_ring(page_rows=9)
    ring.table("shop", "wide", "p int, c int, v text", "p", "c", rows=[(p, c, "v") for p in range(3) for c in range(150)])
    with ring:
        ring.on("EXECUTE", r'"wide".*token\(', do=close(), times=1, skip=7)
        ring.on("EXECUTE", r'"wide".*token\(', do=error(OVERLOADED), times=2, skip=20)
        r = program.run("sync", "shop.wide", "--to", "-", *cass(ring))
        assert r.code == 0 and counted(rows_of(r.out)) == counted({"p": p, "c": c, "v": "v"} for p in range(3) for c in range(150))


def test_a_read_failure_inside_a_wide_partition_repeats_no_row(program, make_ring):
    """Some pages of the partition were written already when the range is split."""
    ring = make_ring(page_rows=9)
    ring.table("shop", "wide", "p int, c int, v text", "p", "c", rows=[(p, c, "v") for p in range(3) for c in range(150)])
    with ring:
        ring.on("EXECUTE", r'"wide".*token\(', do=error(READ_FAILURE, "READ_TOO_MANY_TOMBSTONES"), times=1, skip=20, where=lambda r: r.state)
        r = program.run("sync", "shop.wide", "--to", "-", "--workers", 1, *cass(ring))
        assert r.code in (0, 1), r
        got = counted(rows_of(r.out))
        assert max(got.values()) == 1, "%d rows came twice" % sum(n - 1 for n in got.values())
        if r.code == 0:
            assert len(got) == 450


@pytest.mark.parametrize("more", [0, 5])
@pytest.mark.parametrize("at", [12, 20, 33])
def test_a_read_failure_behind_a_partition_that_came_whole(program, make_ring, at, more):
    """Pages end with partitions: of the one before the tombstones nothing is missing, and it is not said to be unread. With
    `more` rows in it than there are in a page, some are; and it is."""
    ring, rows = make_ring(page_rows=10), [(p, c, "v") for p in range(40) for c in range(10)]
    tokens = {p: key_token([struct.pack(">i", p)]) for p in range(40)}
    order = sorted(tokens, key=tokens.get)
    before, bad = order[at - 1], order[at]
    ring.table("shop", "wide", "p int, c int, v text", "p", "c", rows=rows + [(before, 10 + c, "v") for c in range(more)])

    def tombstones(r):
        """The next partition that it would read is the bad one."""
        a, b = (int.from_bytes(v, "big", signed=True) for v in r.values[:2])
        a = struct.unpack(">q", r.state[8:16])[0] if r.state else a
        return a < tokens[bad] <= b and not any(a < t < tokens[bad] for t in tokens.values())
    with ring:
        ring.on("EXECUTE", r'"wide".*token\(', do=error(READ_FAILURE, "READ_TOO_MANY_TOMBSTONES"), times=None, where=tombstones)
        r = program.run("sync", "shop.wide", "--to", "-", "--workers", 1, *cass(ring))
        says(r, r"not read +%d\b" % (2 if more else 1), code=1)
        assert counted(rows_of(r.out)) == counted({"p": p, "c": c, "v": v} for p, c, v in rows if p != bad)


def test_a_range_that_stays_unreadable_is_reported(program, make_ring):
    """Tombstones around one row: all others come, the range is named, the exit code is 1."""
    with fill(make_ring()) as ring:
        bad = ring.tables["shop", "users"].tokens[COUNT // 2]

        def tombstones(r):
            a, b = (int.from_bytes(v, "big", signed=True) for v in r.values[:2])
            return a < bad <= b
        ring.on("EXECUTE", SCAN, do=error(READ_FAILURE, "READ_TOO_MANY_TOMBSTONES"), times=None, where=tombstones)
        r = says(read(program, ring, "--workers", 2), r"not read +1\b", code=1)
        assert len({o["id"] for o in rows_of(r.out)}) == len(rows_of(r.out)) == COUNT - 1
        says(program.run("failures", "show"), r"token -?\d+\.\.-?\d+\s+unread_range", "READ_TOO_MANY_TOMBSTONES")
