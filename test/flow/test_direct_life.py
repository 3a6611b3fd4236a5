"""Direct sync's life: killed, stopped, started twice, gone on with; and a table that changes under it."""
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

import peer_cql
import pytest
from direct import Direct, actions, problem, refused
from flow import QUICK, says
from peer_http import Reply
from program import BIN, wait_for_text

SCAN = r'"items".*token\('


class Step:
    """Holds the request number `at` of those that the run makes once it has begun, before or after its work is done."""

    def __init__(self, direct, at, after=False):
        self.at, self.after, self.count, self.lock = at, after, 0, threading.Lock()
        self.here, self.go, self.direct = threading.Event(), threading.Event(), direct
        direct.ring.on("EXECUTE", r'"items"', do=peer_cql.call(lambda r: self.step() and self.wait()), times=None)
        direct.elastic.always = self.http

    def step(self):
        with self.lock:
            self.count += 1
            return self.count == self.at

    def wait(self):
        self.here.set()
        self.go.wait(60)

    def http(self, req):
        if not re.search("_bulk|_mget", req.path) or not self.step():
            return None
        answer = self.direct.elastic.usual(req) if self.after else None
        self.wait()
        return answer

    def end(self):
        self.go.set()
        self.direct.ring.rules.clear()
        self.direct.elastic.always = None


def kill_at(direct, at, after=False, **more):
    """Starts it, kills it when it is at that step. False: it had come to its end before."""
    step = Step(direct, at, after)
    p = direct.start("--workers", 1, "--progress", "none", **more)
    while p.poll() is None and not step.here.wait(0.01):
        pass
    if step.here.is_set():
        direct.program.kill(p)
        step.end()
        return True
    step.end()
    result = direct.program.finish(p)
    assert result.code == 0, result
    return False


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_step(direct, mode, after):
    """Each of its requests is its last one, in a run of its own: the rest is done by the same command, every row is counted once."""
    direct.table.delete()
    direct.table.put([("i%04d" % i, "v%d" % i) for i in range(25)])
    first, stride = {"asan": (1, 2), "tsan": (2, 2)}.get(os.environ.get("CASS2ES_BUILD"), (1, 1))  # slow: each takes a half
    for at in range(first, 200, stride):
        direct.elastic.indices["items"].clear()
        direct.elastic.deleted["items"].clear()
        if not kill_at(direct, at, after, versioning=mode):
            break
        c = direct.ok(versioning=mode)
        assert c["rows"] == c["documents"] == 25 and c["failed"] == 0, (at, c)
        direct.same()
    assert at > 8


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_killed_again_and_again(direct, mode):
    """Every run dies after so many steps of its own; work that is acknowledged and journalled is not done again."""
    direct.table.estimates = [(-2**63, 2**63 - 1, 100, 60)]
    for n in range(60):
        if not kill_at(direct, (4 if mode == "read_time" else 8) + n % 5, n % 2 == 0, versioning=mode):
            break
    assert 2 < n < 59
    direct.same()
    assert direct.ok("--fresh", versioning=mode)["rows"] == 60
    sent = [line for b in direct.bulks() for line in b.body.split(b"\n") if b'"v":' in line]
    assert len(sent) < 60 * 4


@pytest.mark.parametrize("mode,event", [("read_time", "page_retry"), ("sequence", "bulk_retry")])
def test_killed_while_it_waits(direct, mode, event):
    """Half of the documents are there when the index refuses the rest."""
    refuse = problem(503, "unavailable_shards_exception")
    direct.on_bulk(*[None] * 3, *[refuse] * 1000)
    p = direct.start("--workers", 1, "--progress", "plain", versioning=mode)
    wait_for_text(p, event)
    direct.program.kill(p)
    direct.elastic.always = None
    c = direct.ok("--workers", 1, versioning=mode)
    assert (c["rows"], c["documents"], c["failed"]) == (60, 60, 0), c
    direct.same()


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_what_was_deleted_between_stays_deleted(direct, mode):
    """Its document was made, and under way when the program was killed, but never came to the index."""
    direct.on_bulk(None, None, Reply(fault="hang"))
    p = direct.start("--workers", 1, "--memory", "8MiB", "--progress", "none", versioning=mode)
    direct.elastic.wait_for(lambda calls: len(direct.bulks()) == 3)
    direct.program.kill(p)
    gone = actions(direct.bulks()[2])[0][1]["_id"]
    assert gone not in direct.elastic.sources("items")
    direct.table.delete(id=gone)
    result = direct.run("--workers", 1, versioning=mode)
    assert result.code == 0 and "event=resume" in result.err, result
    assert gone not in direct.elastic.sources("items")
    direct.same()


def test_the_summary_says_that_it_went_on(direct):
    assert kill_at(direct, 9, True)
    says(direct.run(json_=False), r"\(went on\)", r"rows +60", "event=resume", code=0)
    says(direct.run(json_=False), code=0)  # a finished run is not gone on with
    assert "(went on)" not in direct.run(json_=False).out


def test_other_settings_make_another_run(direct):
    assert kill_at(direct, 9, True)
    assert "event=resume" not in direct.run(versioning="none").err
    assert "event=resume" in direct.run("--workers", 3, "--max-docs-per-s", 5000, "--memory", "9MiB").err


def test_an_edited_mapping_makes_another_run(direct):
    """The same file name is not the same mapping."""
    assert kill_at(direct, 9, True, versioning="read_time")
    c = direct.ok(versioning="read_time", more="steps:\n  - const: {w: new}\n")
    assert c["rows"] == 60
    assert all(d["w"] == "new" for d in direct.elastic.sources("items").values())


def test_an_edited_dictionary_makes_another_run(direct):
    more = "rename: {file: names.yaml#items}\n"
    direct.program.file("names.yaml", "items: {v: first}\n")
    assert kill_at(direct, 9, True, versioning="read_time", more=more)
    direct.program.file("names.yaml", "items: {v: second}\n")
    assert direct.ok(versioning="read_time", more=more)["rows"] == 60
    assert all(set(d) == {"id", "second"} for d in direct.elastic.sources("items").values())


def test_started_over(direct):
    assert kill_at(direct, 9, True)
    result = direct.run("--fresh")
    assert result.code == 0 and "event=resume" not in result.err and result.counts["rows"] == 60
    direct.same()


def test_two_at_once(direct):
    step = Step(direct, 5)
    p = direct.start()
    assert step.here.wait(60)
    says(direct.run(), r"\b%d\b" % p.pid, code=2)
    step.end()
    assert direct.program.finish(p).code == 0
    direct.same()


# --- Ctrl-C ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_ctrl_c(direct, number, mode):
    """What is in flight is finished and journalled: not sent again by the next run."""
    step = Step(direct, 6)
    p = direct.start("--workers", 1, json_=False, versioning=mode)
    assert step.here.wait(60)
    p.send_signal(number)
    wait_for_text(p, "once more stops now")
    step.end()
    result = says(direct.program.finish(p), "not finished", "run the same command again", code=130)
    done = int(re.search(r"documents +(\d+)", result.out)[1])
    assert 0 < done < 60
    before = len(direct.bulks())
    c = direct.ok("--workers", 1, versioning=mode)
    assert c["rows"] == 60
    direct.same()
    sent = sum(b.body.count(b'{"_id":') for b in direct.bulks()[before:])
    assert sent == 60 - done


def test_ctrl_c_twice(direct):
    """Now: an answer that does not come is not waited for."""
    direct.on_bulk(Reply(fault="hang"), each=True)
    p = direct.start(json_=False)
    direct.elastic.wait_for(lambda calls: any(c.path.endswith("_bulk") for c in calls))
    p.send_signal(signal.SIGINT)
    wait_for_text(p, "once more stops now")
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(0.5)
    p.send_signal(signal.SIGINT)
    p.wait(20)
    says(direct.program.finish(p), "run the same command again", code=130)
    direct.elastic.always = None
    assert direct.ok()["rows"] == 60
    direct.same()


@pytest.mark.parametrize("where", ["back-off", "rate", "block"])
def test_ctrl_c_while_it_waits(direct, where):
    flags = []
    if where == "rate":
        flags = ["--max-docs-per-s", 1]
    elif where == "back-off":
        direct.on_bulk(problem(503, "x"), each=True)
    else:
        direct.elastic.item_script = lambda a, m, s: {"status": 403, "error": {"type": "cluster_block_exception", "reason": "r"}}
        direct.elastic.blocks = {"indices": {"items": {"8": {"description": "index write (api)", "levels": ["write"]}}}}
    p = direct.start(*flags, json_=False)
    direct.elastic.wait_for(lambda calls: sum(c.path.endswith("_bulk") for c in calls) >= 1)
    try:
        p.wait(0.8)
    except Exception:
        pass
    p.send_signal(signal.SIGINT)
    p.wait(20)
    says(direct.program.finish(p), "run the same command again", code=130)
    direct.elastic.always = direct.elastic.item_script = None
    direct.elastic.blocks = {}
    assert direct.ok()["rows"] == 60
    direct.same()


# --- Cassandra ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", ["read_time", "sequence"])
@pytest.mark.parametrize("do", ["overloaded", "timeout", "unavailable", "close", "reset", "half", "bootstrapping", "unprepared"])
def test_cassandra_stumbles(direct, mode, do):
    """Each third answer is none: nothing is lost, nothing is counted twice."""
    what = {"overloaded": peer_cql.error(peer_cql.OVERLOADED), "timeout": peer_cql.error(peer_cql.READ_TIMEOUT), "close": peer_cql.close(),
            "unavailable": peer_cql.error(peer_cql.UNAVAILABLE), "reset": peer_cql.reset(), "half": peer_cql.half(),
            "bootstrapping": peer_cql.error(peer_cql.BOOTSTRAPPING), "unprepared": peer_cql.unprepared()}[do]
    lock, n = threading.Lock(), [0]

    def third(req):
        with lock:
            n[0] += 1
            return n[0] % 3 == 0 and n[0] < 40
    direct.ring.on("EXECUTE", '"items"', do=what, times=None, where=third)
    c = direct.ok("--workers", 2, versioning=mode, timeout=60)
    assert (c["rows"], c["documents"], c["failed"]) == (60, 60, 0)
    direct.same()


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_a_range_in_the_way(direct, mode):
    """READ_FAILURE for everything that holds one partition: that range alone is left out, told, and exit 1."""
    token = peer_cql.key_token([b"i0007"])

    def holds(req):
        if len(req.values) < 2 or not re.search(SCAN, req.cql or "") or any(len(v) != 8 for v in req.values[:2]):
            return False
        a, b = (int.from_bytes(v, "big", signed=True) for v in req.values[:2])
        return a < token <= b
    direct.ring.on("EXECUTE", SCAN, do=peer_cql.error(peer_cql.READ_FAILURE, "Operation failed"), times=None, where=holds)
    c = direct.ok(versioning=mode, code=1)
    assert (c["rows"], c["indexed"], c["unread_ranges"]) == (59, 59, 1)
    direct.same(without=["i0007"])
    assert "unread_range" in direct.failures(c["run"])


# --- columns -----------------------------------------------------------------------------------------

def at_page(direct, number, change):
    direct.ring.on("EXECUTE", SCAN, do=peer_cql.call(lambda r: change()), skip=number)


@pytest.mark.parametrize("mode", [None, "read_time", "sequence"])
def test_a_column_is_added(direct, mode):
    """It is finished with the columns that it began with, and says what is missing."""
    def add():
        direct.table.add_column("w", "text")
        direct.ring.forget('"items"')
        direct.ring.push("SCHEMA_CHANGE", "UPDATED", "TABLE", "shop", "items")
    at_page(direct, 3, add)
    result = says(direct.run("--workers", 1, versioning=mode), r"column.*\bw\b", "added", code=0)
    assert result.counts["rows"] == 60
    direct.same()


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("mode", [None, "read_time", "sequence"])
def test_a_column_is_dropped(program, make_ring, elastic, version, mode):
    """All documents are made anew without it."""
    direct = Direct(program, make_ring(page_rows=10, versions=(version,)), elastic, rows=0)
    direct.table.add_column("w", "text")
    direct.table.put([("i%04d" % i, "v%d" % i, "w") for i in range(60)])

    def drop():
        direct.table.drop_column("w")
        direct.ring.forget('"items"')
        direct.ring.push("SCHEMA_CHANGE", "UPDATED", "TABLE", "shop", "items")
    at_page(direct, 3, drop)
    result = says(direct.run("--workers", 1, versioning=mode), r"column.*\bw\b", code=0)
    assert result.counts["rows"] == 60
    direct.law(result.counts)
    direct.same()


def test_a_column_that_the_mapping_names_is_dropped(direct):
    direct.table.add_column("w", "text")
    direct.table.put([("i%04d" % i, "v%d" % i, "w") for i in range(60)])

    def drop():
        direct.table.drop_column("w")
        direct.ring.forget('"items"')
    at_page(direct, 3, drop)
    says(direct.run(*QUICK, "--workers", 1, versioning="read_time", more="rename: {w: width}\n", json_=False), r"\bw\b", code=2)


def test_a_column_that_came_between_two_runs(direct):
    """The run that was interrupted knew nothing of it: its documents are made anew."""
    assert kill_at(direct, 9, True)
    direct.table.add_column("w", "text")
    direct.table.put([("i%04d" % i, "v%d" % i, "w") for i in range(60)])
    result = direct.run()
    assert result.code == 0 and result.counts["rows"] == 60
    direct.same()


def test_waits_are_shown(direct):
    direct.on_bulk(*[problem(503, "unavailable_shards_exception")] * 4)
    p = direct.start("--workers", 1, "--progress", "plain", json_=False)
    wait_for_text(p, "page_retry.*unavailable_shards_exception")
    assert direct.program.finish(p).code == 0


def test_slowing_down_is_shown(direct):
    """After it was pushed back: how many requests it sends at once."""
    def slow(req):
        time.sleep(0.3)
    direct.on_bulk(problem(429, "es_rejected_execution_exception"), *[slow] * 12)
    r = direct.run("--workers", 4, "--progress", "bar", json_=False)
    assert r.code == 0 and "slowed down: 2 of 4 requests at once" in r.err, r


# --- nodes that go -----------------------------------------------------------------------------------

def three_nodes(program, make_ring, elastic, replicas):
    """More pages than those that are on their way when a node goes."""
    ring = make_ring(nodes=3, page_rows=5)
    ring.keyspace("shop", rf=replicas)
    direct = Direct(program, ring, elastic, rows=300)
    direct.table.estimates = [(-2**63, 2**63 - 1, 100, 300)]
    return direct


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_a_replica_goes_and_comes_back(program, make_ring, elastic, mode):
    """Others have what it has: nobody waits, and nothing is told as to be waited for."""
    direct = three_nodes(program, make_ring, elastic, 3)
    gone, left = [], []

    def down_and_up(request):
        """The first node that a worker reads from, but for the one that tells of the others; two requests later it is back."""
        if not gone:
            gone.extend([n for n in direct.ring.nodes[1:] if n.conns][:1])
            for node in gone:
                node.down()
        elif len(left) < 2:
            left.append(request)
            if len(left) == 2:
                gone[0].up()
    direct.on_bulk(down_and_up, each=True)
    result = direct.run("--workers", 2, versioning=mode)
    assert result.code == 0 and (result.counts["rows"], result.counts["failed"]) == (300, 0), result
    assert gone and gone[0].listener and not re.search("event=(scan|read|page|bulk)_retry", result.err), result.err
    direct.same()


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_the_only_replica_goes_and_comes_back(program, make_ring, elastic, mode):
    """Its rows are nowhere else, as the others say: that is waited out, and the run goes on by itself."""
    direct = three_nodes(program, make_ring, elastic, 1)
    node, away = direct.ring.nodes[1], threading.Event()

    def refuse(conn, request):
        return away.is_set() and peer_cql.error(peer_cql.UNAVAILABLE, cl=6)(conn, request)

    def down(request):
        away.set()
        node.down()
    direct.ring.on("EXECUTE", r'"items"', do=refuse, times=None)
    direct.on_bulk(None, down)
    process = direct.start("--workers", 2, versioning=mode)
    wait_for_text(process, "event=(scan|read)_retry")
    node.up()
    away.clear()
    result = direct.program.finish(process)
    assert result.code == 0, result
    assert json.loads(result.out)["rows"] == 300 and json.loads(result.out)["failed"] == 0, result
    direct.same()


# --- memory ------------------------------------------------------------------------------------------

def peak_kib(direct, *flags, **more):
    """The most that is resident in a run; sanitizers, where they can, give back what is freed."""
    options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=0"
    process = direct.program.start(*direct.args(*flags, **more), env={"ASAN_OPTIONS": options})
    peak, status = 0, pathlib.Path("/proc/%d/status" % process.pid)
    with contextlib.suppress(TypeError, OSError):  # until it ends
        while True:
            peak = int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1])
            time.sleep(0.01)
    result = direct.program.finish(process, 60)
    assert result.code == 0, result
    return peak


@pytest.mark.parametrize("mode, memory", [("sequence", 64), ("read_time", 16), ("file", 16)])
def test_large_rows_share_what_memory_there_is(program, make_ring, elastic, mode, memory):
    """Rows of 2 MB and their documents, once for each worker, are more than --memory: fewer are worked on at once."""
    direct = Direct(program, make_ring(), elastic, rows=32)
    flags = [] if mode == "sequence" else ["--memory", f"{memory}MiB"]
    more = {"versioning": "read_time" if mode == "file" else mode}
    lines = program.file("rows.ndjson", "")
    if mode == "file":
        flags += ["--to", lines]
    small = peak_kib(direct, "--fresh", *flags, **more)
    direct.table.put([("i%04d" % i, "new" * 700_000) for i in range(32)])
    for i in range(32):
        direct.elastic.put("items", "i%04d" % i, {"id": "i%04d" % i, "v": "old" * 700_000})
    large = peak_kib(direct, "--fresh", *flags, **more)
    print("VmHWM KiB with small and large rows:", small, large)
    if not re.search(rb"__tsan_init", BIN.read_bytes()):  # its own memory grows with what is touched
        assert large - small < memory << 10, (small, large)
    if mode == "file":
        with open(lines) as f:
            written = [json.loads(line) for line in f]
        assert len(written) == 32 and {w["id"]: w for w in written} == direct.rows()
    else:
        direct.same()


def test_a_large_row_is_read_again(program, make_ring, elastic):
    """By itself, in the room that its worker has for it already; and what it took is given back."""
    direct = Direct(program, make_ring(), elastic, rows=0)
    direct.table.put([("i%04d" % i, "new" * 700_000) for i in range(24)])
    seen = set()

    def once(action, meta, source):
        again = meta["_id"] not in seen
        seen.add(meta["_id"])
        return refused(429, "es_rejected_execution_exception", "queue is full") if again else None
    direct.elastic.item_script = once
    peak = peak_kib(direct, "--memory", "16MiB", versioning="read_time")
    print("VmHWM KiB:", peak)
    if not re.search(rb"__[at]san_init", BIN.read_bytes()):
        assert peak < 40 << 10
    assert len(seen) == 24
    direct.same()
