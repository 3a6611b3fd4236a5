"""Direct sync and what an index answers: nothing lost, nothing wrong, a clear word, the right exit code."""
import json
import re
import threading
import time

import peer_http
import pytest
from direct import Direct, actions, number, problem, refused, sent_versions
from flow import PASSWORD, QUICK, cass, one_of, says
from peer_http import Reply
from program import wait_for_text

MODES = ("read_time", "sequence", "none")


@pytest.mark.parametrize("mode", [*MODES, "write_time"])
def test_every_row_becomes_a_document(direct, mode):
    c = direct.ok(versioning=mode)
    assert (c["rows"], c["documents"], c["indexed"], c["exit_code"], c["index"]) == (60, 60, 60, 0, "items")
    direct.same()
    c = direct.ok(versioning=mode)
    assert c["indexed"] == (0 if mode in ("sequence", "write_time") else 60) and c["unchanged"] == 60 - c["indexed"], c
    direct.same()


def test_rows_written_tomorrow(direct):
    """write_time: a version of our own making is nobody else's, whatever the clock says; an earlier one than what is there is stale."""
    direct.table.written_us = int(time.time() + 86400) * 10**6
    assert direct.ok(versioning="write_time")["indexed"] == 60
    c = direct.ok(versioning="write_time")
    assert (c["unchanged"], c["failed"]) == (60, 0), c
    direct.table.written_us += 1
    assert direct.ok(versioning="write_time")["indexed"] == 60
    direct.table.written_us -= 1
    assert direct.ok(versioning="write_time")["stale"] == 60


def test_the_summary_for_people(direct):
    says(direct.run(json_=False), "shop.items to index items: all rows read", r"^ *documents +60", r"^ *indexed +60", r"^ *failed +0", code=0)


@pytest.mark.parametrize("mode", [*MODES, "write_time"])
def test_pipeline_and_routing(direct, mode):
    """Every request and every action has them, also those of rows that are read again by themselves."""
    later = set()

    def act(action, meta, source):
        if number(meta["_id"]) % 10 or meta["_id"] in later:
            return None
        later.add(meta["_id"])
        return refused(429, "es_rejected_execution_exception")
    direct.elastic.item_script = act
    c = direct.ok(versioning=mode, target=', pipeline: "clean up", routing: "r-{id}"')
    assert (c["indexed"], c["failed"]) == (60, 0)
    sent = [meta for b in direct.bulks() for _, meta, _ in actions(b)]
    assert all(b.query["pipeline"] == "clean up" for b in direct.bulks())
    assert all(meta["routing"] == "r-" + meta["_id"] for meta in sent)
    assert len(sent) == 66 and len(later) == 6
    looks = [d for c in direct.elastic.calls if c.path.endswith("_mget") for d in c.json["docs"]]
    assert bool(looks) == (mode == "sequence") and all(d["routing"] == "r-" + d["_id"] for d in looks)
    direct.same()


# --- a whole request ---------------------------------------------------------------------------------

def done_but_lost(direct, reply):
    """The request is carried out, and its answer is `reply`."""
    def act(req):
        answer = direct.elastic.usual(req)
        return reply(answer) if callable(reply) else reply
    return act


LOST = {
    "429": problem(429, "es_rejected_execution_exception"),
    "502": Reply(502, "<html>bad gateway</html>", content_type="text/html"),
    "503": problem(503, "unavailable_shards_exception"),
    "504": Reply(504),
    "closed": Reply(fault="close"),
    "reset": Reply(fault="reset"),
    "cut off": lambda a: Reply(200, a.body, cut=len(a.body) // 2),
    "html": peer_http.html(),
    "empty": Reply(200, b""),
    "another JSON": Reply(200, {"acknowledged": True}),
    "half a JSON": lambda a: Reply(200, a.body[:len(a.body) // 2]),
    "endless": Reply(200, b'{"took":1,"errors":false,"items":[', endless=True),
    "an item too few": lambda a: Reply(200, re.sub(rb'\{"(index|create)":\{[^{}]*(\{[^{}]*\})?[^{}]*\}\},?', b"", a.body, count=1)),
    "an item too many": lambda a: Reply(200, a.body.replace(b'"items":[', b'"items":[{"index":{"_id":"x","status":201}},')),
    "another action": lambda a: Reply(200, a.body.replace(b'{"index":', b'{"delete":', 1).replace(b'{"create":', b'{"delete":', 1)),
    "an item without a status": lambda a: Reply(200, re.sub(rb'"status": ?\d+', b'"state":1', a.body, count=1)),
}


@pytest.mark.parametrize("what", LOST)
@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_what_became_of_it_is_unknown(direct, what, mode):
    """Read again, with later versions; never the same body twice; counted once."""
    direct.on_bulk(done_but_lost(direct, LOST[what]), done_but_lost(direct, LOST[what]))
    c = direct.ok("--workers", 1, "--memory", "8MiB", versioning=mode)
    assert (c["rows"], c["failed"]) == (60, 0) and c["indexed"] + c["unchanged"] + c["stale"] == 60, c
    direct.same()
    if mode == "read_time":
        bodies = [b.body for b in direct.bulks()]
        assert len(bodies) == len(set(bodies))
        again = [v for v in sent_versions(direct.bulks()).values() if len(v) > 1]
        assert len(again) >= 10 and all(v == sorted(set(v)) for v in again)


def test_a_document_misplaced_in_the_answer(direct):
    """Under sequence the answers name their documents."""
    swapped = []

    def swap(answer):
        ids = re.findall(rb'"_id":"(i\d+)"', answer.body)
        if swapped or len(ids) < 2:
            return answer
        swapped.append(ids)
        return Reply(200, answer.body.replace(ids[0], b"?").replace(ids[1], ids[0]).replace(b"?", ids[1]))
    direct.on_bulk(done_but_lost(direct, swap), each=True)
    c = direct.ok("--workers", 1, versioning="sequence")
    assert swapped and c["indexed"] + c["unchanged"] == 60
    direct.same()


@pytest.mark.parametrize("what", ["503", "closed", "cut off", "html", "an item too few"])
def test_when_it_never_passes(direct, what):
    direct.on_bulk(LOST[what] if isinstance(LOST[what], Reply) else done_but_lost(direct, LOST[what]), each=True)
    result = says(direct.run(*QUICK, json_=False), re.escape(direct.elastic.url), "gave up after", "run the same command again", code=3)
    assert "rows" in result.out and not re.search(r"documents +[1-9]", result.out)
    direct.elastic.always = None
    c = direct.ok()
    assert c["rows"] == c["documents"] == 60
    direct.same()


def test_a_server_that_asks_for_time(direct):
    """Retry-After is honoured."""
    direct.on_bulk(Reply(429, headers={"Retry-After": "1"}))
    direct.ok("--workers", 1)
    first, second = direct.bulks()[:2]
    assert second.start - first.start >= 0.99


# --- single items ------------------------------------------------------------------------------------

def per_mille(direct, classes, once):
    """5 % of the items of each class are answered so; once: only at the first time."""
    seen = set()

    def act(action, meta, source):
        n = number(meta["_id"])
        for i, answer in enumerate(classes):
            if n % 20 == i and (not once or n not in seen):
                seen.add(n)
                return answer
        return None
    direct.elastic.item_script = act


PASSING = [refused(429, "es_rejected_execution_exception"), refused(503, "unavailable_shards_exception"), refused(500, "exception"),
           refused(403, "cluster_block_exception", "index [items] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded]"),
           refused(429, "circuit_breaking_exception")]
LASTING = [refused(400, "mapper_parsing_exception", "failed to parse field [v] of type [long]"), refused(404, "routing_missing_exception"),
           refused(400, "strict_dynamic_mapping_exception"), refused(400, "illegal_argument_exception"), refused(413, "too_large")]


@pytest.mark.parametrize("mode", MODES)
def test_items_that_pass_later(direct, mode):
    per_mille(direct, PASSING, once=True)
    c = direct.ok(versioning=mode)
    assert (c["rows"], c["documents"], c["failed"]) == (60, 60, 0) and c["indexed"] + c["unchanged"] == 60
    direct.same()


@pytest.mark.parametrize("mode", MODES)
def test_items_that_never_pass(direct, mode):
    per_mille(direct, LASTING, once=False)
    c = direct.ok(versioning=mode, code=1)
    assert (c["rows"], c["indexed"], c["failed"]) == (60, 45, 15)
    direct.same(without=[i for i in direct.rows() if number(i) % 20 < 5])
    listed = direct.failures(c["run"])
    assert all(answer["error"]["type"] in listed for answer in LASTING), listed
    assert len(direct.bulks()) < 200


def test_failures_are_summed_up_for_people(direct):
    direct.elastic.put("items", "i0003", {"v": "older"})
    direct.elastic.deleted["items"].clear()
    per_mille(direct, [None, None, None, LASTING[0]], once=False)
    says(direct.run(json_=False), r"failed +3", "older version.*still in the index", r'mapper_parsing_exception: "i00[0-4]3": failed to parse field',
         "cass2es failures list", code=1)
    assert direct.elastic.sources("items")["i0003"] == {"v": "older"}


def test_half_of_all_fail_in_every_way(direct):
    per_mille(direct, PASSING, once=True)
    passing = direct.elastic.item_script

    def both(action, meta, source):
        n = number(meta["_id"]) % 20
        return LASTING[n - 5] if 5 <= n < 10 else passing(action, meta, source)
    direct.elastic.item_script = both
    direct.on_bulk(problem(429, "es_rejected_execution_exception"), None, Reply(fault="reset"), None, problem(503, "x"))
    c = direct.ok("--workers", 2, code=1)
    assert (c["rows"], c["indexed"], c["failed"]) == (60, 45, 15)
    direct.same(without=[i for i in direct.rows() if 5 <= number(i) % 20 < 10])


def conflict_with(version):
    return lambda action, meta, source: refused(409, "version_conflict_engine_exception", "[%s]: version conflict, current version [%d] is higher than "
                                                "the one provided [%d]" % (meta["_id"], version(meta), meta["version"])) if number(meta["_id"]) % 20 == 3 else None


def test_a_later_version_is_there(direct):
    direct.elastic.item_script = conflict_with(lambda m: m["version"] + 1)
    c = direct.ok()
    assert (c["rows"], c["indexed"], c["stale"], c["failed"]) == (60, 57, 3, 0)


def test_a_version_of_tomorrow_is_there(direct):
    direct.elastic.item_script = conflict_with(lambda m: m["version"] + 86400 * 10**6)
    c = direct.ok(code=1)
    assert (c["rows"], c["indexed"], c["stale"], c["failed"]) == (60, 57, 0, 3)
    assert "foreign_version" in direct.failures(c["run"])


def test_another_writer_is_always_faster(direct):
    """sequence: five losses, then the document is told as contended."""
    lost = []

    def act(action, meta, source):
        if meta["_id"] != "i0007":
            return None
        lost.append(meta)
        return refused(409, "version_conflict_engine_exception", "[i0007]: version conflict, document already exists (current version [1])")
    direct.elastic.item_script = act
    c = direct.ok(versioning="sequence", code=1)
    assert (c["indexed"], c["failed"]) == (59, 1) and 2 <= len(lost) <= 7
    assert "contended" in direct.failures(c["run"])


@pytest.mark.parametrize("other", [[], [2]])
def test_what_a_restarted_shard_has_forgotten(direct, other):
    """Its term is new, though perhaps not to the index: a row that was deleted meanwhile does not come back."""
    direct.elastic.other_shards = other

    def restart(req):
        if b'"i0007"' in req.body and direct.elastic.terms["items"] == 1:
            direct.table.delete(id="i0007")
            direct.elastic.terms["items"] = 2
    direct.on_bulk(restart, each=True)
    c = direct.ok("--workers", 1)
    assert (c["rows"], c["indexed"], c["gone"]) == (59, 59, 1), c
    direct.same()


def restart_and_lose(direct, at, reply):
    """Before the first document is written its row is deleted, and so was it; the shard has forgotten that. The answer number `at` is lost."""
    gone, seen = [], []

    def act(req):
        seen.append(req)
        if len(seen) == 1:
            gone.append(actions(req)[0][1]["_id"])
            direct.table.delete(id=gone[0])
            direct.elastic.terms["items"] = 2
        return done_but_lost(direct, reply)(req) if len(seen) == at else None
    direct.on_bulk(act, each=True)
    return gone


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("what", ["503", "closed", "cut off"])
@pytest.mark.parametrize("mode", ["read_time", "write_time"])
def test_what_a_restarted_shard_has_forgotten_and_nobody_heard_of(direct, what, at, mode):
    """The page that is read again does not have the row: its document goes all the same, also when the answer that is lost is a later one."""
    direct.table.put([("i%04d" % i, "x" * 30000) for i in range(60)])
    gone = restart_and_lose(direct, at, LOST[what])
    c = direct.ok("--workers", 1, "--bulk-size", "64KiB", versioning=mode)
    assert (c["rows"], c["failed"]) == (59, 0), c
    assert len(gone) == 1 and gone[0] not in direct.rows()
    direct.same()


def test_no_row_is_looked_for_when_no_shard_started_anew(direct):
    direct.on_bulk(done_but_lost(direct, LOST["closed"]))
    assert direct.ok("--workers", 1, versioning="read_time")["indexed"] == 60
    assert not direct.ring.seen("EXECUTE", r'WHERE "id" = ')
    direct.same()


def test_what_nobody_heard_of_and_that_cannot_be_deleted(direct):
    """It is a failure, and counted."""
    gone = restart_and_lose(direct, 1, LOST["closed"])
    c = direct.ok("--workers", 1, versioning="read_time", target=', routing: "{v}"', code=1)
    assert (c["rows"], c["indexed"], c["failed"]) == (60, 59, 1), c
    assert "bad_routing" in direct.failures(c["run"]) and gone[0] in direct.failures(c["run"])


@pytest.mark.parametrize("mode", ["read_time", "write_time"])
def test_what_a_restarted_shard_has_forgotten_and_told_as_put_off(direct, mode):
    """503 for one document, which was written nevertheless."""
    def act(action, meta, source):
        if meta["_id"] != "i0007" or direct.elastic.terms["items"] == 2:
            return None
        direct.table.delete(id="i0007")
        direct.elastic.terms["items"] = 2
        direct.elastic.write("items", action, meta, source)
        return refused(503, "unavailable_shards_exception")
    direct.elastic.item_script = act
    c = direct.ok("--workers", 1, versioning=mode, target=', routing: "{id}"')
    assert (c["rows"], c["indexed"], c["gone"]) == (59, 59, 1), c
    direct.same()
    assert [b.json["delete"]["routing"] for b in direct.bulks() if b.body.startswith(b'{"delete":')] == ["i0007"]


def test_a_storm_of_refusals(direct):
    """Nobody is let in for 0.6 s, then two in three: it knocks seldom, and gives nobody up."""
    end = time.monotonic() + 0.6
    knocks = []

    def act(req):
        knocks.append(time.monotonic())
        if knocks[-1] < end or len(knocks) % 3 == 0:
            return problem(429, "es_rejected_execution_exception", "rejected execution")
        return None
    direct.on_bulk(act, each=True)
    c = direct.ok("--workers", 4, timeout=60)
    assert (c["rows"], c["indexed"], c["failed"]) == (60, 60, 0)
    direct.same()
    assert len([k for k in knocks if k < end]) < 40


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("done", [False, True])
def test_one_of_two_nodes_dies_in_the_middle_of_a_bulk(program, make_ring, elastic, mode, done):
    """Whether or not it did the work before: the other one has all documents in the end, and nothing waits for the dead one."""
    with elastic.node() as other:
        d = Direct(program, make_ring(page_rows=10), elastic)

        def die(req):
            if done:
                elastic.usual(req)
            elastic.stop()
            return Reply(fault="close")
        d.on_bulk(None, die)
        c = d.ok("--workers", 2, "--elastic-url", "%s,%s" % (elastic.url, other.url), versioning=mode)
        assert (c["rows"], c["documents"], c["failed"]) == (60, 60, 0), c
        d.same()
        assert any(call.path.endswith("/_bulk") for call in other.calls)
        assert not elastic.listener


# --- the body ----------------------------------------------------------------------------------------

def gateway(direct, limit):
    """In front of the index: bodies above the limit are refused."""
    direct.on_bulk(lambda req: Reply(413) if len(req.body) > limit else None, each=True)


@pytest.mark.parametrize("mode", MODES)
def test_a_gateway_that_takes_small_bodies_only(direct, mode):
    direct.table.put([("b%04d" % i, "x" * 1000) for i in range(100)])
    direct.ring.page_rows = 100
    gateway(direct, 20000)
    c = direct.ok("--workers", 1, versioning=mode)
    assert (c["rows"], c["indexed"]) == (160, 160)
    direct.same()


@pytest.mark.parametrize("mode", MODES)
def test_a_gateway_teaches_the_size_of_bodies(program, make_ring, elastic, mode):
    """What it refuses is halved, for the bodies to come as well: none is refused any more, and they are not smaller than that."""
    direct = Direct(program, make_ring(page_rows=100), elastic, rows=0)
    direct.table.put([("i%04d" % i, "x" * 4000) for i in range(400)])
    gateway(direct, 150000)
    c = direct.ok("--workers", 1, "--compress", "off", versioning=mode)
    assert (c["rows"], c["indexed"], c["failed"]) == (400, 400, 0)
    direct.same()
    bodies = [(b.status, len(b.body)) for b in direct.bulks()]
    assert [status for status, _ in bodies].count(413) == 1, bodies
    after = [size for _, size in bodies[[status for status, _ in bodies].index(413) + 3:]]  # its two halves are no later ones
    assert sum(after) > 8 * max(after) and 75000 < max(after) <= 150000, bodies


@pytest.mark.parametrize("mode", MODES)
def test_a_document_that_no_gateway_takes(direct, mode):
    direct.table.put([("i0007", "x" * 30000)])
    gateway(direct, 20000)
    c = direct.ok("--workers", 1, versioning=mode, code=1)
    assert (c["rows"], c["indexed"], c["failed"]) == (60, 59, 1)
    direct.same(without=["i0007"])
    assert "document_too_large" in direct.failures(c["run"])


def test_a_small_rest_of_a_page_goes_along(program, make_ring, elastic):
    """A request is as large as asked for, but no page leaves less than half of that for one of its own."""
    d = Direct(program, make_ring(), elastic, rows=400)
    for i, row in enumerate(d.table.rows):
        row["v"] = b"%04d" % i * 500
    d.ok("--bulk-size", "64KiB", "--workers", "1", "--compress", "off")
    d.same()
    aim, document = 64 << 10, max(len(line) for b in d.bulks() for line in b.body.split(b"\n")) + 100
    pages = {}
    for b in d.bulks():
        pages.setdefault(actions(b)[0][1]["version"], []).append(len(b.body))
    assert all(max(sizes) < aim * 3 / 2 + document for sizes in pages.values())
    assert all(min(sizes) >= aim / 2 - 2 * document for sizes in pages.values() if len(sizes) > 1)
    assert any(len(sizes) > 1 for sizes in pages.values())
    assert any(max(sizes) > aim + document for sizes in pages.values())


def goes_on_after_a_pause(direct, pattern, away, *flags, **more):
    """A run that is told of its pause before the reason for it goes away."""
    p = direct.start(*flags, **more)
    said = wait_for_text(p, pattern)
    away()
    result = direct.program.finish(p)
    result.err = said + result.err
    result.counts = json.loads(result.out)
    return result


def large_rows(d, count=200, size=4000):
    """Words that gzip makes much smaller; no two rows alike."""
    d.table.put([("i%04d" % i, "".join("%d word %d " % (i, j) for j in range(size // 12))) for i in range(count)])


def packed(d):
    return [b.header("Content-Encoding") == "gzip" for b in d.bulks()]


def test_a_slow_line_has_its_bodies_packed(program, make_ring, elastic):
    elastic.line = 200_000
    d = Direct(program, make_ring(page_rows=10), elastic)
    large_rows(d)
    d.ok("--workers", 1)
    d.same()
    assert not packed(d)[0] and packed(d)[-1] and sum(packed(d)) >= len(packed(d)) / 2


def test_a_slow_server_has_its_bodies_as_they_are(program, make_ring, elastic):
    """It has them long before it answers: packing would be work for both sides, and nothing sooner."""
    d = Direct(program, make_ring(page_rows=10), elastic)
    large_rows(d)
    d.on_bulk(lambda req: time.sleep(0.1), each=True)
    d.ok("--workers", 1)
    d.same()
    assert len(packed(d)) >= 20 and not any(packed(d))


def test_a_page_that_came_while_a_bulk_took_long_is_not_read_again(program, make_ring, elastic):
    """The time-out is the server's, not ours: what it sent in time is taken."""
    d = Direct(program, make_ring(page_rows=100), elastic, rows=0)
    large_rows(d, size=80000)

    def read():
        d.on_bulk(*[None] * 6, *[lambda req: time.sleep(1.5)] * 2)
        r = d.program.run(*d.args("--workers", 1, "--cassandra-request-timeout", "1s", json_=False), *cass(d.ring, tries=9))
        assert r.code == 0, r
        d.same()
        return r if "scan_retry" in r.err else None
    one_of(3, read)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("status", [400, pytest.param(500, marks=pytest.mark.long)])
def test_a_line_for_which_the_whole_request_is_refused(direct, status, mode):
    direct.on_bulk(lambda req: problem(status, "x_content_parse_exception") if b"i0007" in req.body else None, each=True)
    c = direct.ok("--workers", 1, versioning=mode, code=1)
    assert (c["rows"], c["indexed"], c["failed"]) == (60, 59, 1)
    direct.same(without=["i0007"])
    assert "x_content_parse_exception" in direct.failures(c["run"])


def test_a_row_that_is_larger_than_the_memory(direct):
    direct.table.put([("i0007", "x" * 3000000)])
    result = direct.run("--workers", 1, "--memory", "4MiB")
    assert result.code == 1, result
    assert (result.counts["rows"], result.counts["indexed"], result.counts["failed"]) == (60, 59, 1)
    direct.same(without=["i0007"])
    says(result, code=1)
    assert re.search("too.large|larger than --memory", direct.failures(result.counts["run"]))


# --- a pause -----------------------------------------------------------------------------------------

PAUSED_BAR = r"(?s)(?=.*event=paused)(?=.*paused: no writing)"  # logged, and shown in the bar

@pytest.mark.parametrize("mode", ["read_time", "sequence"])
@pytest.mark.parametrize("how", ["item", "items", "request", "cluster"])
def test_a_block_pauses_the_run(direct, how, mode):
    """Read-only or flood stage: nothing fails, it goes on when the block is gone, and both is told once for all workers."""
    block = refused(403, "cluster_block_exception", "index [items] blocked by: [FORBIDDEN/8/index write (api)];")
    gone = threading.Event()
    if how in ("request", "cluster"):
        status = 429 if how == "request" else 403
        direct.on_bulk(lambda req: None if gone.is_set() else problem(status, "cluster_block_exception", block["error"]["reason"]), each=True)
    else:
        direct.elastic.item_script = lambda a, m, s: block if not gone.is_set() and (how == "items" or number(m["_id"]) == 7) else None
    direct.elastic.blocks = {"indices": {"items": {"8": {"description": "index write (api)", "levels": ["write"]}}}}

    def away():
        direct.elastic.blocks = {}
        gone.set()
    result = goes_on_after_a_pause(direct, PAUSED_BAR, away, "--workers", 4, "--progress", "bar", versioning=mode)
    assert result.code == 0, result
    c = result.counts
    assert (c["rows"], c["indexed"], c["failed"]) == (60, 60, 0)
    direct.same()
    assert len(direct.bulks()) < 60
    why = "no writing: index write (api)"
    told = re.findall(r"level=(\w+) event=(paused|goes_on) (.*)", result.err)
    assert [t[:2] for t in told] == [("warn", "paused"), ("warn", "goes_on")], result.err
    assert told[0][2] == f'index=items why="{why}"' and re.fullmatch(r"index=items paused_ms=\d+", told[1][2]), told
    assert f"paused: {why}" in result.err, result.err  # the bar
    assert not re.search("event=(bulk|page)_retry", result.err), result.err


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_a_red_index_pauses_the_run(direct, mode):
    """A primary is nowhere: whatever is meant for it waits, and nothing is lost or failed."""
    gone = threading.Event()
    lost = refused(503, "unavailable_shards_exception", "[items][0] primary shard is not active Timeout: [1m]")
    direct.elastic.item_script = lambda a, m, s: None if gone.is_set() or number(m["_id"]) % 3 else lost
    direct.elastic.health, direct.elastic.unassigned = "red", 1

    def back():
        direct.elastic.health, direct.elastic.unassigned = "green", 0
        gone.set()
    result = goes_on_after_a_pause(direct, "event=paused", back, "--workers", 2, versioning=mode)
    assert result.code == 0 and (result.counts["rows"], result.counts["failed"]) == (60, 0), result
    direct.same()
    assert re.search(r'event=paused index=items why="the index is red: 1 shards are nowhere"', result.err), result.err
    assert re.search("event=goes_on", result.err), result.err


def test_a_block_pauses_a_run_of_ids(direct):
    block = refused(403, "cluster_block_exception", "index [items] blocked by: [FORBIDDEN/8/index write (api)];")
    direct.elastic.blocks = {"indices": {"items": {"8": {"description": "index write (api)", "levels": ["write"]}}}}
    direct.elastic.item_script = lambda a, m, s: block if direct.elastic.blocks else None
    ids = direct.program.file("ids.csv", "".join(f"{i}\n" for i in direct.rows()))
    result = goes_on_after_a_pause(direct, PAUSED_BAR, lambda: setattr(direct.elastic, "blocks", {}),
                                   "--id-file", ids, "--progress", "bar")
    assert result.code == 0 and result.counts["indexed"] == 60, result
    direct.same()
    assert re.findall("level=(warn) event=(paused|goes_on)", result.err) == [("warn", "paused"), ("warn", "goes_on")], result.err
    assert "paused: no writing: index write (api)" in result.err, result.err


def test_a_push_back_is_no_pause(direct):
    direct.on_bulk(problem(429, "es_rejected_execution_exception"), problem(429, "es_rejected_execution_exception"))
    result = direct.run("--workers", 1)
    assert result.code == 0 and "event=page_retry" in result.err and "event=paused" not in result.err, result


def test_a_block_that_stays_ends_the_budget(direct):
    block = refused(403, "cluster_block_exception", "index [items] blocked by: [FORBIDDEN/8/index write (api)];")
    direct.elastic.item_script = lambda a, m, s: block
    says(direct.run(*QUICK, json_=False), "cluster_block_exception|blocked|index write", "gave up", "run the same command again", code=3)
    direct.elastic.item_script = None
    assert direct.ok()["rows"] == 60
    direct.same()


# --- rates -------------------------------------------------------------------------------------------

def test_documents_per_second(direct):
    began = time.monotonic()
    c = direct.ok("--max-docs-per-s", 40)
    assert c["indexed"] == 60 and time.monotonic() - began >= 1  # the first body does not wait
    direct.same()


def test_rows_per_second(direct):
    began = time.monotonic()
    assert direct.ok("--max-reads-per-s", 40)["indexed"] == 60
    assert time.monotonic() - began >= 1
    direct.same()


@pytest.mark.parametrize("flag", ["--max-docs-per-s", "--max-reads-per-s"])
def test_a_rate_and_the_age_of_rows(direct, flag):
    """A page is small enough that it does not grow too old while it waits for its turn."""
    direct.table.put([("i%04d" % i, "v%d" % i) for i in range(400)])
    direct.ring.page_rows = 100
    direct.elastic.meta["items"]["settings"]["gc_deletes"] = "4s"  # a row may be 1 s old

    def sync():
        result = direct.run(flag, 100, "--workers", 8)
        assert result.code == 0 and result.counts["indexed"] == 400 and 2 <= result.seconds, result
        direct.same()
        return result if result.seconds >= 8 or "too long" in result.err else None
    one_of(3, sync)


# --- before the run ----------------------------------------------------------------------------------

def test_no_such_index(direct):
    direct.elastic.indices.clear()
    says(direct.run(), "no index items", "cass2es init shop.items --index items --create", code=2)
    assert not direct.bulks()


@pytest.mark.parametrize("name", ["write", "read_only", "read_only_allow_delete"])
def test_an_index_that_is_blocked(direct, name):
    direct.elastic.meta["items"]["settings"]["blocks"] = {name: "true"}
    says(direct.run(*QUICK), "items", "block", code=2)
    assert not direct.bulks()


def test_an_index_of_another_versioning(direct):
    direct.elastic.meta["items"]["mappings"] = {"_meta": {"cass2es": {"versioning": "sequence"}}}
    says(direct.run(), "items", "sequence", "read_time", code=2)
    assert not direct.bulks()
    direct.ok(versioning="sequence")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("when", ["before", "bulk"])
def test_not_allowed(direct, status, when):
    refuse = problem(status, "security_exception", "action is unauthorized")
    direct.elastic.always = refuse if when == "before" else lambda r: refuse if r.path.endswith("_bulk") else None
    result = says(direct.run("--elastic-username", "u", "--elastic-password", PASSWORD), str(status), "security_exception", code=3)
    assert result.seconds < 25
    assert not direct.program.places_of(PASSWORD, result.out, result.err)


def test_an_index_that_goes_away(direct):
    """The operator has to act: the same command alone would say the same again."""
    direct.on_bulk(problem(404, "index_not_found_exception", "no such index [items]"), each=True)
    r = says(direct.run(*QUICK, json_=False), "not finished", "no index or alias .?items", code=2)
    assert "same command again" not in r.out, r


def test_items_that_may_not_be_written(direct):
    """No rights for one are no rights for all."""
    direct.elastic.item_script = lambda a, m, s: refused(403, "security_exception", "action is unauthorized") if number(m["_id"]) == 7 else None
    says(direct.run(json_=False), "security_exception", "run the same command again", code=3)
    direct.elastic.item_script = None
    assert direct.ok()["rows"] == 60
    direct.same()


def test_clocks_apart(direct):
    direct.ring.clock_ahead = 3600
    says(direct.run(), "clock is 3[56]\\d+ ms behind Cassandra's", "NTP", code=2)
    assert not direct.bulks()
    direct.ring.clock_ahead = 3
    direct.ok()


# --- rows and ids ------------------------------------------------------------------------------------

def test_an_id_of_512_bytes_and_one_of_more(direct):
    """A default id becomes a hash, an id by template fails its document; the page goes on."""
    direct.table.put([("a" * 512, "fits"), ("b" * 513, "does not")])
    c = direct.ok(versioning="read_time", code=1)
    assert (c["rows"], c["indexed"], c["failed"]) == (62, 61, 1)
    direct.same(without=["b" * 513])
    assert "bad_document_id" in direct.failures(c["run"])


def test_an_empty_id(program, make_ring, elastic):
    ring = make_ring()
    ring.table("shop", "things", "p text, c text, v text", "p", "c", rows=[("p1", "", "v1"), ("p1", "c", "v2"), ("p2", "c2", "v3")])
    d = Direct(program, ring, elastic)
    program.file("things.yaml", 'object: t\nsource: {table: things, key: [p, c]}\ntarget: {index: items, id: "{c}"}\nversioning: read_time\n')
    r = program.run("sync", "--mapping", "things.yaml", "--elastic-url", elastic.url, "--json", *d.args()[-5:-1])
    assert r.code == 1, r
    assert set(elastic.sources("items")) == {"c", "c2"}


def test_a_value_that_is_altered(program, make_ring, elastic):
    ring = make_ring()
    d = Direct(program, ring, elastic, rows=0)
    ring.table("shop", "m", "id text, f double", "id", rows=[("1", float("nan")), ("2", 1.5)])
    args = ["sync", "shop.m", "--index", "items", *d.args()[4:]]
    r = says(program.run(*args), '"nan_to_null":1', code=0)
    assert elastic.sources("items") == {"1": {"id": "1", "f": None}, "2": {"id": "2", "f": 1.5}}
    elastic.indices["items"].clear()
    r = says(program.run(*args, "--strict-values"), '"failed":1', code=1)
    assert set(elastic.sources("items")) == {"2"} and "altered" in d.failures(re.search('"run":"([^"]+)"', r.out)[1])
