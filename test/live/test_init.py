"""init: a mapping and an index definition from the live schema, and the index of it."""
import json

import pytest
import yaml


@pytest.fixture(scope="module")
def table(db, keyspace):
    db.execute(f"CREATE TYPE {keyspace}.address (street text, zip int)")
    db.execute(f'CREATE TABLE {keyspace}."Users" (id uuid, day date, name text, age tinyint, seen timestamp, score decimal, '
               f'ip inet, tags set<text>, homes list<frozen<address>>, props map<text, int>, raw blob, v vector<float, 3>, '
               f'"a.b" text, PRIMARY KEY (id, day))')
    return f"{keyspace}.Users"


def init(program, table, cassandra_args, elastic, *more):
    return program.run("init", table, *cassandra_args, "--elastic-url", elastic.url, *more)


def test_writes_a_mapping_and_a_definition(program, table, cassandra_args, elastic, index, tmp_path):
    done = init(program, table, cassandra_args, elastic, "--index", index)
    assert done.code == 0, done.err
    mapping = yaml.safe_load((tmp_path / "Users.yaml").read_text())
    assert mapping["source"] == {"keyspace": table.split(".")[0], "table": "Users", "key": ["id", "day"]}
    assert mapping["target"] == {"index": index} and mapping["rename"] == {"a.b": "a_b"}
    fields = json.loads((tmp_path / "Users.index.json").read_text())["mappings"]["properties"]
    assert {name: f.get("type") for name, f in fields.items()} == {
        "id": "keyword", "day": "date", "name": "text", "age": "byte", "seen": "date", "score": "keyword", "ip": "ip", "tags": "text",
        "homes": None, "props": "object", "raw": "binary", "v": "float", "a_b": "text"}
    assert fields["homes"]["properties"]["zip"] == {"type": "integer"}
    assert elastic.call("GET", f"/{index}")[0] == 404
    again = init(program, table, cassandra_args, elastic, "--index", index)
    assert again.code == 2 and "Users.yaml: File exists" in again.err and "--out" in again.err


def test_creates_the_index_as_edited(program, table, cassandra_args, elastic, index, tmp_path):
    assert init(program, table, cassandra_args, elastic, "--index", index).code == 0
    path = tmp_path / "Users.index.json"
    definition = json.loads(path.read_text())
    definition["settings"]["index.number_of_replicas"] = 0
    path.write_text(json.dumps(definition))
    done = init(program, table, cassandra_args, elastic, "--index", index, "--create")
    assert done.code == 0 and f"created index {index}" in done.out, done.err
    there = elastic.ok("GET", f"/{index}")[index]
    assert there["settings"]["index"]["number_of_replicas"] == "0" and there["settings"]["index"]["gc_deletes"] == "1h"
    assert there["mappings"]["_meta"]["cass2es"]["versioning"] == "read_time"
    again = init(program, table, cassandra_args, elastic, "--index", index, "--create")
    assert again.code == 2 and "there already" in again.err


def test_without_elasticsearch_it_only_writes(program, table, cassandra_args, tmp_path):
    done = program.run("init", table, *cassandra_args)
    assert done.code == 0 and (tmp_path / "Users.index.json").exists()
    done = program.run("init", table, *cassandra_args, "--create", "--out", str(tmp_path))
    assert done.code == 2 and "elastic-url" in done.err
