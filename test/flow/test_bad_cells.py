"""Cells whose bytes can't be their type: that document fails with its reason, the others of its page come out."""
import json
import struct

import pytest

from flow import cass, counted, rows_of, says
from peer_cql import w_bytes
from peer_http import Elastic

INT = w_bytes(struct.pack(">i", 7))
WRONG = {  # type -> cells that no such value has
    "bigint": [b"\1", bytes(9)], "boolean": [b"\0\0"], "date": [bytes(3), bytes(8)], "decimal": [bytes(4), b"\1"],
    "double": [bytes(4)], "duration": [b"\1", b"\2\3\2", b"\0\0\0\0", b"\xff\0\0"], "float": [bytes(8)], "inet": [bytes(5), bytes(17)],
    "int": [bytes(3), bytes(8)], "smallint": [b"\1"], "time": [bytes(4), b"\xff" * 8, struct.pack(">q", 86400 * 10 ** 9)],
    "timestamp": [bytes(4)], "timeuuid": [bytes(15)], "tinyint": [bytes(2)], "uuid": [bytes(17)], "varint": [bytes(16385)],
    "list<int>": [b"\0", struct.pack(">i", -1), struct.pack(">i", 2) + INT, struct.pack(">i", 1) + INT + b"\0",
                  struct.pack(">i", 2 ** 31 - 1), struct.pack(">i", 1) + w_bytes(bytes(3))],
    "set<text>": [struct.pack(">i", 1) + struct.pack(">i", 1000) + b"short"],
    "map<text, int>": [struct.pack(">i", 1) + w_bytes(b"key"), struct.pack(">i", 1) + w_bytes(b"key") + w_bytes(b"\0")],
    "map<int, text>": [struct.pack(">i", 1) + w_bytes(b"key") + w_bytes(b"value")],
    "tuple<int, text>": [b"\0\0", w_bytes(b"\0") + w_bytes(b"x"), INT + w_bytes(b"x") + w_bytes(b"more")],
    "frozen<pair>": [w_bytes(b"\0"), INT + w_bytes(b"x") + b"\0"],
    "vector<float, 3>": [bytes(11), bytes(13)],
    "vector<text, 2>": [b"\5ab", b"\1a", b"\1a\1b\0"],
    "list<frozen<map<int, frozen<list<int>>>>>": [struct.pack(">i", 1) + w_bytes(struct.pack(">i", 1) + INT + w_bytes(b"\0\0\0\1"))],
}


def name_of(type_text):
    return type_text.replace("frozen<pair>", "pair").replace("frozen<map<int, frozen<list<int>>>>", "map<int, list<int>>")


@pytest.mark.parametrize("type_text", WRONG)
def test_one_bad_cell_never_loses_its_page(program, make_ring, type_text):
    ring = make_ring()
    ring.type("shop", "pair", a="int", b="text")
    bad = {f"bad{i}": cell for i, cell in enumerate(WRONG[type_text])}
    good = [{"id": f"good{i}", "before": i, "after": "x"} for i in range(40)]
    rows = [{**row, "v": None} for row in good] + [{"id": k, "before": 1, "v": cell, "after": "x"} for k, cell in bad.items()]
    ring.table("shop", "m", f"id text, before int, v {type_text}, after text", "id", rows=rows)
    with ring:
        r = says(program.run("sync", "shop.m", "--to", "-", *cass(ring)), rf"failed\s+{len(bad)}\b", code=1)
        assert counted(rows_of(r.out)) == counted(good)
        shown = program.run("failures", "show", "--json").out
        for key, cell in bad.items():
            assert key in shown, shown
            assert f"{len(cell)} bytes that are no {name_of(type_text)}" in shown, shown


def test_a_bad_key_fails_its_row_only(program, make_ring):
    ring = make_ring()
    ring.table("shop", "m", "p int, c uuid, v text", "p", "c", rows=[(1, bytes(16), "a"), (2, bytes(3), "b"), (3, bytes([1] * 16), "c")])
    with ring:
        r = says(program.run("sync", "shop.m", "--to", "-", *cass(ring)), r"failed\s+1\b", code=1)
        assert sorted(json.loads(line)["v"] for line in filter(None, r.out.split("\n"))) == ["a", "c"]
        assert "3 bytes that are no uuid" in program.run("failures", "show", "--json").out


@pytest.mark.parametrize("versioning", ["read_time", "sequence"])
def test_one_bad_cell_never_loses_its_page_of_direct_sync(program, make_ring, versioning):
    ring = make_ring()
    ring.table("shop", "m", "id text, v inet, n list<int>", "id", rows=[
        *((f"good{i}", "10.0.0.1", [i]) for i in range(40)), ("bad0", bytes(5), [1]), ("bad1", "::1", struct.pack(">i", 2) + INT)])
    mapping = program.file("m.yaml", f"object: m\nsource: {{keyspace: shop, table: m, key: [id]}}\n"
                                     f"target: {{index: m, id: '{{id}}'}}\nversioning: {versioning}\n")
    with ring, Elastic() as elastic:
        elastic.index("m", mappings={"properties": {}}, settings={"gc_deletes": "1h"})
        r = program.run("sync", "--mapping", mapping, "--elastic-url", elastic.url, "--json", *cass(ring))
        c = json.loads(r.out)
        assert r.code == 1 and (c["rows"], c["documents"], c["indexed"], c["failed"]) == (42, 42, 40, 2), r
        assert elastic.sources("m") == {f"good{i}": {"id": f"good{i}", "v": "10.0.0.1", "n": [i]} for i in range(40)}
        shown = program.run("failures", "show", "--json").out
        assert "5 bytes that are no inet" in shown and "12 bytes that are no list<int>" in shown, shown
