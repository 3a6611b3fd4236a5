"""check and --dry-run: what a sync to an index would be, before anything is written."""
import json
import re

import peer_http
import pytest
from direct import Direct
from flow import cass, rows_of, says
from peer_cql import UNAUTHORIZED, error
from peer_http import Reply

KEYSPACES = r"system_schema\.keyspaces"


def check(direct, *flags, index="items", code=0):
    r = direct.program.run("check", "shop.items", "--index", index, "--elastic-url", direct.elastic.url, *cass(direct.ring), "--json", *flags)
    assert r.code == code, r
    lines = rows_of(r.out)
    return {line["check"]: (line["result"], line["text"]) for line in lines}


def untouched(direct):
    assert not direct.bulks() and not direct.program.state.exists() and not direct.elastic.sources("items")
    assert {c.method for c in direct.elastic.calls} <= {"GET", "POST"}
    assert {c.path for c in direct.elastic.calls if c.method == "POST"} <= {"/_security/user/_has_privileges"}


def test_all_is_well(direct):
    lines = check(direct)
    assert {n for n, (r, _) in lines.items() if r in ("warn", "fail")} == set(), lines
    assert lines["rights"][0] == "unknown" and lines["read"][0] == lines["fields"][0] == lines["clocks"][0] == "ok"
    assert "60 documents" in lines["size"][1]
    untouched(direct)
    says(direct.program.run("check", "shop.items", "--index", "items", "--elastic-url", direct.elastic.url, *cass(direct.ring)),
         r"^ok +cassandra", r"^- +rights", code=0)


@pytest.mark.parametrize("version,type_,ignored", [("6.8.23", "thing", False), ("7.17.0", "thing", True), ("7.17.0", "_doc", False), ("8.1.0", None, False)])
def test_a_type_where_there_are_none(program, make_ring, version, type_, ignored):
    """It is of Elasticsearch 6: check says so, and a sync and a server at their start, once."""
    with peer_http.Elastic(version=version) as elastic:
        elastic.stop()
        direct = Direct(program, make_ring(page_rows=10), elastic)
        mapping = program.file("typed.yaml", "object: item\nsource: {table: items}\nversioning: sequence\ntarget: {index: items%s}\n" % (
            f", type: {type_}" if type_ else ""))
        args = ["--mapping", mapping, "--elastic-url", elastic.url, *cass(direct.ring)]
        r = program.run("check", *args, "--json")
        notes = [line["text"] for line in rows_of(r.out) if line["check"] == "type"]
        assert r.code == 0 and len(notes) == ignored and (not ignored or notes[0].startswith("thing is of Elasticsearch 6")), r
        r = program.run("sync", *args)
        assert r.code == 0 and r.err.count("event=type_ignored") == ignored, r


def test_there_is_no_index(direct):
    result, text = check(direct, index="other", code=2)["index"]
    assert result == "fail" and "cass2es init shop.items --index other --create" in text
    untouched(direct)


def test_fields_that_conflict(direct):
    direct.elastic.meta["items"]["mappings"] = {"dynamic": "strict", "properties": {"id": {"type": "keyword"}}}
    r = direct.program.run("check", "shop.items", "--index", "items", "--elastic-url", direct.elastic.url, *cass(direct.ring))
    says(r, r"^fail +field +v is not in the index's mapping, which is strict", code=2)
    direct.elastic.meta["items"]["mappings"] = {"properties": {"v": {"type": "long"}}}
    says(direct.program.run("check", "shop.items", "--index", "items", "--elastic-url", direct.elastic.url, *cass(direct.ring)),
         r"^fail +field +v is no number", code=2)


def test_what_the_server_says(direct):
    def answers(req):
        if "_has_privileges" in req.path:
            return Reply(200, {"username": "bob", "has_all_requested": False})
        if req.path.startswith("/_cat/allocation"):
            return Reply(200, [{"node": "n1", "disk.avail": "1000000", "disk.total": "1000000000"}, {"node": "UNASSIGNED"},
                               {"node": "n2", "disk.avail": "9000000", "disk.total": "1000000000"}])
        return None
    direct.elastic.always = answers
    lines = check(direct, code=2)
    assert lines["rights"][0] == "fail" and "privileges" in lines["rights"][1]
    assert lines["disk"][0] == "warn" and "2 nodes, least on n1: 1.0 MB" in lines["disk"][1]


def test_an_index_that_takes_no_writes(direct):
    direct.elastic.health = "red"
    assert check(direct, code=2)["health"][0] == "fail"
    direct.elastic.health = "green"
    direct.elastic.meta["items"]["settings"]["blocks"] = {"write": "true"}
    result, text = check(direct, code=2)["index"]
    assert result == "fail" and "blocked" in text


@pytest.mark.parametrize("gc,result,code", [("60s", "warn", 0), ("1s", "fail", 2), ("2h", "ok", 0)])
def test_gc_deletes(direct, gc, result, code):
    direct.elastic.meta["items"]["settings"]["gc_deletes"] = gc
    assert check(direct, code=code)["gc_deletes"][0] == result


def test_no_right_to_read(direct):
    direct.ring.on("PREPARE", r'"items".*token\(', do=error(UNAUTHORIZED, "no SELECT for bob"), times=None)
    lines = check(direct, code=2)
    assert lines["read"][0] == "fail" and "no SELECT for bob" in lines["read"][1]
    assert lines["index"][0] == "ok"  # all else is looked at, too


def test_the_index_was_written_under_another_mode(direct):
    direct.ok(versioning="sequence")
    result, text = check(direct, code=2)["versioning"]
    assert result == "fail" and "was written under versioning sequence" in text


def test_nobody_is_there(direct):
    direct.elastic.stop()
    lines = check(direct, code=2)
    assert lines["elasticsearch"][0] == "fail" and lines["read"][0] == "ok" and "index" not in lines


# --- dry run ---------------------------------------------------------------------------------------------

def test_the_plan(direct):
    r = says(direct.run("--dry-run", json_=False), r"statement +SELECT .*token", "every column", r"versioning +read_time", "60 documents", "Nothing was written", code=0)
    assert r.out.count("_id ") == 3
    untouched(direct)
    plan = json.loads(direct.run("--dry-run").out)
    assert plan["dry_run"] and plan["whole"] and plan["documents"] == 60 and plan["index_exists"] and plan["failing"] == 0
    rows = direct.rows()
    assert len(plan["samples"]) == 3 and all(rows[s["_id"]] == s["document"] for s in plan["samples"])
    untouched(direct)
    direct.ok()
    direct.same()
    assert [s["_id"] in direct.elastic.sources("items") for s in plan["samples"]] == [True] * 3


@pytest.mark.parametrize("versioning", ["read_time", "sequence"])
def test_the_plan_of_a_few_documents(direct, versioning):
    """--limit: as many as it says, their bytes, and no sample beyond it."""
    whole = json.loads(direct.run("--dry-run", versioning=versioning).out)
    plan = json.loads(direct.run("--dry-run", "--limit", "2", versioning=versioning).out)
    assert plan["documents"] == 2 and len(plan["samples"]) == 2
    assert plan["document_bytes"] == whole["document_bytes"] * 2 // 60
    says(direct.run("--dry-run", "--limit", "2", json_=False), r"size +2 documents", code=0)
    assert json.loads(direct.run("--dry-run", "--limit", "100").out)["documents"] == 60
    assert "2 documents" in check(direct, "--limit", "2")["size"][1]
    untouched(direct)


def test_the_plan_of_some_columns(direct):
    """--columns: what is read, and what is not."""
    r = says(direct.run("--dry-run", "--columns", "v,writetime(v)", json_=False), r"mapping +the columns v, writetime\(v\)$", "shop.items: all 2 are read", code=0)
    assert "every column" not in r.out
    for flags in ((), ("--where", "id = 'i0001'")):
        says(direct.run("--dry-run", "--columns", "id", *flags, json_=False), r"mapping +the column id$", "shop.items: 1 of 2 is not read: v", code=0)
    says(direct.run("--dry-run", "--columns", "id", "--where", "v = 'v1'", json_=False), "shop.items: all 2 are read", code=0)


def test_one_is_no_plural(program, make_ring, elastic):
    direct = Direct(program, make_ring(page_rows=10), elastic, rows=1)
    elastic.meta["items"]["settings"].update(number_of_shards="1", number_of_replicas="1")
    r = says(direct.run("--dry-run", json_=False), "a sample of 1 row was read", r"size +1 document, ", ": 1 shard, 1 replica, 0 documents", "and 1 document, fit", code=0)
    assert not re.search(r"\b1 (rows|documents|shards|replicas|columns|nodes)\b", r.out), r


def test_the_plan_of_a_sample(program, make_ring, elastic):
    """--sample: what the sync will read, and nothing else."""
    direct = Direct(program, make_ring(page_rows=10), elastic, rows=2000)
    plan = json.loads(direct.run("--dry-run", "--sample", "10%").out)
    direct.table.estimates = [(-2**63, 2**63 - 1, 100, 2000)]
    by_number = json.loads(direct.run("--dry-run", "--sample", "200").out)
    rows = direct.ok("--sample", "10%")["rows"]
    assert plan["whole"] and plan["documents"] == rows and 100 < rows < 300
    assert by_number["whole"] and by_number["documents"] == rows
    assert json.loads(direct.run("--dry-run", "--sample", "10%", "--limit", "5").out)["documents"] == 5


def test_the_plan_of_a_sample_that_is_too_large_to_be_counted(program, make_ring, elastic):
    """Of wide partitions, of which only the first page is read."""
    ring = make_ring(page_rows=40)
    ring.table("shop", "wide", "id text, n int", "id", ["n"], rows=[("p%d" % i, n) for i in range(400) for n in range(50)])
    elastic.index("wide", mappings={"properties": {}}, settings={"gc_deletes": "1h"})
    ring.start(), elastic.start()
    plan = lambda *flags: json.loads(program.run("sync", "shop.wide", "--index", "wide", "--elastic-url", elastic.url, *cass(ring), "--json",  # noqa: E731
                                                 "--dry-run", *flags).out)
    whole, part = plan(), plan("--sample", "10%")
    assert not whole["whole"] and not part["whole"]
    assert 10000 < whole["documents"] < 40000 and 1000 < part["documents"] < 4000, (whole["documents"], part["documents"])


def test_a_dry_run_that_would_fail(direct):
    del direct.elastic.indices["items"]
    r = says(direct.run("--dry-run", json_=False), "there is no index items", "The run would fail", code=2)
    assert "Documents as they would be sent" in r.out


def test_a_dry_run_of_a_run_that_goes_on(direct):
    """It is neither: the unfinished run stays as it is."""
    direct.on_bulk(Reply(503), each=True)
    says(direct.run("--retry-budget", "200ms", json_=False), code=3)
    direct.on_bulk()
    runs = direct.program.run("runs", "--json").out
    says(direct.run("--dry-run", json_=False), code=0)
    assert direct.program.run("runs", "--json").out == runs
    direct.ok()
    direct.same()


def test_an_empty_table(program, make_ring, elastic):
    d = Direct(program, make_ring(), elastic, rows=0)
    says(d.run("--dry-run", json_=False), "the table has no rows", code=0)


# --- ids -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", ["csv", "json"])
def test_the_plan_of_ids(direct, form):
    """So many documents as there are ids, and the first of them."""
    ids = ["i0042", "i0007", "gone", "i0033", "i0001"]
    text = "".join(i + "\n" for i in ids) if form == "csv" else "".join('{"id":"%s"}\n' % i for i in ids)
    path = direct.program.file("ids." + form, text)
    whole = json.loads(direct.run("--dry-run").out)
    plan = json.loads(direct.run("--dry-run", "--id-file", path).out)
    assert not plan["whole"] and plan["documents"] == 5 and plan["document_bytes"] == whole["document_bytes"] * 5 // 60
    assert [s["_id"] for s in plan["samples"]] == ["i0042", "i0007", "i0033"]
    assert all(direct.rows()[s["_id"]] == s["document"] for s in plan["samples"]) and "token" not in plan["statement"]
    says(direct.run("--dry-run", "--id-file", path, json_=False), r"^ok +ids .*ids\.%s: about 5$" % form, r"size +about 5 documents", code=0)
    assert "about 5 documents" in check(direct, "--id-file", path)["size"][1]
    untouched(direct)


def test_ids_of_several_columns(program, make_ring, elastic):
    ring = make_ring()
    ring.table("shop", "lines", "a text, b int, v text", "a", ["b"], rows=[("a%d" % (i // 3), i, "v") for i in range(12)])
    elastic.index("lines", mappings={"properties": {}}, settings={"gc_deletes": "1h"})
    ring.start(), elastic.start()
    path = program.file("ids.csv", "a1,4\na2,7\n")
    r = program.run("sync", "shop.lines", "--index", "lines", "--elastic-url", elastic.url, *cass(ring), "--json", "--dry-run", "--id-file", path)
    plan = json.loads(says(r, code=0).out)
    assert plan["documents"] == 2 and [s["_id"] for s in plan["samples"]] == ["a1:4", "a2:7"]


def test_ids_that_are_not_there(direct):
    says(direct.run("--dry-run", "--id-file", "nosuch.csv", json_=False), r"^fail +ids +.*nosuch\.csv", "The run would fail", code=2)
    assert check(direct, "--id-file", "nosuch.csv", code=2)["ids"][0] == "fail"
    untouched(direct)


def test_ids_of_standard_input(direct):
    """They are for the run: how many is not known."""
    says(direct.run("--dry-run", "--id-file", "-", json_=False), r"^- +ids", r"^- +size +unknown: ids come from standard input", code=0)
    untouched(direct)
