"""failures: by cause with a hint, one by one, dropped, tried again; and the mode that an index remembers."""
import re

import pytest
from direct import Direct, refused
from flow import KEY, PASSWORD, cass, rows_of, says
from peer_cql import READ_FAILURE, call, error


def refuse(elastic, *ids, type_="mapper_parsing_exception", reason="failed to parse field [v]"):
    elastic.item_script = lambda action, meta, source: refused(400, type_, reason) if meta["_id"] in ids else None


def failed(direct, *ids, **more):
    refuse(direct.elastic, *ids)
    return direct.ok(code=1, **more)["run"]


def again(direct, run, *flags, code=0, **more):
    r = direct.program.run("failures", "retry", run, "--json", *flags, **more)
    assert r.code == code, r
    return rows_of(r.out)[-1]


def left(direct, run, *flags):
    return {f["key"]: f["reason"] for f in rows_of(direct.program.run("failures", "show", run, "--json", *flags).out)}


# --- list, show, drop ------------------------------------------------------------------------------------

def test_causes_with_an_example_and_a_hint(direct):
    run = failed(direct, "i0003", "i0004")
    says(direct.program.run("failures", "list", run), r"^ +2 +mapper_parsing_exception +.*field \[v\]", r'such as "?i000[34]', "mapping does not take",
         "failures retry " + run, code=0)
    cause, = rows_of(direct.program.run("failures", "--json").out)
    assert cause["run"] == run and cause["count"] == 2 and "mapping" in cause["hint"] and cause["key"] in ('"i0003"', '"i0004"')


def test_show_takes_reason_and_limit(direct):
    run = failed(direct, *["i%04d" % i for i in range(9)])
    assert len(left(direct, run)) == 9
    assert len(left(direct, run, "--limit", 4)) == 4
    assert left(direct, run, "--reason", "contended") == {}
    assert direct.program.run("failures", "list", run, "--reason", "contended", "--json").out == ""


def test_drop(direct):
    run = failed(direct, "i0003", "i0004")
    says(direct.program.run("failures", "drop", run, "--reason", "missing"), "dropped 0 failures", code=0)
    assert len(left(direct, run)) == 2
    assert rows_of(direct.program.run("failures", "drop", run, "--json").out) == [{"run": run, "dropped": 2}]
    assert left(direct, run) == {}
    says(direct.program.run("failures", "list", run), "no failures", code=0)


@pytest.mark.parametrize("args,text", [(["drop"], "of which run"), (["retry"], "of which run"), (["mend"], "list, show, retry or drop"),
                                       (["retry", "20990101-000000-0000"], "no run 20990101-000000-0000")])
def test_what_it_does_not_take(direct, args, text):
    failed(direct, "i0003")
    says(direct.program.run("failures", *args), text, code=2)


def test_the_summary_counts_them_by_kind(direct):
    direct.elastic.item_script = lambda a, meta, s: refused(
        400, "mapper_parsing_exception", "failed to parse field [v] in document with id '%s'" % meta["_id"]) if meta["_id"] < "i0009" else None
    says(direct.run(json_=False), "all rows read, some documents failed", r"mapper_parsing_exception: \"i000\d\": failed .* \(and 8 like it\)$",
         "-> the index's mapping does not take", r"failures retry \d", r"^ +took +\d", code=1)


# --- retry: an index ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", ["read_time", "sequence", "none"])
def test_the_row_as_it_is_now(direct, mode):
    run = failed(direct, "i0003", "i0004", versioning=mode)
    direct.table.put([("i0003", "new")])
    refuse(direct.elastic, "i0004", type_="document_parsing_exception", reason="other")
    c = again(direct, run, code=1)
    assert (c["retry_of"], c["tried"], c["settled"], c["failed"], c["exit_code"]) == (run, 2, 1, 1, 1)
    assert direct.elastic.sources("items")["i0003"]["v"] == "new"
    assert left(direct, run) == {'"i0004"': "document_parsing_exception"}
    direct.elastic.item_script = None
    assert again(direct, run)["settled"] == 1
    direct.same()
    assert left(direct, run) == {}
    says(direct.program.run("failures", "retry", run), "no failures to try again", code=0)


def test_a_row_that_went_meanwhile_is_settled(direct):
    run = failed(direct, "i0003")
    direct.table.delete(id="i0003")
    direct.elastic.item_script = None
    assert again(direct, run)["settled"] == 1 and left(direct, run) == {}


def test_only_one_reason(direct):
    reasons = {"i0003": "mapper_parsing_exception", "i0004": "illegal_argument_exception"}
    direct.elastic.item_script = lambda a, meta, s: refused(400, reasons[meta["_id"]]) if meta["_id"] in reasons else None
    run = direct.ok(code=1)["run"]
    direct.elastic.item_script = None
    assert again(direct, run, "--reason", "mapper_parsing_exception")["tried"] == 1
    assert left(direct, run) == {'"i0004"': "illegal_argument_exception"}


def test_a_retry_is_a_run_of_its_own(direct):
    run = failed(direct, "i0003")
    c = again(direct, run, code=1)
    assert [r["command"] for r in rows_of(direct.program.run("runs", "--json").out)] == ["retry", "sync"]
    assert rows_of(direct.program.run("runs", "show", c["run"], "--json").out)[0]["summary"]["retry_of"] == run
    assert rows_of(direct.program.run("failures", "--json").out)[0]["run"] == run  # the newest that is no retry
    says(direct.program.run("failures", "retry", c["run"]), "give the run that it was a retry of", code=2)


def test_secrets_come_anew(program, make_ring, elastic):
    ring = make_ring(page_rows=10)
    ring.auth = ("bob", PASSWORD)
    d = Direct(program, ring, elastic)
    refuse(elastic, "i0003")
    by_env = {"CASS2ES_CASSANDRA_PASSWORD": PASSWORD}
    run = rows_of(program.finish(program.start(*d.args("--cassandra-username", "bob"), env=by_env)).out)[0]["run"]
    elastic.item_script = None
    says(program.run("failures", "retry", run), "bob|password|credentials|log.?in", code=3)
    assert left(d, run)
    r = says(program.run("failures", "retry", run, "--json", "--cassandra-password", PASSWORD), code=0)
    assert PASSWORD not in r.out + r.err and not left(d, run)


def test_what_is_given_now_comes_first(direct):
    run = failed(direct, "i0003")
    direct.elastic.item_script = None
    r = direct.program.run("failures", "retry", run, "--elastic-url", "http://127.0.0.1:1", "--retry-budget", "200ms")
    says(r, "127.0.0.1:1", code=3)
    assert again(direct, run)["settled"] == 1


def test_many(program, make_ring, elastic):
    d = Direct(program, make_ring(page_rows=100), elastic, rows=1000)
    elastic.item_script = lambda a, meta, s: refused(400, "illegal_argument_exception")
    run = d.ok(code=1)["run"]
    elastic.item_script = lambda a, meta, s: refused(400, "illegal_argument_exception") if meta["_id"] >= "i0990" else None
    c = again(d, run, code=1)
    assert (c["tried"], c["settled"], c["failed"]) == (1000, 990, 10)
    assert len(left(d, run)) == 10


def test_keys_of_several_columns(program, make_ring, elastic):
    ring = make_ring(page_rows=10)
    ring.table("shop", "lines", "a text, b text, v text", "a", ["b"], rows=[("a%d" % (i // 3), "b%d" % i, "v") for i in range(12)])
    d = Direct(program, ring, elastic)
    elastic.index("lines")
    refuse(elastic, "a1:b4")
    r = program.run("sync", "shop.lines", "--index", "lines", "--elastic-url", elastic.url, *cass(ring), "--json")
    run = rows_of(says(r, code=1).out)[0]["run"]
    assert left(d, run) == {'{"a":"a1","b":"b4"}': "mapper_parsing_exception"}
    elastic.item_script = None
    assert again(d, run)["settled"] == 1 and "a1:b4" in elastic.sources("lines")


def test_ranges_that_could_not_be_read(direct):
    bad = direct.table.tokens[7]

    def tombstones(r):
        a, b = (int.from_bytes(v, "big", signed=True) for v in r.values[:2])
        return a < bad <= b
    direct.ring.on("EXECUTE", r'"items".*token\(', do=error(READ_FAILURE, "READ_TOO_MANY_TOMBSTONES"), times=None, where=tombstones)
    c = direct.ok(code=1)
    assert c["unread_ranges"] == 1 and c["rows"] == 59
    reads = again(direct, c["run"], code=1)
    assert reads["unread_ranges"] == 1 and reads["rows"] == 0
    assert list(left(direct, c["run"]).values()) == ["unread_range"]
    direct.ring.rules.clear()
    reads = again(direct, c["run"])
    assert (reads["rows"], reads["indexed"], reads["exit_code"]) == (1, 1, 0)  # only that range was read
    direct.same()
    assert left(direct, c["run"]) == {}


def test_a_column_is_dropped_while_ranges_are_read_again(program, make_ring, elastic):
    direct = Direct(program, make_ring(page_rows=10), elastic, rows=0)
    direct.table.add_column("w", "text")
    direct.table.put([("i%04d" % i, "v%d" % i, "w") for i in range(40)])
    direct.ring.on("EXECUTE", r'"items".*token\(', do=error(READ_FAILURE, "READ_TOO_MANY_TOMBSTONES"), times=None)
    run = direct.ok(code=1)["run"]
    direct.ring.rules.clear()

    def drop():
        direct.table.drop_column("w")
        direct.ring.forget('"items"')
    direct.ring.on("EXECUTE", r'"items".*token\(', do=call(lambda r: drop()), skip=2)
    r = says(program.run("failures", "retry", run, "--json", "--workers", 1), "column_dropped", code=0)
    assert rows_of(r.out)[-1]["indexed"] == 40
    direct.same()
    assert left(direct, run) == {}


@pytest.mark.parametrize("lines,name", [("null\n{\n\"i0001\"\n", "ids.jsonl"), ("i0001,i0002\n", "ids.csv")])
def test_a_line_that_is_no_id_is_not_made_one(program, make_ring, elastic, lines, name):
    """Text of a file that was no id must not settle a row that has it as its key."""
    direct = Direct(program, make_ring(page_rows=10), elastic)
    direct.table.put([("null", "v"), ("{", "v"), ("i0001,i0002", "v")])
    program.file(name, lines)
    c = direct.run("--id-file", name).counts
    assert c["bad"] > 0, c
    before = left(direct, c["run"])
    says(program.run("failures", "retry", c["run"]), "not_retried failures=%d" % len(before), code=0)
    assert left(direct, c["run"]) == before and set(elastic.sources("items")) <= {"i0001"}


# --- retry: what a brake left --------------------------------------------------------------------------------

def sync_ids(direct, count, code):
    direct.program.file("ids.csv", "".join("i%04d\n" % i for i in range(count)))
    r = direct.run("--id-file", "ids.csv", "--missing", "delete")
    assert r.code == code, r
    return r.counts


def test_what_a_brake_left_is_not_tried_unasked(program, make_ring, elastic):
    """The table was emptied by mistake: no command that is given again and again empties the index, too."""
    direct = Direct(program, make_ring(page_rows=100), elastic, rows=250)
    direct.ok()
    direct.table.delete()
    c = sync_ids(direct, 250, 7)
    assert c["deleted"] == 100 and len(elastic.sources("items")) == 150
    cause, = rows_of(program.run("failures", "list", c["run"], "--json").out)
    assert (cause["reason"], cause["count"]) == ("brake", 150) and "--reason brake" in cause["hint"]
    for _ in range(2):
        says(program.run("failures", "retry", c["run"]), "not_retried failures=150", "--reason brake", code=7)
    assert len(elastic.sources("items")) == 150
    again_ = again(direct, c["run"], "--reason", "brake", code=7)
    assert (again_["exit_code"], again_["settled"], again_["failed"]) == (7, 100, 50)
    assert len(elastic.sources("items")) == 50 and set(left(direct, c["run"]).values()) == {"brake"}
    assert again(direct, c["run"], "--reason", "brake")["settled"] == 50
    assert elastic.sources("items") == {}


def test_a_retry_is_no_second_allowance(program, make_ring, elastic):
    """The run deleted as many as it may: a row that is gone only now is one too many."""
    direct = Direct(program, make_ring(page_rows=100), elastic, rows=110)
    direct.ok()
    for i in range(100):
        direct.table.delete(id="i%04d" % i)
    refuse(elastic, "i0105")
    c = sync_ids(direct, 110, 1)
    assert c["deleted"] == 100 and left(direct, c["run"]) == {'"i0105"': "mapper_parsing_exception"}
    direct.table.delete(id="i0105")
    elastic.item_script = None
    assert again(direct, c["run"], code=7)["failed"] == 1
    assert left(direct, c["run"]) == {'"i0105"': "brake"} and "i0105" in elastic.sources("items")


# --- the summary of ids --------------------------------------------------------------------------------------

def ids_text(direct, missing, *ids, code):
    direct.program.file("ids.csv", "".join(i + "\n" for i in ids))
    r = direct.run("--id-file", "ids.csv", "--missing", missing, json_=False)
    assert r.code == code, r
    run = re.search(r"^ *run +(\S+)", r.out, re.M)[1]
    return r.out, rows_of(direct.program.run("failures", "list", run, "--json").out)


@pytest.mark.parametrize("missing,code", [("report", 1), ("keep", 0), ("delete", 0)])
def test_failures_are_told_where_there_are_some(direct, missing, code):
    """A missing row is one under --missing report alone."""
    text, causes = ids_text(direct, missing, "i0001", "nosuch", code=code)
    assert "\n  missing " in text and [c["reason"] for c in causes] == ["missing"] * code
    assert ("Failures, one of each kind" in text) == ("failures retry" in text) == ("missing: " in text) == bool(code), text


def test_what_a_brake_left_is_told(program, make_ring, elastic):
    direct = Direct(program, make_ring(page_rows=100), elastic, rows=250)
    direct.ok()
    direct.table.delete()
    text, causes = ids_text(direct, "delete", *("i%04d" % i for i in range(250)), code=7)
    assert [c["reason"] for c in causes] == ["brake"] and "brake: " in text and "failures retry" in text, text


# --- retry: the Sync API, and what serve could not do --------------------------------------------------------

def test_ids_for_the_sync_api(job, api, program):
    api.script(1, api.error(400, "UOS_0072"))
    says(job.run(ids=["a", "b", "c"], block=1), code=1)
    run = rows_of(program.run("runs", "--json").out)[0]["id"]
    r = program.run("failures", "retry", run, "--sync-api-key", KEY)
    says(r, r"accepted +1", code=0)
    assert sorted(api.ids()) == ["a", "b", "c"] and len(api.calls) == 4 and KEY not in r.out + r.err
    says(program.run("failures", "list", run), "no failures", code=0)
    assert not list(program.state.glob("*.ids"))


def test_ids_that_fail_once_more(job, api, program):
    api.script(1, api.error(400, "UOS_0072"))
    api.script(4, api.error(400, "UOS_0099"))
    says(job.run(ids=["a", "b", "c"], block=1), code=1)
    run = rows_of(program.run("runs", "--json").out)[0]["id"]
    says(program.run("failures", "retry", run, "--sync-api-key", KEY), code=1)
    assert "UOS_0099" in program.run("failures", "show", run).out
    assert len(rows_of(program.run("failures", "show", run, "--json").out)) == 1


def test_a_dry_run_has_nothing_to_try_again(job, api, program):
    says(job.run(ids=["a"], dry_run="true"), code=0)
    run = rows_of(program.run("runs", "--json").out)[0]["id"]
    says(program.run("failures", "retry", run), "dry run", code=2)


# --- the mode of an index ------------------------------------------------------------------------------------

def test_another_versioning_is_refused(direct):
    direct.ok(versioning="read_time")
    r = says(direct.run(versioning="sequence"), "index items was written under versioning read_time", "--change-versioning", code=2)
    assert len(rows_of(direct.program.run("runs", "--json").out)) == 1, r
    says(direct.run("--fresh", versioning="sequence"), "was written under", code=2)
    direct.ok("--change-versioning", versioning="sequence")
    direct.ok(versioning="sequence")
    says(direct.run(versioning="read_time"), "was written under versioning sequence", code=2)


def test_an_index_made_anew_has_no_past(direct):
    direct.elastic.meta["items"]["settings"]["uuid"] = "one"
    direct.ok(versioning="read_time")
    direct.elastic.meta["items"]["settings"]["uuid"] = "two"
    direct.ok(versioning="sequence")


def test_what_the_index_was_made_for(direct):
    direct.elastic.meta["items"]["mappings"]["_meta"] = {"cass2es": {"versioning": "read_time"}}
    says(direct.run(versioning="none"), "was made for versioning read_time", code=2)
    direct.ok("--change-versioning", versioning="none")
    direct.ok(versioning="none")


def test_a_change_is_told_to_everybody_who_writes_the_index(direct):
    """By the index itself, which keeps what else is in its _meta; another machine has another journal."""
    meta = direct.elastic.meta["items"]["mappings"]["_meta"] = {"mine": {"n": 1.50}, "cass2es": {"versioning": "read_time", "x": [1]}}
    direct.ok(versioning="read_time")
    direct.ok("--change-versioning", versioning="sequence")
    assert direct.elastic.meta["items"]["mappings"] == {"properties": {}, "_meta": {**meta, "cass2es": {"versioning": "sequence", "x": [1]}}}
    for state in ("state", "elsewhere"):
        direct.program.common[1] = str(direct.program.cwd / state)
        says(direct.run(versioning="read_time"), "was made for versioning sequence", code=2)
        direct.ok(versioning="sequence")


def test_a_retry_does_not_change_it_again(direct):
    """Said once, it was for that run; somebody has decided otherwise since."""
    meta = direct.elastic.meta["items"]["mappings"]
    meta["_meta"] = {"cass2es": {"versioning": "sequence"}}
    refuse(direct.elastic, "i0003")
    run = direct.ok("--change-versioning", versioning="read_time", code=1)["run"]
    meta["_meta"] = {"cass2es": {"versioning": "sequence"}}
    refuse(direct.elastic)
    says(direct.program.run("failures", "retry", run), "was made for versioning sequence", code=2)
    assert meta["_meta"] == {"cass2es": {"versioning": "sequence"}}
    assert again(direct, run, "--change-versioning")["settled"] == 1
    assert meta["_meta"] == {"cass2es": {"versioning": "read_time"}}


def test_a_scan_says_nothing_of_rows_that_are_gone(direct):
    run = failed(direct, "i0003", versioning="read_time")
    says(direct.program.run("failures", "retry", run, "--missing", "delete"), "--missing: is for ids that were given", code=2)


def test_an_index_that_cannot_be_told_is_not_written(direct):
    direct.elastic.meta["items"]["mappings"]["_meta"] = {"cass2es": {"versioning": "read_time"}}
    no = direct.elastic.problem(403, "security_exception", "no manage")
    direct.elastic.always = lambda call: no if call.method == "PUT" else None
    says(direct.run("--change-versioning", versioning="none"), "items: can't note the versioning in the index's _meta", "no manage", code=3)
    assert not direct.bulks()
