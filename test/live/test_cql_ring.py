"""src/cql against three real nodes: tokens, routing, and a node that goes away under a scan."""
import threading
import uuid

import cqlrun
import pytest
import servers

pytestmark = pytest.mark.long
RING = ["ring1", "ring2", "ring3"]
PARTITIONS, ROWS = 1500, 40


@pytest.fixture(scope="module")
def three():
    started = servers.ensure(*RING)
    db = servers.ring_session()
    name = f"t_ring_{uuid.uuid4().hex[:6]}"
    servers.create_keyspace(db, name, replicas=3)
    db.execute(f"CREATE TABLE {name}.t (p int, c int, v text, PRIMARY KEY (p, c))", timeout=60)
    from cassandra.concurrent import execute_concurrent
    from cassandra.query import BatchStatement, BatchType
    insert = db.prepare(f"INSERT INTO {name}.t (p, c, v) VALUES (?, ?, ?)")
    insert.consistency_level = 5  # ALL
    batches = []
    for p in range(PARTITIONS):
        batch = BatchStatement(BatchType.UNLOGGED, consistency_level=5)
        for c in range(ROWS):
            batch.add(insert, (p, c, f"value {p} {c} " + "x" * 100))
        batches.append((batch, ()))
    execute_concurrent(db, batches, concurrency=6)
    yield name
    db.execute(f"DROP KEYSPACE {name}", timeout=60)
    db.cluster.shutdown()
    servers.stop(*started)


def run(*flags, **more):
    at = servers.address("ring1")
    return cqlrun.CqlRun(at.host, at.port, *flags, user=servers.setting("USER"), password=servers.setting("PASSWORD"), **more)


def test_all_nodes_hold_the_data(three):
    with run() as r:
        assert "3 nodes" in r.ok(".describe")[0]
        out = r.ok(f".plan {three} t 65536 40")
        ranges = sorted((x["start"], x["end"]) for x in out[:-1])
        assert ranges[0][0] == -2**63 and ranges[-1][1] == 2**63 - 1 and all(a[1] == b[0] for a, b in zip(ranges, ranges[1:]))
        assert {x["node"] for x in out[:-1]} == {0, 1, 2}
        (scan,) = r.ok(".rows 1000", f".scan {three} t p,c,v 3")
        assert scan["rows"] == PARTITIONS * ROWS
        assert r.ok(".counters")[-1]["retries_other_node"] == 0


def test_a_node_goes_and_comes_back_under_a_scan(three):
    with run("-r", "4000", "-x", "2000") as r:
        r.ok(".sleep 1500")
        stopper = threading.Thread(target=servers.stop, args=("ring2",))
        stopper.start()
        rows = []
        while stopper.is_alive():
            (scan,) = r.ok(".rows 100", f".scan {three} t p,c,v 3")
            rows.append(scan["rows"])
        stopper.join()
        (scan,) = r.ok(f".scan {three} t p,c,v 3")
        # A worker met the node that was gone, or the others' word came first: no row is missing either way.
        assert rows and set(rows) == {PARTITIONS * ROWS} and scan["rows"] == PARTITIONS * ROWS
        servers.start_again("ring2")
        (scan,) = r.ok(f".scan {three} t p,c,v 3")
        assert scan["rows"] == PARTITIONS * ROWS
