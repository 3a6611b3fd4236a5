"""Faults between the program and real servers: nothing lost, nothing twice, a clear word."""
import json
import re
import time

import pytest
from direct_live import counts_of, documents, make_index, make_table, what_to_sync
from proxy import Fault, Storm

ROWS = 20000


@pytest.fixture(scope="module")
def table(db, keyspace):
    """KEYSPACE.TABLE of ROWS rows, partitions of 20; `id` is 0 .. ROWS-1."""
    db.execute(f"CREATE TABLE {keyspace}.faults (p int, c int, id int, text text, PRIMARY KEY (p, c))")
    insert = db.prepare(f"INSERT INTO {keyspace}.faults (p, c, id, text) VALUES (?, ?, ?, ?)")
    for first in range(0, ROWS, 200):
        for future in [db.execute_async(insert, (i // 20, i % 20, i, "x" * 200)) for i in range(first, first + 200)]:
            future.result()
    return f"{keyspace}.faults"


def ids_of(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_the_proxy_is_not_gone_around(program, between, table, tmp_path):
    out = tmp_path / "rows.ndjson"
    result = program.run("sync", table, "--to", out, *between.cassandra_args)
    assert result.code == 0, result
    assert sorted(ids_of(out)) == list(range(ROWS))
    assert between.cassandra.bytes["down"] > ROWS * 200 / 20  # compressed


@pytest.mark.parametrize("seed", [1, 2] + [pytest.param(s, marks=pytest.mark.long) for s in range(3, 23)])
def test_rows_to_a_file_through_a_storm(program, between, table, tmp_path, seed):
    out = tmp_path / "rows.ndjson"
    slow = Fault(bytes_per_s=250e3)  # so that it takes long enough for a storm
    with Storm([between.cassandra], seed, calm_s=(0.1, 0.4), fault_s=(0.05, 0.4), base=slow) as storm:
        result = program.run("sync", table, "--to", out, *between.cassandra_args)
    assert result.code == 0, (result, storm.log)
    assert len(storm.log) >= 2, "too fast for a storm"
    assert sorted(ids_of(out)) == list(range(ROWS))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 11))
def test_rows_to_an_index_through_storms_on_both_sides(program, between, elastic, index, table, seed):
    elastic.create(index, {"dynamic": "false", "properties": {"id": {"type": "integer"}}}, {"gc_deletes": "1h"})
    slow = Fault(bytes_per_s=300e3)
    with Storm([between.cassandra, between.elastic], seed, calm_s=(0.5, 0.9), fault_s=(0.05, 0.4), base=slow) as storm:
        result = program.run("sync", table, "--index", index, "--json", *between.cassandra_args, *between.elastic_args, timeout=300)
    assert result.code == 0, (result, storm.log)
    counts = json.loads(result.out)
    assert counts["rows"] == counts["documents"] == ROWS == counts["indexed"] + counts["stale"], (counts, storm.log)
    docs = elastic.docs(index, 5000)
    assert len(docs) == ROWS
    assert all(id_ == f"{d['p']}:{d['c']}" and d["id"] == d["p"] * 20 + d["c"] for id_, d in docs.items())
    assert len(storm.log) >= 2


def test_a_server_that_stays_away_is_named_and_the_run_goes_on_later(program, between, table, tmp_path):
    out = tmp_path / "rows.ndjson"
    between.cassandra.set(bytes_per_s=150e3)
    with program.start("sync", table, "--to", out, "--retry-budget", "1s", *between.cassandra_args) as running:
        end = time.monotonic() + 30
        while between.cassandra.bytes["down"] < 200000 and running.process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        between.cassandra.down()
        result = running.wait()
    assert result.code == 3, result
    assert re.search(r"127\.0\.0\.1", result.err) and "run the same command again" in result.out, result
    between.cassandra.up()
    between.cassandra.set(bytes_per_s=0)
    result = program.run("sync", table, "--to", out, "--retry-budget", "1s", *between.cassandra_args)
    assert result.code == 0, result
    assert sorted(ids_of(out)) == list(range(ROWS))


# --- direct sync -------------------------------------------------------------------------------------

SMALL = 3000
KINDS = {
    "latency": Fault(latency_ms=60, jitter_ms=60),
    "slow": Fault(bytes_per_s=100e3, way="both"),
    "reset": Fault(reset_mean=20000, seed=1),
    "reset up": Fault(reset_mean=20000, way="up", seed=2),
    "cut off": Fault(cut_after=15000),
    "half-open": Fault(swallow=True, way="down"),
    "half-open up": Fault(swallow=True, way="up"),
    "frozen": Fault(freeze=True, way="both"),
    "refused": Fault(refuse=True),
}
SHORT = {("read_time", "elastic", "half-open"), ("read_time", "elastic", "reset"), ("sequence", "elastic", "cut off"),
         ("sequence", "cassandra", "half-open up"), ("read_time", "cassandra", "reset"), ("sequence", "cassandra", "cut off"),
         ("sequence", "elastic", "half-open"), ("read_time", "elastic", "refused"), ("read_time", "elastic", "half-open up")}
QUICK = ["--request-timeout", "10s", "--cassandra-request-timeout", "10s"]


@pytest.fixture(scope="module")
def small(db, keyspace):
    return make_table(db, f"{keyspace}.small", SMALL)


@pytest.mark.parametrize("mode,side,kind", [pytest.param(m, s, k, marks=[] if (m, s, k) in SHORT else pytest.mark.long)
                                            for m in ("read_time", "sequence") for s in ("cassandra", "elastic") for k in KINDS])
def test_one_fault_on_one_side(program, between, elastic, index, small, tmp_path, mode, side, kind):
    """It comes over connections that are in use, lasts for 1.5 s and goes; what was half-open is reset then, as a firewall does.

    The run takes 5 s at least, so that it is still there for the fault."""
    make_index(elastic, index)
    proxy = getattr(between, side)
    for p in (between.cassandra, between.elastic):
        p.set(bytes_per_s=250e3)
    command = [*what_to_sync(tmp_path, small, index, mode), "--json", "--workers", 4, "--max-docs-per-s", 600, *QUICK, *between.cassandra_args, *between.elastic_args]
    with program.start(*command) as running:
        end = time.monotonic() + 30
        while proxy.bytes["down"] < 40000 and running.process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        assert running.process.poll() is None, "too fast for a fault"
        proxy.use(KINDS[kind])
        if KINDS[kind].refuse:
            proxy.drop()
        time.sleep(1.5)
        proxy.clear()
        if KINDS[kind].swallow:
            proxy.drop()
        result = running.wait(90)
    c = counts_of(result)
    assert c["rows"] == SMALL and c["failed"] == 0, c
    assert elastic.docs(index, 5000) == documents(SMALL)


@pytest.mark.parametrize("mode", ["read_time", pytest.param("sequence", marks=pytest.mark.long)])
@pytest.mark.parametrize("seed", [1, *[pytest.param(s, marks=pytest.mark.long) for s in range(2, 11)]])
def test_storms_in_both_modes(program, between, elastic, index, small, tmp_path, seed, mode):
    make_index(elastic, index)
    slow = Fault(bytes_per_s=200e3)
    command = [*what_to_sync(tmp_path, small, index, mode), "--json", "--workers", 4, *QUICK, *between.cassandra_args, *between.elastic_args]
    with Storm([between.cassandra, between.elastic], seed, calm_s=(0.2, 0.8), fault_s=(0.05, 0.4), base=slow) as storm:
        result = program.run(*command, timeout=110 if mode == "read_time" else 600)
    c = counts_of(result)
    assert c["rows"] == SMALL and c["failed"] == 0, (c, storm.log)
    assert elastic.docs(index, 5000) == documents(SMALL), storm.log
    assert len(storm.log) >= 2, "too fast for a storm"


def test_an_index_that_stays_away_is_named(program, between, elastic, index, small, tmp_path):
    make_index(elastic, index)
    between.elastic.set(bytes_per_s=200e3)
    command = [*what_to_sync(tmp_path, small, index, "read_time"), "--workers", 4, *between.cassandra_args, *between.elastic_args]
    with program.start(*command, "--retry-budget", "1s") as running:
        end = time.monotonic() + 30
        while between.elastic.bytes["up"] < 60000 and running.process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        between.elastic.down()
        result = running.wait(30)
    assert result.code == 3, result
    assert f"127.0.0.1:{between.elastic.port}" in result.err and "gave up" in result.err and "run the same command again" in result.out, result
    between.elastic.up()
    c = counts_of(program.run(*command, "--json"))
    assert c["rows"] == SMALL and elastic.docs(index, 5000) == documents(SMALL)
