"""`cass2es sync KS.TABLE --to -` with --where, --columns, --limit, --sample: which rows, and what of them."""
import gzip
import json
import subprocess
import threading

import pytest

from flow import cass, counted, rows_of, says
from peer_cql import INVALID, READ_TIMEOUT, call, error


@pytest.fixture
def table(make_ring):
    ring = make_ring(page_rows=10)
    ring.table("shop", "orders", "id int, n int, name text, tags set<text>", "id",
               rows=[dict(id=i, n=i % 7 if i % 5 else None, name="n%d" % i, tags={"even" if i % 2 == 0 else "odd"}) for i in range(300)])
    ring.on("PREPARE", "!=", do=error(INVALID, 'Unsupported "!=" relation'), times=None)  # as Cassandra up to 5.0
    with ring:
        yield ring


def ids(result):
    return sorted(o["id"] for o in rows_of(result.out))


# conditions, which n fulfil them, does the server take any of them
WHERE = [("n = 3", lambda n: n == 3, True), ("n >= 2 AND n < 5", lambda n: n is not None and 2 <= n < 5, True),
         ("n IN (1, 6)", lambda n: n in (1, 6), True), ("n != 3", lambda n: n not in (3, None), False),
         ("n IS NULL", lambda n: n is None, False), ("n IS NOT NULL AND n <= 1", lambda n: n in (0, 1), True),
         ("n > 1 AND n != 3", lambda n: n is not None and n > 1 and n != 3, True)]


@pytest.mark.parametrize("text,wanted,pushed", WHERE)
@pytest.mark.parametrize("server", [True, False])
def test_conditions_by_the_server_or_here(program, table, text, wanted, pushed, server):
    """The server that takes no condition leaves them to us: the same rows."""
    if not server:
        table.on("PREPARE", "ALLOW FILTERING", do=error(INVALID, "no filtering here"), times=None)
    r = program.run("sync", "shop.orders", "--to", "-", "--where", text, "--json", *cass(table))
    want = [i for i in range(300) if wanted(i % 7 if i % 5 else None)]
    assert r.code == 0 and ids(r) == want, r
    counts = json.loads([line for line in r.err.splitlines() if line.startswith('{"run"')][0])
    assert counts["rows"] == counts["filtered"] + counts["documents"] and counts["documents"] == len(want)
    assert server or counts["rows"] == 300
    assert bool(table.seen("EXECUTE", "ALLOW FILTERING")) == (pushed and server)


def test_a_server_that_refuses_only_what_runs(program, table):
    table.on("EXECUTE", "ALLOW FILTERING", do=error(INVALID, "ALLOW FILTERING is not allowed"), times=None)
    r = program.run("sync", "shop.orders", "--to", "-", "--where", "n = 3", *cass(table))
    assert r.code == 0 and ids(r) == [i for i in range(300) if i % 5 and i % 7 == 3], r


def test_one_condition_that_it_takes_of_two(program, table):
    table.on("PREPARE", r'"n" (=|>).*"tags"', do=error(INVALID, "not both"), times=None)
    table.on("PREPARE", r'"tags" CONTAINS', do=error(INVALID, "no index"), times=None)
    r = program.run("sync", "shop.orders", "--to", "-", "--where", "n > 3 AND tags CONTAINS 'odd'", *cass(table))
    assert r.code == 0 and ids(r) == [i for i in range(300) if i % 5 and i % 7 > 3 and i % 2], r
    assert table.seen("EXECUTE", r'"n" > \? ALLOW FILTERING')


@pytest.mark.parametrize("text,why", [
    ("n = 'x'", "--where: at character 5: column \"n\": not what the column holds: wanted an int"),
    ("nn = 1", "--where: at character 1: orders has no column \"nn\"; did you mean \"n\""),
    ("n = 1 OR n = 2", "--where: at character 7: OR is not supported"),
])
def test_conditions_that_are_wrong(program, table, text, why):
    r = program.run("sync", "shop.orders", "--to", "-", "--where", text, *cass(table))
    assert r.code == 2 and why in r.err, r


def test_columns_and_functions(program, table):
    r = program.run("sync", "shop.orders", "--to", "-", "--columns", "name,writetime(name),ttl(n)", "--where", "id < 2", *cass(table))
    assert r.code == 0, r
    assert counted(rows_of(r.out)) == counted({"name": "n%d" % i, "writetime(name)": 1000} for i in range(2))
    for columns, why in (("nam", 'did you mean "name"'), ("name,name", "there twice"), ("ttl(id)", "part of the primary key"),
                         ("age(n)", "unknown function")):
        r = program.run("sync", "shop.orders", "--to", "-", "--columns", columns, *cass(table))
        assert r.code == 2 and "--columns: " in r.err and why in r.err, r


@pytest.mark.parametrize("limit", [1, 9, 10, 155, 299, 300, 1000])
@pytest.mark.parametrize("workers", [1, 8])
def test_a_limit_is_exact(program, table, limit, workers):
    r = program.run("sync", "shop.orders", "--to", "-", "--limit", limit, "--workers", workers, *cass(table))
    found = ids(r)
    assert r.code == 0 and len(found) == len(set(found)) == min(limit, 300), r
    if limit < 300:
        says(r, "as many as --limit says")


def test_a_limit_counts_what_fulfils(program, table):
    r = program.run("sync", "shop.orders", "--to", "-", "--limit", 7, "--where", "n IS NULL", *cass(table))
    assert r.code == 0 and len(ids(r)) == 7 and all(i % 5 == 0 for i in ids(r)), r


@pytest.mark.parametrize("skip", [1, 3, 6, 9, 13, 16])
def test_a_limit_is_exact_after_a_kill(program, table, skip):
    seen, go = threading.Event(), threading.Event()
    table.on("EXECUTE", r'"orders".*token\(', do=call(lambda r: (seen.set(), go.wait(60))), times=None, skip=skip)
    p = program.start("sync", "shop.orders", "--to", "out.json", "--limit", 150, "--workers", 2, *cass(table))
    assert seen.wait(60)
    program.kill(p)
    go.set()
    table.rules.clear()
    r = says(program.run("sync", "shop.orders", "--to", "out.json", "--limit", 150, "--workers", 2, *cass(table)), "resum|went on", code=0)
    found = [o["id"] for o in rows_of((program.cwd / "out.json").read_text())]
    assert len(found) == len(set(found)) == 150, r


def test_a_page_that_is_read_again_fails_its_rows_once(program, make_ring):
    """One document can't be made, and a look-up for the next one gets no answer in time."""
    ring = make_ring()
    ring.table("shop", "games", "p text, c int, team text", "p", "c", rows=[("x", 1, "nobody"), ("x", 2, "t1"), ("x", 3, "t2")])
    ring.table("shop", "teams", "id text, name text", "id", rows=[("t1", "one"), ("t2", "two")])
    ring.on("EXECUTE", '"teams"', do=error(READ_TIMEOUT), times=2, where=lambda r: r.values == [b"t2"])
    mapping = program.file("games.yaml", 'object: g\nsource: {keyspace: shop, table: games, key: [p, c]}\ntarget: {index: i, id: "{p}-{c}"}\n'
                           'steps: [{lookup: {field: name, table: teams, key: {id: "{team}"}, take: name}}]\n')
    with ring:
        r = says(program.run("sync", "--mapping", mapping, "--to", "-", *cass(ring)), r"failed +1\b", "event=page_retry", code=1)
        assert [(o["c"], o["name"]) for o in rows_of(r.out)] == [(2, "one"), (3, "two")]
        shown = program.run("failures", "show", "--json").out
        assert len(shown.splitlines()) == 1 and "lookup_missing" in shown, shown


def test_a_packed_file(program, table):
    r = says(program.run("sync", "shop.orders", "--to", "out.ndjson.gz", "--columns", "id,name", *cass(table)), "to out.ndjson.gz: all rows read", code=0)
    text = subprocess.run(["zcat", program.cwd / "out.ndjson.gz"], capture_output=True, check=True).stdout.decode()
    assert sorted(o["id"] for o in rows_of(text)) == list(range(300)), r
    assert (program.cwd / "out.ndjson.gz").read_bytes()[:2] == b"\x1f\x8b"
    r = program.run("sync", "shop.orders", "--to", "none.gz", "--where", "n = 99", *cass(table))
    assert r.code == 0 and (program.cwd / "none.gz").read_bytes() == b"", "no rows, no member"
    r = program.run("sync", "shop.orders", "--to", "-", "--limit", 1, *cass(table))
    assert len(rows_of(r.out)) == 1, "standard output stays plain"


@pytest.mark.parametrize("after", [1, 4, 9])
@pytest.mark.parametrize("more", [b"", b"\x1f\x8b\x08\x00half a member", b"x" * 5000])
def test_a_packed_file_is_gone_on_with(program, table, after, more):
    """Cut back to what is journalled: whole members, every row once."""
    seen, go = threading.Event(), threading.Event()
    table.on("EXECUTE", r'"orders".*token\(', do=call(lambda r: (seen.set(), go.wait(60))), times=None, skip=after)
    args = ["sync", "shop.orders", "--to", "out.json.gz", "--workers", 2, *cass(table)]
    p = program.start(*args)
    assert seen.wait(60)
    program.kill(p)
    go.set()
    table.rules.clear()
    out = program.cwd / "out.json.gz"
    before = gzip.decompress(out.read_bytes()) if out.exists() else b""
    with open(out, "ab") as f:
        f.write(more)
    r = says(program.run(*args), "went on", code=0)
    text = gzip.decompress(out.read_bytes()).decode()
    assert sorted(o["id"] for o in rows_of(text)) == list(range(300)), r
    assert set(before.decode().splitlines()) <= set(text.splitlines())


def test_a_sample_is_the_same_each_time(program, table):
    one, two = (program.run("sync", "shop.orders", "--to", "-", "--sample", "20%", "--workers", n, *cass(table)) for n in (1, 8))
    assert one.code == 0 and ids(one) == ids(two) and 30 <= len(ids(one)) <= 90, one
    whole = program.run("sync", "shop.orders", "--to", "-", "--sample", "100%", *cass(table))
    assert ids(whole) == list(range(300))
    r = program.run("sync", "shop.orders", "--to", "-", "--sample", "half", *cass(table))
    assert r.code == 2 and '--sample: "half" is no sample' in r.err, r


def test_a_sample_by_number_of_a_table_without_an_estimate(program, table):
    """It leaves no run behind, and no advice to repeat it."""
    for to in ("-", "out.json"):
        r = program.run("sync", "shop.orders", "--to", to, "--sample", "20", *cass(table))
        says(r, "shop.orders has no estimate of its size yet; say --sample as a share, such as 1%", code=2)
        assert not r.out and "same command again" not in r.err and not (program.cwd / "out.json").exists(), r
    says(program.run("runs"), "no runs in", code=0)


def test_a_mapping_to_a_file(program, table):
    (program.cwd / "m.yaml").write_text(
        "object: order\nsource: {keyspace: shop, table: orders, columns: [name, writetime(name)]}\n"
        "rename: {writetime(name): written}\ntarget: {index: unused, id: 'o-{id}'}\nsteps:\n  - copy: {doc: _id}\n")
    r = program.run("sync", "--mapping", "m.yaml", "--to", "-", "--where", "name = 'n7'", *cass(table))
    assert r.code == 0 and rows_of(r.out) == [{"name": "n7", "written": 1000, "doc": "o-7"}], r
    r = program.run("sync", "--mapping", "m.yaml", "--to", "-", "--columns", "id", *cass(table))
    assert r.code == 2 and "source.columns" in r.err, r


def test_where_is_not_for_ids(program, table, api):
    r = program.run("sync", "shop.orders", "--where", "n = 1", "--endpoint", api.url, "--object-type", "order", *cass(table))
    assert r.code == 2 and "--where: is for documents of a whole table" in r.err, r


# --- rates -------------------------------------------------------------------------------------------------

def test_rows_per_second(program, table):
    """Nothing else is slow here: 300 rows at 200 a second."""
    r = says(program.run("sync", "shop.orders", "--to", "-", "--max-reads-per-s", 200, *cass(table)), code=0)
    assert len(ids(r)) == 300 and r.seconds >= 1.4, r.seconds


def test_rows_of_other_tables_per_second(program, table):
    """They count, too."""
    mapping = program.file("m.yaml", "object: order\nsource: {keyspace: shop, table: orders, key: [id]}\ntarget: {index: orders}\nversioning: none\n"
                           'steps: [{lookup: {field: again, table: orders, key: {id: "{id}"}, take: name}}]\n')
    r = says(program.run("sync", "--mapping", mapping, "--to", "-", "--max-reads-per-s", 400, *cass(table)), code=0)
    assert len(ids(r)) == 300 and r.seconds >= 1.4, r.seconds


def test_documents_per_second_are_for_an_index(program, table):
    says(program.run("sync", "shop.orders", "--to", "-", "--max-docs-per-s", 10, *cass(table)), "--max-docs-per-s: is for documents .*, not for rows written to a file", code=2)
