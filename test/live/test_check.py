"""check, --dry-run and failures retry against real servers."""
import json

import pytest


@pytest.fixture(scope="module")
def table(db, keyspace):
    db.execute(f"CREATE TABLE {keyspace}.items (id text, n int, tags set<text>, at timestamp, PRIMARY KEY (id, n))")
    for i in range(200):
        db.execute(f"INSERT INTO {keyspace}.items (id, n, tags, at) VALUES (%s, %s, %s, toTimestamp(now()))", (f"i{i // 4}", i, {"a", "b"}))
    return f"{keyspace}.items"


@pytest.fixture
def cass2es(program, table, cassandra_args, elastic, index):
    return lambda command, *more: program.run(command, table, "--index", index, *cassandra_args, "--elastic-url", elastic.url, *more)


def lines(done):
    return [json.loads(x) for x in done.out.splitlines()]


def test_check_before_and_after_the_index_is_made(cass2es, elastic, index):
    done = cass2es("check", "--json")
    assert done.code == 2 and {x["check"] for x in lines(done) if x["result"] == "fail"} == {"index"}, done.out
    assert cass2es("init", "--create").code == 0
    done = cass2es("check", "--json")
    assert done.code == 0, done.out + done.err
    got = {x["check"]: x for x in lines(done)}
    assert {n for n, x in got.items() if x["result"] == "ok"} >= {"cassandra", "read", "size", "consistency", "clocks", "elasticsearch", "index",
                                                                  "health", "gc_deletes", "versioning", "fields", "disk"}
    assert "200 documents" in got["size"]["text"]


def test_the_plan_of_a_dry_run_is_what_is_sent(cass2es, elastic, index, program):
    assert cass2es("init", "--create").code == 0
    done = cass2es("sync", "--dry-run", "--json")
    plan = lines(done)[0]
    assert done.code == 0 and plan["documents"] == 200 and plan["whole"] and len(plan["samples"]) == 3
    assert elastic.documents(index) == {} if hasattr(elastic, "documents") else elastic.ok("GET", f"/{index}/_count")["count"] == 0
    assert cass2es("sync").code == 0
    for sample in plan["samples"]:
        assert elastic.ok("GET", f"/{index}/_doc/{sample['_id']}")["_source"] == sample["document"]


def test_a_field_that_is_refused_then_retried(cass2es, elastic, index, program, cassandra_args, db, table):
    elastic.create(index, {"properties": {"n": {"type": "byte"}}}, {"gc_deletes": "1h"})
    done = cass2es("check", "--json")
    # Which documents it samples depends on the ring's tokens: with one beyond 127 among them it fails, else it warns.
    wrong = {x["check"] for x in lines(done) if x["result"] == "fail"}
    [field] = [x for x in lines(done) if x["check"] == "field"]
    said = {"warn": "n may be beyond the range of type byte; such are refused", "fail": "n is beyond the range of type byte"}
    assert field["text"] == said[field["result"]] and wrong <= {"field"} and done.code == (2 if wrong else 0), done.out
    done = cass2es("sync", "--json")
    counts = lines(done)[0]
    assert done.code == 1 and counts["failed"] == 200 - 128
    shown = [json.loads(x) for x in program.run("failures", "show", counts["run"], "--json").out.splitlines()]
    assert len(shown) == 72 and all(json.loads(f["key"])["id"] and "mapp" in f["reason"] or "document_parsing" in f["reason"] for f in shown)
    # One row is gone, another has new values; the mapping stays: it is refused again.
    db.execute(f"DELETE FROM {table} WHERE id = 'i40' AND n = 160")
    again = program.run("failures", "retry", counts["run"], "--json", "--cassandra-password-file", cassandra_args[-1])
    result = json.loads(again.out.splitlines()[-1])
    assert again.code == 1 and (result["tried"], result["settled"], result["failed"]) == (72, 1, 71), again.err
    elastic.delete(index)
    elastic.create(index, {"properties": {"n": {"type": "integer"}}}, {"gc_deletes": "1h"})
    again = program.run("failures", "retry", counts["run"], "--json", "--cassandra-password-file", cassandra_args[-1])
    assert again.code == 0 and json.loads(again.out.splitlines()[-1])["settled"] == 71, again.err
    elastic.refresh(index)
    assert elastic.ok("GET", f"/{index}/_count")["count"] == 71
    db.execute(f"INSERT INTO {table} (id, n) VALUES ('i40', 160)")
