"""Every search server that we name, one after the other: it answers as recorded, serve and direct sync work on it."""
import datetime
import decimal
import json
import sys
import time
import uuid

import pytest
import servers
from test_serve_documents import Api, flags

sys.path.append(str(servers.ROOT / "tools/servers"))
import record  # noqa: E402

pytestmark = pytest.mark.long
INSTANCES = ["elasticsearch6", "elasticsearch710", "elasticsearch7", "elasticsearch8", "opensearch2", "opensearch3"]
ROWS = 300
MINUTE_US = 60_000_000


@pytest.fixture(scope="module", params=INSTANCES)
def search(request):
    """A search server: servers.Elastic with .name, .server ("opensearch-2.19.1"), .typed (mappings under a type). Stopped
    again before the next one is started."""
    started = servers.ensure(request.param)
    client = servers.elastic(request.param)
    client.name, client.server = request.param, servers.server_of(request.param)
    client.typed = client.server.startswith("elasticsearch-6.")
    yield client
    servers.stop(*started)


@pytest.fixture
def place(search):
    """The name of an index, deleted afterwards."""
    name = f"compat_{uuid.uuid4().hex[:10]}"
    yield name
    for index in (name, name + "-b"):
        search.delete(index)


def create(search, index, properties, type_="_doc", **mapping):
    body = {"dynamic": "false", "properties": properties, **mapping}
    search.create(index, {type_: body} if search.typed else body, {"gc_deletes": "1h"})


def versions(search, index):
    """{_id: _version}"""
    search.refresh(index)
    hits = search.ok("POST", f"/{index}/_search", {"size": 10000, "version": True, "_source": False})["hits"]["hits"]
    return {hit["_id"]: hit["_version"] for hit in hits}


# --- what they answer --------------------------------------------------------------------------------

def shape(value):
    """What is the same in every recording: statuses, results, types of errors, and where they stand."""
    if isinstance(value, dict):
        found = {k: value[k] if k in ("status", "type", "result", "found", "errors") and not isinstance(value[k], dict) else shape(value[k])
                 for k in value if k not in ("caused_by", "root_cause")}
        return {k: v for k, v in found.items() if v not in (None, {}, [])}
    if isinstance(value, list):
        return [shape(v) for v in value]
    return None


def shapes(answers):
    found = {}
    for name, answer in answers.items():
        try:
            body = json.loads(answer["body"]) if answer["body"] else None
        except ValueError:
            body = answer["body"]
        # How far a cluster has come is told by chance.
        found[name] = (answer["status"], None if name.startswith("health") else shape(body))
    return found


def test_it_answers_as_recorded(search):
    """The unit tests of the sink stand on these. Run tools/servers/record.py when this fails, and read the difference."""
    kept = json.loads((servers.ROOT / f"test/data/search/{search.server}.json").read_text())["answers"]
    at = servers.address(search.name)
    now, before = shapes(record.record(at.host, at.port, search.server)), shapes(kept)
    assert sorted(now) == sorted(before)
    for name in before:
        assert now[name] == before[name], name


def test_the_version_is_that_of_the_table(search):
    node, = search.ok("GET", "/_nodes/_local?filter_path=nodes.*.version")["nodes"].values()
    assert node["version"] == search.server.split("-")[1]


# --- rows and their documents ------------------------------------------------------------------------

TABLE = """CREATE TABLE {}.things (shop text, item int, name text, price decimal, stock bigint, weight double, sold boolean,
           made timestamp, code uuid, tags list<text>, sizes set<int>, notes map<text, text>, PRIMARY KEY ((shop), item))"""
FIELDS = {"shop": {"type": "keyword"}, "item": {"type": "integer"}, "name": {"type": "keyword"}, "stock": {"type": "long"},
          "made": {"type": "date"}}


def row(i):
    """The values of one row, and the document that it must become."""
    values = {
        "shop": f"s{i % 7}", "item": i, "name": f'n "{i}" \u00e4\n', "price": decimal.Decimal(f"{i}.50"), "stock": i * 10**12,
        "weight": i / 4 + 0.1, "sold": i % 2 == 0, "made": datetime.datetime(2024, 2, 29, 1, 2, 3, 456000) + datetime.timedelta(days=i),
        "code": uuid.UUID(int=i), "tags": [f"t{i}", "x"], "sizes": {3, 1, i + 10}, "notes": {"a": f"b{i}"}}
    document = {**values, "price": f"{i}.50", "made": values["made"].strftime("%Y-%m-%dT%H:%M:%S.456Z"), "code": str(values["code"]),
                "sizes": sorted(values["sizes"])}
    if i % 5 == 0:  # null is absent
        values["name"] = values["tags"] = None
        del document["name"], document["tags"]
    return values, document


@pytest.fixture(scope="module")
def things(db, keyspace):
    """A table that the tests only read: {_id: document}."""
    db.execute(TABLE.format(keyspace), timeout=60)
    columns = list(row(1)[0])
    insert = db.prepare(f"INSERT INTO {keyspace}.things ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})")
    rows = [row(i) for i in range(ROWS)]
    for future in [db.execute_async(insert, [values[c] for c in columns]) for values, _ in rows]:
        future.result()
    return {f"{d['shop']}:{d['item']}": d for _, d in rows}


@pytest.fixture
def sync(program, search, cassandra_args, keyspace, tmp_path):
    """sync(index): a run with the default mapping; sync(index, versioning=..., type=...): with one of its own."""
    def run(index, *more, versioning=None, type_=None, code=0):
        what = [f"{keyspace}.things", "--index", index]
        if versioning or type_:
            path = tmp_path / "things.yaml"
            path.write_text(f"object: thing\nsource: {{keyspace: {keyspace}, table: things}}\n"
                            f"target: {{index: {index}{f', type: {type_}' if type_ else ''}}}\n"
                            f"nulls: omit\nversioning: {versioning or 'read_time'}\n")
            what = ["--mapping", path]
        result = program.run("sync", *what, *cassandra_args, "--elastic-url", search.url, "--json", *more)
        assert result.code == code, result
        return json.loads(result.out) if code in (0, 1) else result
    return run


def counted(summary, **expected):
    assert {k: summary[k] for k in expected} == expected, summary
    assert summary["rows"] == summary["filtered"] + summary["merged"] + summary["documents"]
    assert summary["documents"] == summary["indexed"] + summary["unchanged"] + summary["stale"] + summary["failed"]


# --- direct sync -------------------------------------------------------------------------------------

def test_the_index_equals_the_table(search, sync, things, place):
    create(search, place, FIELDS)
    begin = time.time_ns() // 1000
    summary = sync(place)
    counted(summary, rows=ROWS, documents=ROWS, indexed=ROWS, unchanged=0, stale=0, failed=0)
    assert search.docs(place) == things
    found = versions(search, place)
    assert begin <= min(found.values()) and max(found.values()) <= time.time_ns() // 1000


def test_a_second_run_by_read_time_writes_again_with_higher_versions(search, sync, things, place):
    create(search, place, FIELDS)
    sync(place)
    first = versions(search, place)
    counted(sync(place), documents=ROWS, indexed=ROWS, stale=0)
    second = versions(search, place)
    assert all(second[i] > first[i] for i in things)
    assert search.docs(place) == things


@pytest.mark.parametrize("versioning", ["sequence", "write_time"])
def test_a_second_run_changes_nothing(search, sync, things, place, versioning):
    create(search, place, FIELDS)
    counted(sync(place, versioning=versioning), documents=ROWS, indexed=ROWS)
    first = versions(search, place)
    counted(sync(place, versioning=versioning), documents=ROWS, indexed=0, unchanged=ROWS)
    assert versions(search, place) == first
    assert search.docs(place) == things


def test_without_versions_all_is_written_again(search, sync, things, place):
    create(search, place, FIELDS)
    for times in (1, 2):
        counted(sync(place, versioning="none"), documents=ROWS, indexed=ROWS)
        assert set(versions(search, place).values()) == {times}
    assert search.docs(place) == things


def test_a_change_of_versioning_is_told_to_the_index(search, sync, things, place):
    """In its _meta; fields, and what else is in there, stay."""
    create(search, place, FIELDS, _meta={"mine": [1.5], "cass2es": {"versioning": "read_time"}})
    assert "was made for versioning read_time" in sync(place, versioning="sequence", code=2).err
    sync(place, "--change-versioning", versioning="sequence")
    mappings = search.ok("GET", f"/{place}/_mapping")[place]["mappings"]
    mappings = mappings["_doc"] if search.typed else mappings
    assert mappings["_meta"] == {"mine": [1.5], "cass2es": {"versioning": "sequence"}}
    assert mappings["properties"] == FIELDS and mappings["dynamic"] == "false"
    assert "was made for versioning sequence" in sync(place, "--state-dir", "elsewhere", code=2).err
    assert search.docs(place) == things


def put(search, index, id_, version, document):
    action = {"index": {"_id": id_, "version": version, "version_type": "external_gte"}}
    path = f"/{index}/_doc/_bulk" if search.typed else f"/{index}/_bulk"
    assert not search.ok("POST", path, lines=[action, document])["errors"]


def test_a_newer_document_stays(search, sync, things, place):
    create(search, place, FIELDS)
    put(search, place, "s1:1", time.time_ns() // 1000 + MINUTE_US, {"name": "newer"})
    counted(sync(place, "--max-skew", "2m"), documents=ROWS, indexed=ROWS - 1, stale=1, failed=0)
    assert search.docs(place) == {**things, "s1:1": {"name": "newer"}}


def test_a_version_far_ahead_is_a_failure(search, sync, things, place, program):
    create(search, place, FIELDS)
    put(search, place, "s2:2", time.time_ns() // 1000 + 60 * MINUTE_US, {"name": "far"})
    counted(sync(place, code=1), indexed=ROWS - 1, stale=0, failed=1)
    assert "foreign_version" in program.run("failures", "list").out
    assert search.docs(place)["s2:2"] == {"name": "far"}


def test_a_document_that_the_mapping_refuses_fails_alone(search, sync, things, place):
    create(search, place, {**FIELDS, "stock": {"type": "integer"}})  # from 3 * 10^12 on: too large
    put(search, place, "s3:3", 1, {"name": "older"})
    fits = {i: d for i, d in things.items() if d["stock"] < 2**31}
    counted(sync(place, code=1), indexed=len(fits), failed=ROWS - len(fits))
    assert search.docs(place) == {**fits, "s3:3": {"name": "older"}}


def test_an_alias_of_one_index(search, sync, things, place):
    create(search, place + "-b", FIELDS)
    search.ok("POST", "/_aliases", {"actions": [{"add": {"index": place + "-b", "alias": place}}]})
    counted(sync(place), indexed=ROWS)
    assert search.docs(place + "-b") == things


def test_an_index_that_is_not_there_is_not_made(search, program, cassandra_args, keyspace, things, place):
    result = program.run("sync", f"{keyspace}.things", "--index", place, *cassandra_args, "--elastic-url", search.url)
    assert result.code == 2 and place in result.err, result
    assert search.call("GET", f"/{place}")[0] == 404


def test_a_type_of_its_own(search, sync, things, place):
    """Only Elasticsearch 6 has types; elsewhere a mapping's type stands for nothing."""
    create(search, place, FIELDS, type_="thing")
    counted(sync(place, type_="thing"), indexed=ROWS)
    assert search.docs(place) == things
    assert search.ok("GET", f"/{place}/{'thing' if search.typed else '_doc'}/s1:1")["found"]


def test_the_run_says_which_server_it_found(search, program, cassandra_args, keyspace, things, place):
    create(search, place, FIELDS)
    result = program.run("sync", f"{keyspace}.things", "--index", place, *cassandra_args, "--elastic-url", search.url)
    assert search.server.split("-")[1] in result.err, result


# --- serve -------------------------------------------------------------------------------------------

def sync_with_a_change(api, db, keyspace):
    """One row changes and changes back around a call."""
    db.execute(f"UPDATE {keyspace}.things SET name = 'other' WHERE shop = 's1' AND item = 8")
    try:
        return api.sync("thing", ["s1"])
    finally:
        db.execute(f"UPDATE {keyspace}.things SET name = %s WHERE shop = 's1' AND item = 8", [row(8)[0]["name"]])


def test_serve(search, program, cassandra, db, keyspace, things, place, tmp_path):
    create(search, place, FIELDS)
    path = tmp_path / "served.yaml"
    path.write_text(f"object: thing\nsource: {{keyspace: {keyspace}, table: things}}\ntarget: {{index: {place}}}\n"
                    "nulls: omit\nversioning: sequence\n")
    with program.start(*flags(cassandra, search.url, path)) as server:
        api = Api(server)
        answer = api.sync("thing", ["s1", "s2", "nobody"])
        assert answer == {"s1": True, "s2": True, "nobody": False}, server.err()
        assert search.docs(place) == {i: d for i, d in things.items() if d["shop"] in ("s1", "s2")}
        first = versions(search, place)
        assert sync_with_a_change(api, db, keyspace) == {"s1": True}
        changed = {i for i, v in versions(search, place).items() if v != first[i]}
        assert changed == {"s1:8"}  # equal documents are not written
