"""`rows`: a partition as one document, by a scan, by ids, into a file; and one whose rows are no document any more."""
import json

import peer_http
import pytest

from flow import cass, rows_of

BIG = 1200

MAPPING = """object: shop
source: {keyspace: shop, table: orders, key: [shop, no]}
target: {index: shops, id: "shop-{id}"}
rename: {shop: id}
nulls: omit
where: {state: [open, paid]}
rows: {field: orders, columns: [no, state]}
versioning: %s
"""


def orders(count):
    return [{"no": n, "state": state_of(n)} for n in range(count) if state_of(n) != "closed"]


def state_of(no):
    return ["open", "paid", "closed"][no % 3]


@pytest.fixture
def table(make_ring):
    """Shops of 0 to 6 orders, a large one, and two that have a motto alone."""
    ring = make_ring(page_rows=50)
    sizes = {"big": BIG, **{f"s{i}": i % 7 for i in range(40)}}
    table = ring.table("shop", "orders", "shop text, no int, state text, motto text", "shop", ["no"], ["motto"],
                       rows=[dict(shop=shop, no=n, state=state_of(n)) for shop, size in sizes.items() for n in range(size)])
    table.put([dict(shop=shop, motto=f"we are {shop}") for shop in ("s1", "s7", "empty")])
    table.expected = {f"shop-{shop}": {"id": shop, "orders": orders(size), **({"motto": "we are s1"} if shop == "s1" else {})}
                      for shop, size in sizes.items() if size}
    with ring:
        table.ring = ring
        yield table


@pytest.fixture
def elastic():
    with peer_http.Elastic() as e:
        yield e.index("shops", mappings={"properties": {}}, settings={"gc_deletes": "1h"})


@pytest.fixture(params=["read_time", "sequence"])
def sync(request, program, table, elastic):
    def run(*more, code=0):
        mapping = program.file("shop.yaml", MAPPING % request.param)
        r = program.run("sync", "--mapping", mapping, "--elastic-url", elastic.url, *cass(table.ring), "--memory", "32MiB", "--json", *more)
        assert r.code == code, r
        return json.loads(r.out)
    return run


def test_by_a_scan(sync, table, elastic):
    c = sync()
    assert (c["documents"], c["indexed"], c["filtered"]) == (len(table.expected), len(table.expected), 2)
    assert elastic.sources("shops") == table.expected


def test_a_partition_whose_rows_are_no_document_any_more(sync, program, table, elastic):
    """Asked for by id it is missing, though its static columns are there: its document goes where the options say so."""
    sync()
    program.file("ids.txt", "big\ns1\ns5\nempty\nnobody\n")
    c = sync("--id-file", "ids.txt", code=1)
    assert (c["ids"], c["ids_found"], c["missing"]) == (5, 3, 2)
    for row in table.rows:
        if row["shop"] == b"s1" and row["state"]:
            row["state"] = b"closed"
    c = sync("--id-file", "ids.txt", "--fresh", code=1)
    assert (c["ids_found"], c["missing"], c["deleted"]) == (2, 3, 0) and "shop-s1" in elastic.sources("shops")
    c = sync("--id-file", "ids.txt", "--fresh", "--missing", "delete")
    assert (c["ids_found"], c["missing"], c["deleted"]) == (2, 3, 1)
    del table.expected["shop-s1"]
    assert elastic.sources("shops") == table.expected


def test_into_a_file(program, table):
    mapping = program.file("shop.yaml", MAPPING % "none")
    r = program.run("sync", "--mapping", mapping, *cass(table.ring), "--to", "-", "--json")
    assert r.code == 0, r
    assert {"shop-" + line["id"]: line for line in rows_of(r.out)} == table.expected
