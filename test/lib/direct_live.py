"""What the live tests of direct sync share: a table whose rows are known, and the law of the summary."""
import json

from cassandra.concurrent import execute_concurrent_with_args

def make_table(db, name, rows, per_partition=10, pad=60, consistency=None):
    """KS.TABLE (p, c, n, text), n being 0 .. rows-1."""
    db.execute(f"CREATE TABLE {name} (p int, c int, n int, text text, PRIMARY KEY (p, c))", timeout=60)
    insert = db.prepare(f"INSERT INTO {name} (p, c, n, text) VALUES (?, ?, ?, ?)")
    if consistency:
        insert.consistency_level = consistency
    data = [(i // per_partition, i % per_partition, i, text_of(i, pad)) for i in range(rows)]
    for success, what in execute_concurrent_with_args(db, insert, data, concurrency=64):
        assert success, what
    return name


def text_of(i, pad):
    return f"row {i} " + "x" * pad


def documents(rows, per_partition=10, pad=60):
    """What an index of that table holds."""
    return {f"{i // per_partition}:{i % per_partition}":
            {"p": i // per_partition, "c": i % per_partition, "n": i, "text": text_of(i, pad)} for i in range(rows)}


def make_index(elastic, index, versioning=None, fields=None, **settings):
    properties = {"p": {"type": "integer"}, "c": {"type": "integer"}, "n": {"type": "integer"}, "text": {"type": "keyword", "ignore_above": 100}}
    elastic.create(index, {"dynamic": "false", "properties": {**properties, **(fields or {})}}, {"gc_deletes": "1h", "refresh_interval": "-1", **settings})


def what_to_sync(folder, table, index, versioning):
    """The arguments that name table and index; a mapping where the mode is not the default's."""
    if versioning == "read_time":
        return ["sync", table, "--index", index]
    keyspace, name = table.split(".")
    path = folder / f"{index}.yaml"
    path.write_text(f"object: row\nsource: {{keyspace: {keyspace}, table: {name}}}\ntarget: {{index: {index}}}\n"
                    f"nulls: omit\nversioning: {versioning}\n")
    return ["sync", "--mapping", path]


def counts_of(result, code=0):
    """The summary of --json, which obeys the law."""
    assert result.code == code, result
    c = json.loads(result.out)
    assert c["rows"] == c["filtered"] + c["merged"] + c["documents"], c
    assert c["documents"] == c["indexed"] + c["unchanged"] + c["stale"] + c["failed"], c
    assert c["exit_code"] == code, c
    return c
