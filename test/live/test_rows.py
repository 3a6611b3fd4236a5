"""`rows`: a partition as one document, by a scan, by ids, into a file; one that comes in several pages, and rows that come and go."""
import json

import pytest
from cassandra.concurrent import execute_concurrent_with_args

BIG = 12000  # rows of one partition: more than a page of any of the ways to read them

MAPPING = """object: shop
source: {keyspace: %s, table: orders, key: [shop, no]}
target: {index: %s, id: "shop-{id}"}
rename: {shop: id}
nulls: omit
where: {state: [open, paid]}
rows:
  field: orders
  columns: [no, state, note]
  each:
    - default: {note: none}
steps:
  - split: {field: words, from: motto, by: " "}
  - copy: {key: _id}
versioning: %s
"""


@pytest.fixture(scope="module")
def table(db, keyspace):
    db.execute(f"CREATE TABLE {keyspace}.orders (shop text, no int, state text, note text, motto text static, PRIMARY KEY (shop, no))")
    insert = db.prepare(f"INSERT INTO {keyspace}.orders (shop, no, state, note) VALUES (?, ?, ?, ?)")
    rows = [("big", no, state_of(no), note_of(no)) for no in range(BIG)]
    rows += [(f"s{i}", no, state_of(no), note_of(no)) for i in range(40) for no in range(i % 7)]
    for success, what in execute_concurrent_with_args(db, insert, rows, concurrency=64):
        assert success, what
    for shop in ("big", "s1", "s7", "empty"):  # s7 has no rows: static columns only
        db.execute(f"INSERT INTO {keyspace}.orders (shop, motto) VALUES (%s, %s)", [shop, f"we are {shop}"])
    return f"{keyspace}.orders"


def state_of(no):
    return ["open", "paid", "closed"][no % 3]


def note_of(no):
    return None if no % 5 == 0 else f"note {no}"


def document(db, table, shop):
    """What the mapping makes of the partition as it is now; None: nothing."""
    rows = list(db.execute(f"SELECT no, state, note, motto FROM {table} WHERE shop = %s", [shop]))
    orders = [{"no": r.no, "state": r.state, "note": r.note or "none"} for r in rows if r.state in ("open", "paid")]
    if not orders:
        return None
    motto = {"motto": rows[0].motto, "words": rows[0].motto.split()} if rows[0].motto else {}
    return {"id": shop, **motto, "orders": orders, "key": f"shop-{shop}"}


def documents(db, table):
    shops = [r.shop for r in db.execute(f"SELECT DISTINCT shop FROM {table}")]
    found = {f"shop-{shop}": document(db, table, shop) for shop in shops}
    return {id_: d for id_, d in found.items() if d}


@pytest.fixture(params=["read_time", "sequence"])
def sync(request, program, table, cassandra_args, elastic, index, tmp_path):
    elastic.create(index, {"dynamic": False}, {"gc_deletes": "1h"})
    mapping = tmp_path / "shop.yaml"
    mapping.write_text(MAPPING % (table.split(".")[0], index, request.param))

    def run(*more, to_index=True):
        where = ["--elastic-url", elastic.url] if to_index else []
        return program.run("sync", "--mapping", mapping, *cassandra_args, *where, "--workers", "1", "--memory", "24MiB", "--json", *more)
    return run


@pytest.fixture
def changed(db, table):
    """A row more, and one less, in the large partition and in a small one; a partition more, and one that loses its last rows."""
    def change():
        for shop in ("big", "s5"):
            db.execute(f"INSERT INTO {table} (shop, no, state, note) VALUES (%s, 100000, 'open', 'new')", [shop])
            db.execute(f"DELETE FROM {table} WHERE shop = %s AND no = 1", [shop])
        db.execute(f"INSERT INTO {table} (shop, no, state) VALUES ('new', 1, 'paid')")
        db.execute(f"DELETE FROM {table} WHERE shop = 's1' AND no = 0")
    yield change
    for shop in ("big", "s5"):
        db.execute(f"DELETE FROM {table} WHERE shop = %s AND no = 100000", [shop])
        db.execute(f"INSERT INTO {table} (shop, no, state, note) VALUES (%s, 1, 'paid', 'note 1')", [shop])
    db.execute(f"DELETE FROM {table} WHERE shop = 'new'")
    db.execute(f"INSERT INTO {table} (shop, no, state) VALUES ('s1', 0, 'open')")


def counts(done, code=0):
    assert done.code == code, done
    return json.loads(done.out)


def test_by_a_scan(sync, elastic, index, db, table, changed):
    expected = documents(db, table)
    first = counts(sync())
    assert elastic.docs(index) == expected and len(expected["shop-big"]["orders"]) == BIG * 2 // 3
    assert (first["documents"], first["failed"]) == (len(expected), 0) and first["filtered"] == 2  # s7, empty
    changed()
    again = counts(sync("--fresh"))
    expected = {**documents(db, table), "shop-s1": expected["shop-s1"]}  # a scan deletes nothing
    assert elastic.docs(index) == expected
    assert again["documents"] == len(expected) - 1 and expected["shop-big"]["orders"][-1]["no"] == 100000


def test_by_ids(sync, elastic, index, db, table, changed, tmp_path):
    (tmp_path / "ids.txt").write_text("big\ns1\ns5\nnew\nempty\nnobody\n")
    first = counts(sync("--id-file", "ids.txt"), code=1)
    assert (first["ids"], first["ids_found"], first["missing"], first["indexed"]) == (6, 3, 3, 3)
    shops = ("big", "s1", "s5", "new")
    assert elastic.docs(index) == {f"shop-{s}": document(db, table, s) for s in shops[:3]}
    changed()
    again = counts(sync("--id-file", "ids.txt", "--fresh", "--missing", "delete"))
    assert (again["ids_found"], again["missing"], again["deleted"]) == (3, 3, 1)
    assert elastic.docs(index) == {f"shop-{s}": document(db, table, s) for s in shops if s != "s1"}


def test_into_a_file(sync, db, table, changed, tmp_path):
    for n in range(2):
        answer = counts(sync("--to", "out.ndjson", "--fresh", to_index=False))
        lines = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
        expected = documents(db, table)
        assert {line["key"]: line for line in lines} == expected and len(lines) == len(expected) == answer["written"]
        changed() if n == 0 else None


def test_a_partition_that_does_not_fit(sync, elastic, index, db, table):
    """It fails alone, by its name; all others are there."""
    failed = counts(sync("--memory", "4MiB", "--workers", "8"), code=1)
    assert failed["failed"] == 1 and failed["documents"] == len(documents(db, table))
    assert elastic.docs(index) == {id_: d for id_, d in documents(db, table).items() if id_ != "shop-big"}
