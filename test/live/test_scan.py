"""What is read of a table: wide partitions, static columns, conditions, times of writing, against the server's own answers."""
import datetime
import decimal
import json
import random
import socket
import threading
import time

import pytest

WIDE = 12000


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def run_all(db, statement, rows):
    prepared = db.prepare(statement)
    for first in range(0, len(rows), 200):
        for future in [db.execute_async(prepared, row) for row in rows[first:first + 200]]:
            future.result()


@pytest.fixture(scope="module")
def wide(db, keyspace):
    """One partition of WIDE rows, and 20 small ones around it."""
    db.execute(f"CREATE TABLE {keyspace}.wide (p int, c int, id int, text text, PRIMARY KEY (p, c))")
    rng = random.Random(1)  # nothing that compresses to nothing
    run_all(db, f"INSERT INTO {keyspace}.wide (p, c, id, text) VALUES (?, ?, ?, ?)",
            [(p, 0, WIDE + p, "small") for p in range(1, 21)] + [(0, c, c, rng.randbytes(150).hex()) for c in range(WIDE)])
    return f"{keyspace}.wide"


@pytest.mark.parametrize("kills", [1, 3])
def test_a_wide_partition_is_gone_on_with_inside(program, between, wide, db, tmp_path, kills):
    out = tmp_path / "rows.ndjson"
    args = ["sync", wide, "--to", out, "--memory", "4MiB", *between.cassandra_args]
    between.cassandra.set(bytes_per_s=400e3)
    sizes = []
    for n in range(kills):
        with program.start(*args) as running:
            end = time.monotonic() + 60
            least = (out.stat().st_size if n else 0) + 300000
            while (not out.exists() or out.stat().st_size < least) and running.process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            assert running.process.poll() is None, running.err()
        sizes.append(len(rows_of_whole_lines(out)))
    assert 20 < sizes[0] and sizes[-1] < WIDE and sizes == sorted(set(sizes)), "killed inside the partition, each time further on"
    between.cassandra.set(bytes_per_s=0)
    before = between.cassandra.bytes["down"]
    done = program.run(*args)
    assert done.code == 0 and "went on" in done.out, done
    assert sorted(r["id"] for r in rows_of(out)) == list(range(WIDE)) + list(range(WIDE + 1, WIDE + 21))
    assert between.cassandra.bytes["down"] > before


def rows_of_whole_lines(path):
    return [line for line in path.read_text().split("\n")[:-1]]


def test_partitions_with_static_columns_only(program, db, keyspace, cassandra_args):
    db.execute(f"CREATE TABLE {keyspace}.st (p int, c int, s text static, l list<int> static, v text, PRIMARY KEY (p, c))")
    for p in range(30):
        db.execute(f"INSERT INTO {keyspace}.st (p, s, l) VALUES (%s, %s, %s)", (p, f"s{p}", [p]))
        for c in range(p % 3):
            db.execute(f"INSERT INTO {keyspace}.st (p, c, v) VALUES (%s, %s, 'v')", (p, c))
    done = program.run("sync", f"{keyspace}.st", "--to", "-", *cassandra_args)
    want = [{k: v for k, v in r._asdict().items() if v is not None} for r in db.execute(f"SELECT * FROM {keyspace}.st")]
    key = lambda r: (r["p"], r.get("c", -1))  # noqa: E731
    assert sorted(map(json.loads, done.out.splitlines()), key=key) == sorted(want, key=key)
    assert sum("c" not in r for r in want) == 10


def test_counters_views_and_tables_of_keys_only(program, db, keyspace, cassandra_args):
    db.execute(f"CREATE TABLE {keyspace}.hits (page text PRIMARY KEY, n counter)")
    db.execute(f"CREATE TABLE {keyspace}.only (a int, b int, c int, PRIMARY KEY ((a, b), c))")
    for i in range(20):
        db.execute(f"UPDATE {keyspace}.hits SET n = n + %s WHERE page = %s", (i, f"p{i}"))
        db.execute(f"INSERT INTO {keyspace}.only (a, b, c) VALUES (%s, %s, %s)", (i % 3, i % 2, i))

    def read(table, *more):
        done = program.run("sync", f"{keyspace}.{table}", "--to", "-", *more, *cassandra_args)
        return done, sorted(json.dumps(json.loads(line), sort_keys=True) for line in done.out.splitlines())

    def as_json(rows):
        return sorted(json.dumps(r, sort_keys=True) for r in rows)
    assert read("hits")[1] == as_json({"page": f"p{i}", "n": i} for i in range(20))
    assert read("only")[1] == as_json({"a": i % 3, "b": i % 2, "c": i} for i in range(20))
    assert read("only", "--where", "b = 1 AND c > 10")[1] == as_json({"a": i % 3, "b": 1, "c": i} for i in range(11, 20, 2))
    done = read("hits", "--columns", "page,writetime(n)")[0]
    assert done.code == 2 and 'column "n" has no writetime: it is a counter' in done.err


# ---- conditions

@pytest.fixture(scope="module")
def many(db, keyspace):
    db.execute(f"CREATE TABLE {keyspace}.many (p int, c int, st text static, n int, d decimal, f double, tags set<text>, props map<text, int>, "
               f"u uuid, tu timeuuid, at timestamp, day date, b boolean, ip inet, v varint, raw blob, t text, PRIMARY KEY (p, c))")
    rng = random.Random(4)
    maybe = lambda v: None if rng.random() < 0.2 else v  # noqa: E731
    run_all(db, f"INSERT INTO {keyspace}.many (p, c, st, n, d, f, tags, props, at, day, b, ip, v, raw, t) "
                f"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(p, c, f"s{p % 4}", maybe(rng.randrange(5)), maybe(decimal.Decimal(rng.randrange(-99, 99)).scaleb(-rng.randrange(3))),
              maybe(rng.choice([0.0, -0.0, 1.5, -2.25, float("inf"), float("nan")])), maybe({f"t{c % 3}", "q"}), maybe({f"k{c % 4}": c % 5}),
              maybe(datetime.datetime(2024, 1, 1 + rng.randrange(20))), maybe(datetime.date(2024, 2, 1 + rng.randrange(20))),
              maybe(rng.random() < 0.5), maybe(f"10.0.0.{rng.randrange(9)}"), maybe(rng.choice([-2**70, -129, -1, 0, 127, 128, 2**70])),
              maybe(bytes([rng.randrange(256)])), maybe(rng.choice(["", "a", "ab", "b", "ü"]))) for p in range(40) for c in range(12)])
    for p in range(40, 46):
        db.execute(f"INSERT INTO {keyspace}.many (p, st) VALUES (%s, 's9')", (p,))
    return f"{keyspace}.many"


# As the server's CQL, with ALLOW FILTERING.
SAME = ["n = 3", "n > 1 AND n <= 3", "p = 7", "p = 7 AND c >= 4", "p IN (1, 2)", "c IN (1, 2, 3)", "c > 8", "d > 0", "d = 1.0", "d <= -3.5", "f > 1", "f < 0",
        "f >= 0.0", "tags CONTAINS 't1'", "props CONTAINS KEY 'k2'", "props CONTAINS 3 AND n = 1", "st = 's1'", "st = 's9'", "at > '2024-01-11T00:00:00Z'",
        "day <= '2024-02-07'", "b = true", "ip > '10.0.0.4'", "v > 0", "v <= -129", "v = 1180591620717411303424", "raw >= 0x80", "t > 'a'", "t = ''",
        "t = 'ü' AND n > 0"]


def keys_of(rows):
    """Each key as often as it comes."""
    return sorted((r["p"], -1 if r.get("c") is None else r["c"]) for r in rows)


@pytest.mark.parametrize("text", SAME)
def test_conditions_give_the_rows_that_cql_gives(program, db, many, cassandra_args, text):
    want = keys_of(r._asdict() for r in db.execute(f"SELECT p, c FROM {many} WHERE {text} ALLOW FILTERING"))
    done = program.run("sync", many, "--to", "-", "--columns", "p,c", "--where", text, *cassandra_args)
    assert done.code == 0, done
    assert keys_of(map(json.loads, done.out.splitlines())) == want


class NoFiltering(threading.Thread):
    """A way to Cassandra on which ALLOW FILTERING is no word that it knows: plain protocol v4, bytes changed in passing."""

    def __init__(self, host, port):
        super().__init__(daemon=True)
        self.to, self.refused, self.listener = (host, port), 0, socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection(self.to)
            for a, b, change in ((near, far, True), (far, near, False)):
                threading.Thread(target=self.copy, args=(a, b, change), daemon=True).start()

    def copy(self, a, b, change):
        try:
            while data := a.recv(1 << 20):
                self.refused += change and data.count(b" ALLOW FILTERING")
                b.sendall(data.replace(b" ALLOW FILTERING", b" ALLOW FILTERONG") if change else data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.fixture(scope="module")
def no_filtering(cassandra):
    way = NoFiltering(cassandra.host, cassandra.port)
    yield way
    way.listener.close()


@pytest.mark.parametrize("text", SAME)
def test_conditions_applied_here_give_the_same(program, db, many, cassandra, cassandra_args, no_filtering, text):
    want = keys_of(r._asdict() for r in db.execute(f"SELECT p, c FROM {many} WHERE {text} ALLOW FILTERING"))
    refused = no_filtering.refused
    done = program.run("sync", many, "--to", "-", "--columns", "p,c", "--where", text, "--json", *cassandra_args, "--cassandra-port", no_filtering.port,
                       "--cassandra-hosts", "127.0.0.1", "--address-map", f"{cassandra}=127.0.0.1:{no_filtering.port}", "--cassandra-protocol", 4,
                       "--cassandra-compression", "none")
    assert done.code == 0, done
    assert keys_of(map(json.loads, done.out.splitlines())) == want
    assert no_filtering.refused > refused
    counts = json.loads([line for line in done.err.splitlines() if line.startswith('{"run"')][0])
    assert counts["documents"] == len(want) and counts["rows"] == counts["filtered"] + len(want) == 40 * 12 + 6


# ---- times

def test_times_of_writing_and_of_life(program, db, keyspace, cassandra_args):
    db.execute(f"CREATE TYPE {keyspace}.pair (a int, b text)")
    db.execute(f"CREATE TABLE {keyspace}.times (p int, c int, s text static, v text, n int, fz frozen<list<int>>, l list<int>, lt list<int>, m map<text, int>, "
               f"u pair, fu frozen<pair>, PRIMARY KEY (p, c))")
    for i in range(20):
        db.execute(f"INSERT INTO {keyspace}.times (p, c, s, v, fz, l, m, u, fu) VALUES ({i}, {i}, 's', 'v{i}', [1, 2], [3, 4, 5], {{'a': 1}}, "
                   f"{{a: 1, b: 'x'}}, {{a: 2, b: 'y'}}) USING TIMESTAMP {1000 + i}")
        db.execute(f"UPDATE {keyspace}.times USING TIMESTAMP {2000 + i} SET m['b'] = 2 WHERE p = {i} AND c = {i}")
        db.execute(f"UPDATE {keyspace}.times USING TTL 100000 AND TIMESTAMP {1500 + i} SET n = {i}, lt = [7, 8] WHERE p = {i} AND c = {i}")
    db.execute(f"INSERT INTO {keyspace}.times (p, c, v) VALUES (99, 1, 'old') USING TIMESTAMP -5")
    selectors = ["writetime(s)", "writetime(v)", "writetime(n)", "writetime(fz)", "writetime(l)", "writetime(m)", "writetime(u)", "writetime(fu)",
                 "maxwritetime(m)", "maxwritetime(v)", "writetime(lt)", "ttl(n)", "ttl(lt)", "ttl(v)"]
    done = program.run("sync", f"{keyspace}.times", "--to", "-", "--columns", ",".join(["p", *selectors]), *cassandra_args)
    assert done.code == 0, done
    got = {r["p"]: r for r in map(json.loads, done.out.splitlines())}
    wanted = db.execute("SELECT JSON p, " + ", ".join(selectors) + f" FROM {keyspace}.times")
    count = 0
    for row in (json.loads(r[0]) for r in wanted):
        for s in selectors:
            value, mine = row[s], got[row["p"]].get(s)
            if s.startswith("ttl") and value is not None:  # counts down
                value = value if isinstance(value, list) else [value]
                mine = mine if isinstance(mine, list) else [mine]
                assert len(value) == len(mine)
                assert all((a is None) == (b is None) and (a is None or abs(a - b) < 60) for a, b in zip(value, mine)), (s, value, mine)
            else:
                assert mine == value, (row["p"], s, mine, value)
        count += 1
    assert count == len(got) == 21
    assert got[3]["writetime(m)"] == [1003, 2003] and got[3]["maxwritetime(m)"] == 2003 and got[99]["writetime(v)"] == -5


def test_a_sample_reads_a_part(program, db, keyspace, cassandra_args):
    db.execute(f"CREATE TABLE {keyspace}.parts (id int PRIMARY KEY)")
    run_all(db, f"INSERT INTO {keyspace}.parts (id) VALUES (?)", [(i,) for i in range(5000)])
    one, two = (program.run("sync", f"{keyspace}.parts", "--to", "-", "--sample", "10%", "--workers", n, *cassandra_args) for n in (1, 4))
    ids = sorted(json.loads(line)["id"] for line in one.out.splitlines())
    assert one.code == 0 and 400 < len(ids) < 600
    assert ids == sorted(json.loads(line)["id"] for line in two.out.splitlines())
    limited = program.run("sync", f"{keyspace}.parts", "--to", "-", "--limit", 123, *cassandra_args)
    assert len(set(limited.out.splitlines())) == len(limited.out.splitlines()) == 123
