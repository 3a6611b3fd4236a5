"""Columns that are dropped under a run: of tables that steps read, of partitions; and for a file."""
import json

import peer_http
import pytest
from flow import QUICK, cass, rows_of, says
from peer_cql import call
from peer_http import Reply

CHILDREN = """object: item
source: {keyspace: shop, table: items, key: [id]}
target: {index: docs, id: "{id}"}
steps:
  - lookup: {field: team, table: teams, key: {id: "{team}"}, take: name, missing: omit}
  - children: {field: parts, table: parts, by: {item: "{id}"}, each: [{drop: [item]}]}
versioning: %s
"""
PARTITIONS = """object: part
source: {keyspace: shop, table: parts, key: [item, no]}
target: {index: docs, id: "{item}"}
rows: {field: parts}
versioning: %s
"""
N = 60


@pytest.fixture
def elastic():
    with peer_http.Elastic() as e:
        yield e.index("docs", mappings={"properties": {}}, settings={"gc_deletes": "1h"})


@pytest.fixture
def ring(make_ring):
    ring = make_ring(page_rows=10)
    ring.table("shop", "items", "id text, team text, w text", "id", rows=[("i%04d" % i, "t%d" % (i % 3), "w") for i in range(N)])
    ring.table("shop", "teams", "id text, name text", "id", rows=[("t0", "red"), ("t1", "blue")])
    ring.table("shop", "parts", "item text, no int, w text", "item", ["no"], rows=[("i%04d" % i, n, "w") for i in range(N) for n in range(2)])
    with ring:
        yield ring


@pytest.fixture
def sync(program, ring, elastic):
    def run(mapping, mode, *flags):
        path = program.file("mapping.yaml", mapping % mode)
        return program.run("sync", "--mapping", path, "--elastic-url", elastic.url, *cass(ring), "--workers", 1, "--json", *flags)
    return run


def drop(ring, table, column="w"):
    ring.tables["shop", table].drop_column(column)
    ring.forget('"%s"' % table)
    ring.push("SCHEMA_CHANGE", "UPDATED", "TABLE", "shop", table)


def drop_at(ring, table, number, column="w"):
    """When rows of that table were asked for so many times."""
    ring.on("EXECUTE", '"%s"' % table, do=call(lambda r: drop(ring, table, column)), skip=number)


def parts(docs):
    return [part for d in docs.values() for part in d["parts"]]


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
@pytest.mark.parametrize("mapping,at", [(CHILDREN, 3), (PARTITIONS, 6)], ids=["children", "rows"])
def test_of_rows_within_documents(sync, ring, elastic, mapping, at, mode):
    """All documents are made anew without it."""
    drop_at(ring, "parts", at)
    r = says(sync(mapping, mode), r"column_dropped.*shop\.parts", code=0)
    docs = elastic.sources("docs")
    assert len(docs) == N and len(parts(docs)) == 2 * N, r
    assert all("w" not in part for part in parts(docs))


@pytest.mark.parametrize("mapping", [CHILDREN, PARTITIONS], ids=["children", "rows"])
def test_between_two_runs(sync, ring, elastic, mapping):
    """The run that was interrupted had it: its documents are made anew."""
    count = []
    elastic.always = lambda req: count.append(1) or Reply(503) if req.path.endswith("/_bulk") and elastic.sources("docs") else None
    says(sync(mapping, "read_time", *QUICK), code=3)
    assert count and any("w" in part for part in parts(elastic.sources("docs")))
    elastic.always = None
    drop(ring, "parts")
    r = says(sync(mapping, "read_time"), code=0)
    docs = elastic.sources("docs")
    assert json.loads(r.out)["documents"] == len(docs) == N and "event=resume" not in r.err
    assert all("w" not in part for part in parts(docs))


def test_one_that_the_mapping_names(sync, ring):
    drop_at(ring, "teams", 0, "name")
    says(sync(CHILDREN, "read_time", *QUICK), r"column_dropped column=name table=shop.teams", r"mapping\.yaml:5:.*\bname\b", code=2)


# --- a file ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("table,at", [("items", 3), ("parts", 20)])
def test_in_a_file(program, ring, table, at):
    """Its lines can't be gone on with, and that is what it says."""
    path = program.file("mapping.yaml", CHILDREN % "none")
    args = ["sync", "--mapping", path, "--to", "out.json", "--workers", 1, *cass(ring)]
    drop_at(ring, table, at)
    r = says(program.run(*args), "column_dropped.*%s" % table, "start over with --fresh", "not finished", code=2)
    assert "run the same command again" not in r.out + r.err
    assert [(run["state"], run["exit_code"]) for run in rows_of(program.run("runs", "--json").out)] == [("finished", 2)]
    says(program.run(*args), "there already; --fresh replaces it", code=2)
    says(program.run(*args, "--fresh"), code=0)
    lines = rows_of((program.cwd / "out.json").read_text())
    assert len({line["id"] for line in lines}) == len(lines) == N
    assert not any("w" in (line if table == "items" else part) for line in lines for part in line["parts"])


def test_on_standard_output(program, ring):
    """It starts over by itself."""
    drop_at(ring, "items", 3)
    r = says(program.run("sync", "shop.items", "--to", "-", "--workers", 1, *cass(ring)), "column_dropped", code=2)
    assert "--fresh" not in r.err
    r = says(program.run("sync", "shop.items", "--to", "-", *cass(ring)), code=0)
    assert len(rows_of(r.out)) == N and not any("w" in line for line in rows_of(r.out))
