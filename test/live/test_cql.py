"""src/cql against a real Cassandra: what cql-vectors.json recorded happens again, over all ways to connect.

It is driven through `cqlrun`, a thin shell over the library, built beside the program.
"""
import json
import os
import socket
import ssl
import struct
import threading
import time
import uuid

import cqlrun
import pytest
import servers

VECTORS = json.loads((servers.ROOT / "test/data/cql-vectors.json").read_text())
WAYS = {"v5": [], "v4": ["-4"], "v5 lz4": ["-z"], "v4 lz4": ["-4", "-z"], "v5 tls": ["-t"], "v4 tls": ["-4", "-t"],
        "v5 lz4 tls": ["-z", "-t"], "v4 lz4 tls": ["-4", "-z", "-t"]}


def login(flags, more):
    """Where and how to log in: (host, port, flags, keywords)."""
    at = servers.address("cassandra")
    more = {"user": servers.setting("USER"), "password": servers.setting("PASSWORD"), **more}
    if "-t" in flags and "-a" not in flags:
        flags = (*flags, "-a", servers.tls("ca.pem"))
    return more.pop("host", at.host), more.pop("port", at.port), flags, more


def Run(*flags, **more):
    host, port, flags, more = login(flags, more)
    return cqlrun.CqlRun(host, port, *flags, **more)


def refused(*flags, **more):
    host, port, flags, more = login(flags, more)
    return cqlrun.refused(host, port, *flags, **more)


@pytest.fixture(scope="module", params=[5, 4], ids=["v5", "v4"])
def run(request):
    with Run(*(["-4"] if request.param == 4 else [])) as r:
        r.version = request.param
        yield r


@pytest.fixture(scope="module")
def pg(db, keyspace):
    """The table of the paging vectors: three partitions of four rows, and one with only a static column."""
    db.execute(f"CREATE TABLE {keyspace}.pg (p int, c int, s text static, v text, PRIMARY KEY (p, c)) WITH CLUSTERING ORDER BY (c DESC)")
    for p in range(3):
        db.execute(f"INSERT INTO {keyspace}.pg (p, s) VALUES ({p}, 'st{p}')")
        for c in range(4):
            db.execute(f"INSERT INTO {keyspace}.pg (p, c, v) VALUES ({p}, {c}, 'v{p}{c}')")
    db.execute(f"INSERT INTO {keyspace}.pg (p, s) VALUES (9, 'static only')")
    return f"{keyspace}.pg"


# ---- ways to connect

@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_connect(way, pg):
    with Run(*WAYS[way]) as r:
        (about,) = r.ok(".describe")
        assert f"protocol {way[:2]}" in about and "5.0.4" in about
        rows = r.rows(".rows 5", f"SELECT p, c, s, v FROM {pg}")
        want = [(1, 3), (1, 2), (1, 1), (1, 0), (0, 3), (0, 2), (0, 1), (0, 0), (2, 3), (2, 2), (2, 1), (2, 0), (9, None)]
        assert [(int(x["p"], 16), x["c"] and int(x["c"], 16)) for x in rows] == want
        (many,) = r.ok(f".many 2000 SELECT v FROM {pg} WHERE p = ?")
        assert many == {"answers": 2000, "rows": 13}


def test_large_cells(db, keyspace):
    """An answer of many segments; every byte comes through."""
    db.execute(f"CREATE TABLE {keyspace}.big (p int PRIMARY KEY, v blob)")
    cells = {i: os.urandom(50_000) * (i + 1) + bytes(200_000 * i) for i in range(6)}
    insert = db.prepare(f"INSERT INTO {keyspace}.big (p, v) VALUES (?, ?)")
    for i, cell in cells.items():
        db.execute(insert, (i, cell))
    for way in WAYS:
        with Run(*WAYS[way]) as r:
            rows = r.rows(".rows 2", f"SELECT p, v FROM {keyspace}.big")
            assert {int(x["p"], 16): bytes.fromhex(x["v"]) for x in rows} == cells, way


def test_wrong_password():
    e = refused(password="wrong-secret")
    assert e["error"] == "reach" and "Provided username cassandra and/or password are incorrect" in e["text"]
    assert "wrong-secret" not in e["text"]


def test_certificates():
    assert "not trusted" in refused("-t", "-a", servers.tls("other-ca.pem"))["text"]
    assert "'wrong.test'" in refused("-t", "-n", "wrong.test")["text"]
    assert refused("-t", "-a", "/nonexistent.pem")["error"] == "user"
    with Run("-t", "-n", "cassandra.test") as r:
        assert r.ok(".describe")
    with Run("-k") as r:
        assert r.ok(".describe")


def fake(serve):
    """A server that does something else; yields its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def loop():
        while True:
            try:
                s, _ = listening.accept()
            except OSError:
                return
            with s:
                serve(s)
    threading.Thread(target=loop, daemon=True).start()
    return listening


def http(s):
    s.recv(100)
    s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def tls_only(s):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(servers.tls("server.pem"), servers.tls("server.key"))
    try:
        context.wrap_socket(s, server_side=True)
    except OSError:
        pass


def silent(s):
    s.recv(100)
    time.sleep(60)


@pytest.mark.parametrize("serve,kind,words", [
    (http, "reach", "HTTP server"), (lambda s: s.close(), "retry", "not be Cassandra's native port"),
    (tls_only, "reach|retry", "TLS"), (silent, "retry", "timed out"), (lambda s: s.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), "reach", "not speak Cassandra's native protocol"),
], ids=["http", "closes", "tls", "silent", "ssh"])
def test_something_else_listens(serve, kind, words):
    """`retry`: it may be Cassandra, and busy or going down. So it looks when a reset overtakes the alert of TLS."""
    with fake(serve) as listening:
        port = listening.getsockname()[1]
        e = refused(*(["-x", "500"] if serve is silent else []), port=port, host="127.0.0.1")
        assert e["error"] in kind.split("|") and words in e["text"] and f"127.0.0.1:{port}" in e["text"], e


def test_tls_where_there_is_none():
    with fake(http) as listening:
        e = refused("-t", port=listening.getsockname()[1], host="127.0.0.1")
        assert e["error"] == "reach" and "switch TLS off" in e["text"], e


def test_the_second_contact_point():
    with Run("-H", "127.0.0.1:1") as r:
        assert r.ok(".describe")
    e = refused("-H", "127.0.0.1:2", host="127.0.0.1:1")
    assert "127.0.0.1:1: Connection refused" in e["text"] and "127.0.0.1:2: Connection refused" in e["text"]


def test_an_unknown_data_centre_names_the_near_one():
    e = refused("-d", "datacentre1")
    assert e["error"] == "user" and "did you mean 'datacenter1'" in e["text"]


# ---- what the vectors recorded

@pytest.mark.parametrize("n", range(len(VECTORS["paging_edges"])))
def test_paging_edges(n, pg):
    edge = VECTORS["paging_edges"][n]
    with Run(*(["-4"] if edge["version"] == 4 else [])) as r:
        text = edge.get("cql", "SELECT p,c FROM pg").replace("FROM pg", f"FROM {pg}")
        pages = r.pages(f".rows {edge['page_size']}", text)
        if "rows_per_page" in edge:
            assert [x["rows"] for x in pages] == edge["rows_per_page"]
        else:
            assert (pages[0]["rows"], pages[0]["more"]) == (edge["rows"], edge["has_more"])
            if edge["has_more"]:
                assert (pages[1]["rows"], pages[1]["more"]) == (edge["next_rows"], edge["next_has_more"])


@pytest.mark.parametrize("made,used", [([], ["-4"]), (["-4"], []), ([], [])], ids=["v5 to v4", "v4 to v5", "v5"])
def test_a_paging_state_goes_on_in_another_process(pg, made, used):
    with Run(*made) as r:
        (first,) = r.pages(".rows 5", ".pages 1", f"SELECT p,c FROM {pg}")
    with Run(*used) as r:
        pages = r.pages(".rows 5", ".pages 1", f".state {first['state']}", f"SELECT p,c FROM {pg}")
        assert pages[0]["rows"] == 5
        pages = r.pages(".pages 0", f".state {first['state']}", f"SELECT p,c FROM {pg} WHERE token(p) > -9223372036854775808")
        assert pages[0]["rows"] == VECTORS["paging_portability"][3]["rows"]


def test_a_paging_state_of_garbage_can_never_pass(run, pg):
    e = run.error(".state 0102deadbeef", f"SELECT p,c FROM {pg}")
    assert e["error"] == "reject" and "Invalid value for the paging state" in e["text"]
    assert run.pages(f"SELECT p FROM {pg}"), "and the session goes on"


@pytest.mark.parametrize("n", range(len(VECTORS["token_restrictions"])))
def test_token_restrictions(run, pg, n):
    case = VECTORS["token_restrictions"][n]
    assert sum(x["rows"] for x in run.pages(".rows 5000", ".pages 0", f"SELECT p,c FROM {pg} WHERE {case['where']}")) == case["rows"]


def test_tokens_are_the_servers(db, keyspace):
    made = {}
    with Run() as r:
        for n, vector in enumerate(VECTORS["tokens"]):
            kinds = tuple(vector["columns"])
            if kinds not in made:
                made[kinds] = f"{keyspace}.tok{len(made)}"
                columns = ", ".join(f"k{i} {t}" for i, t in enumerate(kinds))
                keys = ", ".join(f"k{i}" for i in range(len(kinds)))
                db.execute(f"CREATE TABLE {made[kinds]} ({columns}, v int, PRIMARY KEY (({keys})))")
            keys = [f"k{i}" for i in range(len(kinds))]
            parts = vector.get("components") or [vector["key"]]
            bound = ".bind " + " ".join("=" + p for p in parts)
            r.ok(bound, f"INSERT INTO {made[kinds]} ({', '.join(keys)}) VALUES ({', '.join('?' for _ in keys)})")
            rows = r.rows(".quiet off", bound, f"SELECT token({', '.join(keys)}) AS t FROM {made[kinds]} WHERE "
                          + " AND ".join(f"{k} = ?" for k in keys))
            server = struct.unpack(">q", bytes.fromhex(rows[0]["t"]))[0]
            assert server == vector["token"], vector
            assert r.token(vector["key"]) == vector["token"], vector
    assert len(VECTORS["tokens"]) == 66


def recorded_error(name, version):
    for case in VECTORS["errors"]:
        if case["name"] == name and case.get("version", version) == version:
            body = bytes.fromhex(case["reply_envelope"])[9:]
            if case["reply_envelope"][2:4] == "08":  # warnings first
                count, at = struct.unpack(">H", body[:2])[0], 2
                for _ in range(count):
                    at += 2 + struct.unpack(">H", body[at:at + 2])[0]
                body = body[at:]
            length = struct.unpack(">H", body[4:6])[0]
            return body[6:6 + length].decode()
    raise KeyError(name)


def test_errors(run, pg, keyspace):
    def same(name, kind, *statements):
        e = run.error(*statements)
        want = recorded_error(name, run.version).replace("proto_vec", keyspace)
        assert e["error"] == kind and want in e["text"], (e, want)
    same("syntax_error", "user", "SELEC 1")
    e = run.error(f"SELECT a FROM {keyspace}.nosuch")
    assert e["error"] == "user" and "table nosuch does not exist" in e["text"]
    same("already_exists table", "user", f"CREATE TABLE {pg} (p int PRIMARY KEY)")
    same("already_exists keyspace", "user",
         f"CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}")
    same("config_error", "user", f"CREATE KEYSPACE {keyspace}_x WITH replication = {{'class': 'org.apache.cassandra.locator.NoSuch'}}")


def test_unavailable_may_pass_later(db, pg, keyspace):
    db.execute(f"CREATE KEYSPACE {keyspace}_rf3 WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 3}}")
    try:
        db.execute(f"CREATE TABLE {keyspace}_rf3.t (p int PRIMARY KEY)")
        for way in ([], ["-4"]):
            with Run("-l", "three", *way) as r:
                e = r.error(f"SELECT p FROM {keyspace}_rf3.t WHERE p = 1")
                assert e["error"] == "retry" and recorded_error("unavailable", 4) in e["text"], e
    finally:
        db.execute(f"DROP KEYSPACE {keyspace}_rf3")


def test_without_rights(db, pg, keyspace):
    role = f"r{uuid.uuid4().hex[:8]}"
    db.execute(f"CREATE ROLE {role} WITH PASSWORD = 'secret' AND LOGIN = true")
    try:
        with Run(user=role, password="secret") as r:
            e = r.error(f"SELECT p FROM {pg}")
            assert e["error"] == "user" and f"User {role} has no SELECT permission on <table {pg}>" in e["text"]
    finally:
        db.execute(f"DROP ROLE {role}")


def test_too_many_tombstones_can_never_pass(db, keyspace):
    db.execute(f"CREATE TABLE {keyspace}.ts (p int, c int, v int, PRIMARY KEY (p, c))")
    insert = db.prepare(f"INSERT INTO {keyspace}.ts (p, c, v) VALUES (1, ?, null)")
    from cassandra.query import BatchStatement, BatchType
    batches = []
    for first in range(0, 100_200, 600):
        batch = BatchStatement(BatchType.UNLOGGED)
        for c in range(first, first + 600):
            batch.add(insert, (c,))
        batches.append(batch)
    from cassandra.concurrent import execute_concurrent
    execute_concurrent(db, [(b, ()) for b in batches], concurrency=8)
    for way in ([], ["-4"]):
        with Run(*way) as r:
            e = r.error(f"SELECT v FROM {keyspace}.ts WHERE p = 1 AND v = 7 LIMIT 100 ALLOW FILTERING")
            assert e["error"] == "reject" and "READ_TOO_MANY_TOMBSTONES" in e["text"], e
            assert r.pages(f"SELECT c FROM {keyspace}.ts WHERE p = 1 AND c = 7"), "and the session goes on"


@pytest.fixture(scope="module")
def wt(db, keyspace):
    """The table of the writetime vectors."""
    t = f"{keyspace}.wt"
    db.execute(f"CREATE TYPE {keyspace}.ut (a int, b text)")
    db.execute(f"CREATE TABLE {t} (p int, c int, s text static, a int, b int, l list<int>, st set<text>, m map<text, int>, "
               "fl frozen<list<int>>, u ut, fu frozen<ut>, PRIMARY KEY (p, c))")
    db.execute(f"INSERT INTO {t} (p, c, s, l, st, m, fl, u, fu) VALUES (1, 1, 's', [1, 2], {{'x', 'y'}}, {{'k1': 1, 'k2': 2}}, "
               "[1], {a: 1, b: 'b'}, {a: 1, b: 'b'}) USING TIMESTAMP 1000")
    db.execute(f"UPDATE {t} USING TIMESTAMP 2000 SET st = st + {{'z'}}, m['k2'] = 3, u.a = 2 WHERE p = 1 AND c = 1")
    db.execute(f"UPDATE {t} USING TIMESTAMP 3000 AND TTL 1000 SET b = 1 WHERE p = 1 AND c = 1")
    db.execute(f"INSERT INTO {t} (p, c) VALUES (1, 2) USING TIMESTAMP 1000")
    db.execute(f"INSERT INTO {t} (p, c, a) VALUES (1, 3, 7) USING TIMESTAMP -5")
    return t


@pytest.mark.parametrize("n", range(len(VECTORS["writetime"])))
def test_writetime(run, wt, n):
    case = VECTORS["writetime"][n]
    text = f"SELECT c, {case['expr']} FROM {wt} WHERE p=1"
    if "error" in case:
        want = case["error"].split(" ", 1)[1].split("  <-")[0]
        e = run.error(text)
        assert e["error"] == "user" and want in e["text"], e
        return
    out = run.ok(".rows 5000", ".pages 0", ".quiet off", text)
    rows = [list(x.values()) for x in out if not x.get("page")]
    assert out[-1]["types"] == ["int", {"0002": "bigint", "0009": "int", "00200002": "list<bigint>", "00200009": "list<int>"}[case["option"]]]
    assert list(out[0])[1] == case["column_name"]
    for (c, cell), (want_c, want) in zip(rows, case["rows"], strict=True):
        assert int(c, 16) == want_c
        if case["expr"] == "ttl(b)" and want:  # it counts down
            assert 900 <= int(cell, 16) <= 1000
        else:
            assert cell == want


# ---- statements and tables that change

@pytest.mark.parametrize("way", [[], ["-4"]], ids=["v5", "v4"])
def test_a_statement_that_the_server_forgot(db, keyspace, way):
    t = f"{keyspace}.mc{len(way)}"
    db.execute(f"CREATE TABLE {t} (k int, a int, PRIMARY KEY (k))")
    db.execute(f"INSERT INTO {t} (k, a) VALUES (1, 2)")
    with Run(*way) as r:
        named, star = f"SELECT k, a FROM {t}", f"SELECT * FROM {t} WHERE k = 1"
        assert r.pages(named)[0]["columns"] == r.pages(star)[0]["columns"] == 2
        assert r.ok(".counters")[-1]["reprepares"] == 0
        db.execute(f"ALTER TABLE {t} ADD z text")
        (page,) = r.pages(named)
        assert page["columns"] == 2 and not page["shape_changed"] and page["rows"] == 1
        assert r.ok(".counters")[-1]["reprepares"] == 1
        out = r.ok(star)
        assert out[-1]["columns"] == 3 and out[-1]["shape_changed"] and out[-1]["types"] == ["int", "int", "text"]
        assert out[0] == {"k": "00000001", "a": "00000002", "z": None}
        (many,) = r.ok(f".many 500 SELECT a FROM {t} WHERE k = ?")
        db.execute(f"ALTER TABLE {t} ADD y text")
        before = r.ok(".counters")[-1]["reprepares"]
        (again,) = r.ok(f".many 500 SELECT a FROM {t} WHERE k = ?")
        assert many == again == {"answers": 500, "rows": 1}
        assert r.ok(".counters")[-1]["reprepares"] == before + 1, "of many in flight one prepares for all"


@pytest.mark.parametrize("way", [[], ["-4"]], ids=["v5", "v4"])
def test_columns_that_changed_behind_a_prepared_statement(db, keyspace, way):
    """Somebody else prepares the same text anew, so the server does not say UNPREPARED."""
    t = f"{keyspace}.st{len(way)}"
    db.execute(f"CREATE TABLE {t} (k int, a int, PRIMARY KEY (k))")
    db.execute(f"INSERT INTO {t} (k, a) VALUES (1, 2)")
    text = f"SELECT * FROM {t} WHERE k = 1"
    with Run(*way) as r:
        assert r.pages(text)[0]["columns"] == 2
        db.execute(f"ALTER TABLE {t} ADD b text")
        db.prepare(text)
        out = r.ok(text)
        assert r.ok(".counters")[-1]["reprepares"] == 0
        assert out[-1]["shape_changed"] and out[0] == {"k": "00000001", "a": "00000002", "b": None}
        out = r.ok(text)
        assert not out[-1]["shape_changed"] and out[-1]["columns"] == 3, "known from now on"


def test_the_control_connection_follows_the_schema(db, keyspace):
    name = f"ev_{uuid.uuid4().hex[:8]}"
    db.execute(f"CREATE TABLE {keyspace}.{name} (p int PRIMARY KEY)")
    with Run() as r:
        assert r.ok(f".find {name}") == [[keyspace]]
        time.sleep(1.5)  # its own connection is there
        db.execute(f"CREATE KEYSPACE {keyspace}_b WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}")
        try:
            db.execute(f"CREATE TABLE {keyspace}_b.{name} (p int PRIMARY KEY)")
            until = time.monotonic() + 10
            while (found := r.ok(f".find {name}")) == [[keyspace]] and time.monotonic() < until:
                time.sleep(0.1)
            assert found == [[keyspace, keyspace + "_b"]] or found == [[keyspace + "_b", keyspace]]
        finally:
            db.execute(f"DROP KEYSPACE {keyspace}_b")


# ---- schema and scans

def test_a_schema(db, keyspace):
    db.execute(f"CREATE TYPE {keyspace}.inner_t (a int, b text)")
    db.execute(f"CREATE TYPE {keyspace}.\"My Type\" (street text, tags frozen<set<text>>, loc frozen<inner_t>)")
    db.execute(f"CREATE TABLE {keyspace}.\"MixedCase\" (pk1 int, \"Pk2\" text, ck1 timestamp, ck2 int, s text static, d int, "
               "\"select\" map<text, int>, addr frozen<\"My Type\">, vec vector<float, 3>, "
               "PRIMARY KEY ((pk1, \"Pk2\"), ck1, ck2)) WITH CLUSTERING ORDER BY (ck1 DESC, ck2 ASC)")
    with Run() as r:
        (s,) = r.ok(f".schema {keyspace} MixedCase")
        assert [c["name"] for c in s["columns"]] == ["pk1", "Pk2", "ck1", "ck2", "s", "addr", "d", "select", "vec"]
        assert s["partition_keys"] == 2 and s["clustering"] == 2 and not s["counter"]
        assert [c["descending"] for c in s["columns"]][:4] == [False, False, True, False]
        prepared = r.pages(f"SELECT pk1, \"Pk2\", ck1, ck2, s, addr, d, \"select\", vec FROM {keyspace}.\"MixedCase\"")
        assert [c["type"] for c in s["columns"]] == prepared[0]["types"], "the schema's types are those of results"
        e = r.error(f".schema {keyspace} MixedCas")
        assert e["error"] == "user" and "did you mean 'MixedCase'" in e["text"]
        assert "no keyspace 'nosuch_ks'" in r.error(".schema nosuch_ks t")["text"]
        assert "MixedCase" in r.ok(f".tables {keyspace}")[0]
        db.execute(f"CREATE TABLE {keyspace}.counts (p int PRIMARY KEY, n counter)")
        assert r.ok(f".schema {keyspace} counts")[0]["counter"]


def test_tables_with_compact_storage(db, keyspace):
    """What the server stores beside the columns of CQL is not shown, and can't be selected."""
    tables = {"flat": ("k text PRIMARY KEY, b int, a text", ["k", "a", "b"]),
              "sorted": ("k text, c int, v int, PRIMARY KEY (k, c)", ["k", "c", "v"]),
              "keys": ("k text, c int, PRIMARY KEY (k, c)", ["k", "c"]),
              "plain": ("k text PRIMARY KEY, b int, a text", ["k", "a", "b"])}
    for name, (columns, _) in tables.items():
        db.execute(f"CREATE TABLE {keyspace}.{name} ({columns})" + (" WITH COMPACT STORAGE" if name != "plain" else ""))
        rest = {"sorted": ["c", "v"], "keys": ["c"]}.get(name, ["b"])
        db.execute(f"INSERT INTO {keyspace}.{name} (k, {', '.join(rest)}) VALUES ('x', {', '.join('1' for _ in rest)})")
    with Run() as r:
        for name, (_, want) in tables.items():
            assert [c["name"] for c in r.ok(f".schema {keyspace} {name}")[0]["columns"]] == want
            assert r.ok(f".scan {keyspace} {name} {','.join(want)} 1")[0]["rows"] == 1


PARTITIONS, ROWS = 1200, 100


@pytest.fixture(scope="module")
def large(db, keyspace):
    from cassandra.concurrent import execute_concurrent
    from cassandra.query import BatchStatement, BatchType
    db.execute(f"CREATE TABLE {keyspace}.large (p int, c int, v text, PRIMARY KEY (p, c))")
    insert = db.prepare(f"INSERT INTO {keyspace}.large (p, c, v) VALUES (?, ?, ?)")
    batches = []
    for p in range(PARTITIONS):
        batch = BatchStatement(BatchType.UNLOGGED)
        for c in range(ROWS):
            batch.add(insert, (p, c, f"value {p} {c}"))
        batches.append((batch, ()))
    execute_concurrent(db, batches, concurrency=8)
    return "large"


def test_a_plan_covers_the_ring_exactly(keyspace, large):
    with Run() as r:
        out = r.ok(f".plan {keyspace} {large} 65536 40")
        ranges = sorted((x["start"], x["end"]) for x in out[:-1])
        assert len(ranges) == out[-1]["ranges"] >= 16
        assert ranges[0][0] == -2**63 and ranges[-1][1] == 2**63 - 1
        assert all(a[1] == b[0] for a, b in zip(ranges, ranges[1:]))


@pytest.mark.parametrize("way", WAYS)
def test_a_scan_finds_what_the_driver_finds(db, keyspace, large, way):
    if way == "v5":  # the oracle, once
        assert sum(1 for _ in db.execute(f"SELECT p FROM {keyspace}.{large}", timeout=60)) == PARTITIONS * ROWS
    with Run(*WAYS[way]) as r:
        (out,) = r.ok(".rows 3000", f".scan {keyspace} {large} p,c,v 4")
        assert out["rows"] == PARTITIONS * ROWS and out["ranges"] >= 16


@pytest.mark.long
def test_a_server_that_wants_a_client_certificate():
    started = servers.ensure("cassandra-mtls")
    try:
        at = servers.address("cassandra-mtls")
        with Run("-t", "-c", servers.tls("client.pem"), "-y", servers.tls("client.key"), host=at.host, port=at.port) as r:
            assert "5.0.4" in r.ok(".describe")[0]
        e = refused("-t", "-x", "3000", host=at.host, port=at.port)
        assert e["error"] == "reach" and "client certificate" in e["text"], e
    finally:
        servers.stop(*started)
