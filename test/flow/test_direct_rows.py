"""Which rows of a table become documents of an index, and what of them: --where, --columns, --limit, --sample, by every way of versioning."""
import contextlib
import json
import re
import sqlite3
import threading
import time

import pytest
from direct import Direct, actions, number, problem, refused
from flow import says, until
from peer_cql import INVALID, call, error

MODES = ("read_time", "sequence", "write_time", "none")
N = 200


class Rows(Direct):
    """shop.items (id text, n int, v text) -> index `items`."""

    def __init__(self, program, ring, elastic):
        super().__init__(program, ring, elastic, rows=0)
        self.table = ring.table("shop", "items", "id text, n int, v text", "id",
                                rows=[dict(id="i%04d" % i, n=i % 7 if i % 5 else None, v="v%d" % i) for i in range(N)])
        ring.on("PREPARE", "!=", do=error(INVALID, 'Unsupported "!=" relation'), times=None)

    def found(self):
        return {number(i) for i in self.elastic.sources("items")}


@pytest.fixture
def rows(program, make_ring, elastic):
    return Rows(program, make_ring(page_rows=10), elastic)


def n_of(i):
    return i % 7 if i % 5 else None


# conditions, which n fulfil them, does the server take any of them
WHERE = [("n = 3", lambda n: n == 3, True), ("n != 3", lambda n: n not in (3, None), False),
         ("n > 1 AND n != 3", lambda n: n is not None and n > 1 and n != 3, True), ("n IS NULL", lambda n: n is None, False)]


@pytest.mark.parametrize("text,wanted,pushed", WHERE)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("server", [True, False])
def test_conditions(rows, text, wanted, pushed, mode, server):
    """The same documents whether the server takes a condition or not, and also without its column among them."""
    if not server:
        rows.ring.on("PREPARE", "ALLOW FILTERING", do=error(INVALID, "no filtering here"), times=None)
    c = rows.ok("--where", text, versioning=mode, more="steps: [{drop: n}]\n")
    want = {i for i in range(N) if wanted(n_of(i))}
    assert rows.found() == want and c["documents"] == c["indexed"] == len(want), c
    assert c["filtered"] == c["rows"] - len(want)
    assert server or c["rows"] == N
    assert bool(rows.ring.seen("EXECUTE", "ALLOW FILTERING")) == (pushed and server)
    assert all("n" not in d for d in rows.elastic.sources("items").values())
    key_scans = [r for r in rows.ring.seen("EXECUTE", r'^SELECT "id"(,"n")? FROM .*token\(')]
    assert bool(key_scans) == (mode == "sequence")


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_a_row_that_changed_meanwhile(rows, mode):
    """What is read again by itself has to fulfil the conditions then, too; its document stays as it was."""
    changed = []

    def later(action, meta, source):
        n = number(meta["_id"])
        if n % 7 == 3 and n < 50 and n not in changed:
            changed.append(n)
            rows.table.put([dict(id=meta["_id"], n=4, v="other")])
            return refused(429, "es_rejected_execution_exception")
    rows.elastic.item_script = later
    c = rows.ok("--where", "n = 3", versioning=mode)
    want = {i for i in range(N) if n_of(i) == 3}
    assert len(changed) > 3 and rows.found() == want - set(changed)
    assert (c["filtered"], c["indexed"], c["failed"]) == (len(changed), len(want) - len(changed), 0)


def test_a_row_that_changed_between_key_and_row(rows):
    """Under sequence: the key fulfilled them, the row does no longer."""
    changed = []

    def change(request):
        if request.path.endswith("/_mget"):
            for i in json.loads(request.body)["ids"]:
                if number(i) % 2 and i not in changed:
                    rows.table.put([dict(id=i, n=5, v="other")])
                    changed.append(i)
    rows.elastic.always = change
    c = rows.ok("--where", "n = 3", versioning="sequence")
    want = {i for i in range(N) if n_of(i) == 3}
    assert rows.found() == {i for i in want if i % 2 == 0} and c["filtered"] == len(changed) > 5, c


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [1, 13, N - 1, N, 1000])
@pytest.mark.parametrize("workers", [1, 8])
def test_a_limit_is_exact(rows, mode, limit, workers):
    c = rows.ok("--limit", limit, "--workers", workers, versioning=mode)
    assert len(rows.found()) == c["documents"] == c["indexed"] == min(limit, N), c


@pytest.mark.parametrize("mode", MODES)
def test_a_limit_counts_what_fulfils(rows, mode):
    c = rows.ok("--limit", 9, "--where", "n IS NULL", versioning=mode)
    assert len(rows.found()) == c["documents"] == 9 and all(i % 5 == 0 for i in rows.found()), c


def test_the_summary_says_what_ended_it(rows):
    says(rows.run("--limit", 9, json_=False), "to index items: as many as --limit says", r"^ *documents +9", code=0)
    says(rows.run("--sample", "20%", json_=False), "to index items: the sample read", code=0)
    says(rows.run("--where", "n IS NULL", json_=False), "to index items: all rows read", r"^ *filtered +160", r"^ *documents +40", code=0)


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_what_came_to_nothing_is_given_back(rows, mode):
    """Pages that are read again, and rows that are gone by then: still exactly as many."""
    gone = []

    def later(action, meta, source):
        n = number(meta["_id"])
        if n % 3 == 0 and n not in gone:
            gone.append(n)
            rows.table.delete(id=meta["_id"])
            return refused(503, "unavailable_shards_exception")
    rows.elastic.item_script = later
    rows.on_bulk(problem(503, "unavailable_shards_exception"), problem(429, "es_rejected_execution_exception"))
    c = rows.ok("--limit", 77, "--workers", 4, versioning=mode)
    assert c["documents"] == 77 and c["gone"] == len(gone) > 5 and c["failed"] == 0, c
    assert len(rows.found()) == 77


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
@pytest.mark.parametrize("after", [1, 6, 11])
def test_a_limit_is_exact_after_a_kill(rows, mode, after):
    """No document twice among the N, though the limit cuts a page short."""
    seen, go = threading.Event(), threading.Event()
    count = []

    def hold(request):
        if request.path.endswith("/_bulk"):
            count.append(1)
            if len(count) > after:
                seen.set()
                go.wait(60)
        return None
    rows.elastic.always = hold
    p = rows.start("--limit", 135, "--workers", 3, versioning=mode)
    assert seen.wait(60)
    rows.program.kill(p)
    go.set()
    rows.elastic.always = None
    result = rows.run("--limit", 135, "--workers", 3, versioning=mode)
    assert result.code == 0 and result.counts["documents"] == 135, result
    rows.law(result.counts)
    journalled = {number(m["_id"]) for b in rows.bulks() for _, m, _ in actions(b)}
    assert rows.found() <= journalled and len(rows.found()) >= 135


def test_the_page_that_a_limit_cuts_is_journalled_last(program, make_ring, elastic):
    """When it is, all others are: killed then, the run has nothing left to do."""
    d = Direct(program, make_ring(page_rows=10), elastic, rows=400)
    lock, scans = threading.Lock(), []
    settled, go = threading.Event(), threading.Event()

    def scan(request):
        """One worker settles two pages and is then kept from reading more; the other one begins when that is so."""
        with lock:
            scans.append(request.conn)
            first, count = request.conn == scans[0], scans.count(request.conn)
        if not first:
            settled.wait(60)
        elif count > 2:
            go.wait(60)

    def journalled():
        with contextlib.closing(sqlite3.connect(program.state / "journal.db")) as db:
            return db.execute("SELECT sum(value) FROM count WHERE name = 'documents'").fetchone()[0]

    def wait_for_bulks(n):
        elastic.wait_for(lambda calls: sum(c.path.endswith("/_bulk") and c.end is not None for c in calls) == n)
        until(lambda: journalled() == len(elastic.sources("items")))
    d.ring.on("EXECUTE", r'"items".*token\(', do=call(scan), times=None)
    p = d.start("--limit", 25, "--workers", 2)
    wait_for_bulks(2)
    settled.set()
    wait_for_bulks(5)  # 1 and 8 rows each, and what is left
    program.kill(p)
    d.ring.rules.clear()
    go.set()
    assert len(elastic.sources("items")) == 25
    result = d.run("--limit", 25, "--workers", 2)
    assert result.code == 0 and result.counts["documents"] == 25 and "event=resume" in result.err, result
    assert len(d.bulks()) == 5, result


def test_a_sample_is_the_same_each_time(rows):
    c = rows.ok("--sample", "20%", "--workers", 1)
    first = rows.found()
    assert 15 <= len(first) <= 70 and c["documents"] == len(first)
    rows.elastic.indices["items"].clear()
    rows.ok("--sample", "20%", "--workers", 8, versioning="read_time")
    assert rows.found() == first


def test_a_sample_by_number_of_a_table_without_an_estimate(rows):
    """It leaves no run behind, and no advice to repeat it."""
    r = says(rows.run("--sample", "1", json_=False), "has no estimate of its size yet; say --sample as a share, such as 1%", code=2)
    assert not r.out and not rows.bulks(), r
    says(rows.program.run("runs"), "no runs in", code=0)


@pytest.mark.parametrize("mode", MODES)
def test_times_of_writing_as_fields(rows, mode):
    c = rows.ok("--where", "v = 'v7'", versioning=mode, more="rename: {writetime(v): written}\n",
                columns="columns: [v, writetime(v), ttl(v)], ")
    assert c["indexed"] == 1 and rows.elastic.sources("items") == {"i0007": {"v": "v7", "written": 1000}}


def test_columns_of_the_table(rows):
    c = rows.ok("--columns", "v,writetime(n)", "--where", "n = 2")
    docs = rows.elastic.sources("items")
    assert c["documents"] == len(docs) > 10 and all(d == {"v": "v%d" % number(i), "writetime(n)": 1000} for i, d in docs.items())
    for flags, why in ((["--columns", "w"], 'column "w"'), (["--where", "w = 1"], 'no column "w"'), (["--sample", "x"], "is no sample")):
        says(rows.run(*flags), re.escape(flags[0]) + ": .*" + why, code=2)
    says(rows.run("--columns", "v", versioning="none"), "--columns: has no meaning with --mapping", code=2)


def test_not_for_ids(rows):
    rows.program.file("ids.csv", "i0001\n")
    for flags in (["--where", "n = 1"], ["--limit", 2], ["--sample", "5%"]):
        says(rows.run("--id-file", "ids.csv", *flags), flags[0] + ": is for documents of a whole table .*, not for documents of given ids", code=2)
    says(rows.run("--id-file", "ids.csv", "--columns", "v", json_=False), code=0)
    assert rows.elastic.sources("items") == {"i0001": {"v": "v1"}}


def test_another_condition_is_another_run(rows):
    rows.elastic.always = lambda r: problem(503, "unavailable_shards_exception") if r.path.endswith("/_bulk") else None
    assert rows.run("--where", "n = 1", "--retry-budget", "300ms").code == 3
    rows.elastic.always = None
    c = rows.ok("--where", "n = 2")
    assert c["documents"] == len(rows.found()) == sum(n_of(i) == 2 for i in range(N))


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_a_retry_asks_again(rows, mode):
    """Of two that failed one does not fulfil the condition any more: it is settled, and makes no document."""
    rows.elastic.item_script = lambda a, meta, s: refused(400, "mapper_parsing_exception") if number(meta["_id"]) in (3, 17) else None
    run = rows.ok("--where", "n = 3", versioning=mode, code=1)["run"]
    rows.table.put([dict(id="i0017", n=6, v="other")])
    rows.elastic.item_script = None
    says(rows.program.run("failures", "retry", run), code=0)
    assert rows.found() == {i for i in range(N) if n_of(i) == 3} - {17}
    says(rows.program.run("failures", "list", run), "no failures", code=0)
