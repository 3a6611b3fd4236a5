"""Documents of several tables by a scan: rows of other tables come by ranges of tokens, and the documents are those that
single reads make, by ids."""
import json

import pytest
from test_scan import run_all

N = 2000

MAPPING = """object: {object}
source: {{keyspace: {keyspace}, table: {table}}}
target: {{index: {index}}}
versioning: {mode}
steps:
  - children:
      field: children
      table: {child}
      by: {by}
      each: [lookup: {{field: name, table: names, key: {{id: "{{name}}"}}, take: name, missing: omit}}]
"""


@pytest.fixture(scope="module")
def tables(db, keyspace):
    for text in ("users (id text PRIMARY KEY, v int)", "roles (userid text, role text, name int, PRIMARY KEY (userid, role))",
                 "names (id int PRIMARY KEY, name text)", "wide (a int, b text, c int, v int, PRIMARY KEY ((a, b), c))",
                 "notes (a int, b text, t timeuuid, name int, PRIMARY KEY ((a, b), t))"):
        db.execute(f"CREATE TABLE {keyspace}.{text}", timeout=60)
    put = f"INSERT INTO {keyspace}."
    run_all(db, put + "users (id, v) VALUES (?, ?)", [(f"u{i}", i) for i in range(N)])
    # A third of them has none; some are of nobody.
    run_all(db, put + "roles (userid, role, name) VALUES (?, ?, ?)",
            [(f"u{i}" if i % 7 else f"nobody{i}", f"r{n}", (i + n) % 60) for i in range(N) for n in range(i % 3)])
    run_all(db, put + "names (id, name) VALUES (?, ?)", [(i, f"name {i}") for i in range(50)])
    run_all(db, put + "wide (a, b, c, v) VALUES (?, ?, ?, ?)", [(i % 200, f"b{i % 15}", i, i) for i in range(N)])
    run_all(db, put + "notes (a, b, t, name) VALUES (?, ?, now(), ?)",
            [(i % 200, f"b{i % 15 if i % 3 else i}", i % 60) for i in range(600)])
    return keyspace


@pytest.fixture
def sync(program, tables, cassandra_args, elastic, index, tmp_path):
    def run(table, mode, *flags):
        child, by = ("roles", '{userid: "{id}"}') if table == "users" else ("notes", '{a: "{a}", b: "{b}"}')
        (tmp_path / "m.yaml").write_text(MAPPING.format(object=table, keyspace=tables, table=table, index=index, mode=mode, child=child, by=by))
        done = program.run("sync", "--mapping", tmp_path / "m.yaml", *cassandra_args, "--elastic-url", elastic.url, "--json", *flags)
        assert done.code == 0, done
        return json.loads(done.out)
    return run


def reads_of(db, keyspace, table):
    """Single reads that the server did so far."""
    rows = db.execute("SELECT count FROM system_views.local_read_latency WHERE keyspace_name = %s AND table_name = %s", [keyspace, table])
    return sum(row.count for row in rows)


@pytest.mark.parametrize("mode", ["sequence", "read_time"])
@pytest.mark.parametrize("table,child", [("users", "roles"), ("wide", "notes")])
def test_a_scan_makes_what_ids_make(sync, db, tables, elastic, index, tmp_path, table, child, mode):
    elastic.create(index, {"dynamic": False})
    before = {t: reads_of(db, tables, t) for t in (child, "names")}
    counts = sync(table, mode)
    after = {t: reads_of(db, tables, t) - before[t] for t in (child, "names")}
    assert (counts["documents"], counts["indexed"]) == (N, N)
    scanned = elastic.docs(index, size=N)
    assert sum(len(d["children"]) for d in scanned.values()) > N / 2
    # Rounds with very few documents read by keys.
    assert after[child] < 60 and after["names"] < 400, after
    keys = ("id",) if table == "users" else ("a", "b", "c")
    (tmp_path / "ids.jsonl").write_text("".join(json.dumps({k: d[k] for k in keys}) + "\n" for d in scanned.values()))
    again = sync(table, "none", "--change-versioning", "--id-file", "ids.jsonl")
    assert (again["ids"], again["indexed"]) == (N, N)
    assert elastic.docs(index, size=N) == scanned
