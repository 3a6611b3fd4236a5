"""An _id that doesn't hold the whole key: rows that share one are counted, and warned about."""
import json
import re

import peer_http
import pytest
from flow import cass, says

MAPPING = """object: enrolment
source: {keyspace: shop, table: enrolments, key: [userid, courseid, batchid]}
target: {index: enrolments, id: "%s"}
versioning: sequence
"""
LINE = "rows with the _id of another"


@pytest.fixture
def elastic():
    with peer_http.Elastic() as e:
        e.index("enrolments", mappings={"properties": {}}, settings={"gc_deletes": "1h"})
        yield e


@pytest.fixture
def table(make_ring):
    """User u0 is in batch b0 under three courses, u1 in b1 under two; all others are in one each."""
    ring = make_ring()
    rows = [("u0", "c0", "b0"), ("u0", "c1", "b0"), ("u0", "c2", "b0"), ("u1", "c0", "b1"), ("u1", "c1", "b1"), ("u1", "c1", "b2"), ("u2", "c0", "b0")]
    table = ring.table("shop", "enrolments", "userid text, courseid text, batchid text", "userid", ["courseid", "batchid"], rows=rows)
    with ring:
        table.ring = ring
        yield table


@pytest.fixture
def sync(program, table, elastic):
    def run(*more, id_="{batchid}_{userid}"):
        mapping = program.file("enrolments.yaml", MAPPING % id_)
        return program.run("sync", "--mapping", mapping, "--elastic-url", elastic.url, *cass(table.ring), *more)
    return run


# The last course of each.
LATEST = {"b0_u0": "c2", "b1_u1": "c1", "b2_u1": "c1", "b0_u2": "c0"}


def courses(elastic):
    return {i: d["courseid"] for i, d in elastic.sources("enrolments").items()}


def seq_nos(elastic):
    return {i: d["_seq_no"] for i, d in elastic.indices["enrolments"].items()}


def by_scan(program):
    return []


def by_ids(program):
    return ["--id-file", program.file("ids.txt", "u0\nu1\nu2\n")]


@pytest.mark.parametrize("how", [by_scan, by_ids])
def test_collisions(sync, program, elastic, how):
    done = sync("--json", *how(program))
    counts = json.loads(done.out)
    assert done.code == 0 and (counts["id_collision"], counts["rows"], counts["merged"], counts["indexed"]) == (3, 7, 3, 4), done
    assert courses(elastic) == LATEST
    assert re.findall(r"level=warn event=id_collision object=enrolment why=", done.err), done
    assert done.err.count("id_collision") == 1 and "b0_u0" not in done.err and "b1_u1" not in done.err, done
    shown = sync("--fresh", "--log-level", "debug", *how(program)).err
    assert re.search(r"level=debug event=id_collision object=enrolment id=(b0_u0|b1_u1)", shown), shown
    says(sync("--fresh", *how(program)), rf"{LINE} +3\b", r"merged +3\b", code=0)


def test_a_run_warns_once(sync, program, table, elastic):
    """Whatever worker meets it."""
    table.put([("v%d" % n, "c%d" % c, "b") for n in range(900) for c in range(2)])
    for how in ((), ("--id-file", program.file("ids.txt", "".join("v%d\n" % n for n in range(900))))):
        done = sync("--json", "--fresh", "--workers", "4", *how)
        assert json.loads(done.out)["id_collision"] >= 900 and done.err.count("id_collision") == 1, done


@pytest.mark.parametrize("how", [by_scan, by_ids])
def test_the_later_row_stays_the_one(sync, program, elastic, how):
    """A second sync of what has not changed writes nothing; another row takes its turn when the later one has no document."""
    assert sync(*how(program)).code == 0
    before = seq_nos(elastic)
    counts = json.loads(sync("--json", "--fresh", *how(program)).out)
    assert (counts["unchanged"], counts["merged"], counts["indexed"]) == (4, 3, 0), counts
    assert courses(elastic) == LATEST and seq_nos(elastic) == before
    if how == by_scan:
        counts = json.loads(sync("--json", "--fresh", "--where", "courseid < 'c2'").out)
        assert (counts["merged"], counts["indexed"], counts["unchanged"]) == (2, 1, 3), counts
        assert courses(elastic) == {**LATEST, "b0_u0": "c1"}


@pytest.mark.parametrize("how", [by_scan, by_ids])
def test_an_id_of_the_whole_key(sync, program, elastic, how):
    done = sync("--json", *how(program), id_="{batchid}_{userid}_{courseid}")
    counts = json.loads(done.out)
    assert done.code == 0 and (counts["id_collision"], counts["documents"]) == (0, 7) and "id_collision" not in done.err, done
    assert len(elastic.sources("enrolments")) == 7
    done = sync("--fresh", *how(program), id_="{batchid}_{userid}_{courseid}")
    assert done.code == 0 and LINE not in done.out, done
