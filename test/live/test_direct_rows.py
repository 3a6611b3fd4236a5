"""Which rows of a table become documents of a real index, under each versioning, while somebody writes."""
import gzip
import json
import threading
import time

import pytest
from test_scan import run_all

MODES = ("read_time", "sequence", "write_time", "none")
N = 3000


def n_of(i):
    return i % 10 if i % 4 else None


@pytest.fixture(scope="module")
def table(db, keyspace):
    db.execute(f"CREATE TABLE {keyspace}.items (p int, c int, st text static, n int, v text, tags set<text>, PRIMARY KEY (p, c))")
    run_all(db, f"INSERT INTO {keyspace}.items (p, c, st, n, v, tags) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP 1700000000000000",
            [(i % 100, i, f"s{i % 3}", n_of(i), f"v{i}", {f"t{i % 5}"}) for i in range(N)])
    for p in range(200, 220):  # static columns only
        db.execute(f"INSERT INTO {keyspace}.items (p, st) VALUES ({p}, 'alone')")
    return f"{keyspace}.items"


@pytest.fixture
def sync(program, table, cassandra_args, elastic, index, tmp_path):
    keyspace, name = table.split(".")

    def run(mode, *flags, table=name, columns="", at=None, start=False):
        if not elastic.call("HEAD", f"/{index}")[0] == 200:
            elastic.create(index, mappings={"properties": {}})
        path = tmp_path / "m.yaml"
        path.write_text(f"object: item\nsource: {{keyspace: {keyspace}, table: {table}{columns}}}\ntarget: {{index: {index}}}\nnulls: omit\n"
                        f"versioning: {mode}\n")
        args = ["sync", "--mapping", path, *(at or [*cassandra_args, "--elastic-url", elastic.url]), "--json", *flags]
        if start:
            return program.start(*args)
        done = program.run(*args)
        assert done.code == 0, done
        counts = json.loads(done.out)
        assert counts["rows"] == counts["filtered"] + counts["merged"] + counts["documents"]
        return counts
    return run


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text,wanted", [("n >= 3 AND n < 6", lambda i: n_of(i) in (3, 4, 5)), ("n != 3", lambda i: n_of(i) not in (3, None)),
                                         ("tags CONTAINS 't2' AND n IS NOT NULL", lambda i: i % 5 == 2 and n_of(i) is not None),
                                         ("c < 1500 AND p > 50", lambda i: i < 1500 and i % 100 > 50)])
def test_conditions(sync, elastic, index, mode, text, wanted):
    counts = sync(mode, "--where", text)
    want = {f"v{i}" for i in range(N) if wanted(i)}
    assert {d["v"] for d in elastic.docs(index, size=N).values()} == want and counts["documents"] == len(want)


@pytest.mark.parametrize("mode", ["read_time", "sequence", "none"])
def test_a_static_row_fulfils_or_not(sync, elastic, index, mode):
    counts = sync(mode, "--where", "st = 'alone'")
    assert counts["documents"] == 20 and {d["p"] for d in elastic.docs(index).values()} == set(range(200, 220))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [1, 777])
def test_a_limit(sync, elastic, index, mode, limit):
    counts = sync(mode, "--limit", limit, "--where", "c >= 0")
    assert counts["documents"] == elastic.count(index) == limit


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_a_sample(sync, elastic, index, mode):
    first = sync(mode, "--sample", "20%")
    assert first["documents"] == elastic.count(index) and 100 < first["documents"] < 1500
    sync(mode, "--sample", "20%", "--workers", 2, "--fresh")
    assert elastic.count(index) == first["documents"]


@pytest.mark.parametrize("mode", MODES)
def test_times_of_writing(sync, elastic, index, mode):
    sync(mode, "--where", "v IN ('v7', 'v9')", columns=", columns: [v, writetime(v), ttl(v), writetime(st)]")
    times = {d["v"]: d["writetime(v)"] for d in elastic.docs(index).values()}
    assert times == {"v7": 1700000000000000, "v9": 1700000000000000}
    assert all(d["writetime(st)"] == 1700000000000000 and "ttl(v)" not in d for d in elastic.docs(index).values())


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_while_rows_leave_the_condition(sync, db, keyspace, elastic, index, mode):
    """A row that never fulfils it makes no document; one that always does has one."""
    name = f"busy_{mode}"
    db.execute(f"CREATE TABLE {keyspace}.{name} (id int PRIMARY KEY, state text, v int)")
    run_all(db, f"INSERT INTO {keyspace}.{name} (id, state, v) VALUES (?, ?, 0)", [(i, "no" if i % 3 == 2 else "yes") for i in range(N)])
    stop = threading.Event()

    def write():
        flip = db.prepare(f"UPDATE {keyspace}.{name} SET state = ?, v = ? WHERE id = ?")
        for round_ in range(1, 1000):
            for i in range(1, N, 30):
                if stop.is_set():
                    return
                db.execute(flip, ("no" if round_ % 2 else "yes", round_, i - i % 3 + 1))
    writer = threading.Thread(target=write)
    writer.start()
    counts = sync(mode, "--where", "state = 'yes'", table=name)
    stop.set()
    writer.join()
    ids = {d["id"] for d in elastic.docs(index, size=N).values()}
    assert {i for i in range(N) if i % 3 == 0} <= ids and not any(i % 3 == 2 for i in ids)
    assert counts["failed"] == 0 and all(d["state"] == "yes" for d in elastic.docs(index, size=N).values())


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_a_limit_after_kills(sync, between, elastic, index, mode):
    at = [*between.cassandra_args, *between.elastic_args]
    between.cassandra.set(bytes_per_s=20e3)
    for least in (1, 400):
        with sync(mode, "--limit", 2000, "--memory", "8MiB", at=at, start=True) as running:
            end = time.monotonic() + 50
            while elastic.count(index) < least and running.process.poll() is None and time.monotonic() < end:
                time.sleep(0.02)
            assert running.process.poll() is None, running.err()
            running.kill()
    between.cassandra.set(bytes_per_s=0)
    counts = sync(mode, "--limit", 2000, "--memory", "8MiB", at=at)
    assert counts["documents"] == 2000 <= elastic.count(index)


def test_a_packed_file_after_kills(program, between, table, tmp_path):
    out = tmp_path / "rows.ndjson.gz"
    args = ["sync", table, "--to", out, "--memory", "4MiB", "--where", "c >= 0", *between.cassandra_args]
    between.cassandra.set(bytes_per_s=20e3)
    for least in (1000, 4000):
        with program.start(*args) as running:
            end = time.monotonic() + 50
            while (not out.exists() or out.stat().st_size < least) and running.process.poll() is None and time.monotonic() < end:
                time.sleep(0.02)
            assert running.process.poll() is None, running.err()
            running.kill()
    between.cassandra.set(bytes_per_s=0)
    done = program.run(*args)
    assert done.code == 0 and "went on" in done.out, done
    assert sorted(json.loads(line)["c"] for line in gzip.decompress(out.read_bytes()).splitlines()) == list(range(N))
