"""Order, against the real servers: nothing that was read earlier comes over what was read later, in any versioning mode.

serve stands behind a proxy that lets something else happen between its steps. Each test says what it fails without.
"""
import time

import pytest
from test_serve_documents import Api, Proxy, flags

HOUR_US = 3600 * 1000000


@pytest.fixture(scope="module")
def table(db, keyspace):
    db.execute(f"CREATE TABLE {keyspace}.thing (id text PRIMARY KEY, v text)", timeout=60)
    db.execute(f"CREATE TABLE {keyspace}.wide (p text, c int, s text STATIC, v text, PRIMARY KEY (p, c))", timeout=60)
    return f"{keyspace}.thing"


@pytest.fixture
def served(tmp_path, program, cassandra, elastic, table, index, request):
    """serve with the versioning of the test's parameter; `before` hooks of its proxy."""
    keyspace, name = table.split(".")
    elastic.create(index, settings={"number_of_shards": 3})
    path = tmp_path / "thing.yaml"
    versioning, _, more = request.param.partition(" ")
    if "wide" in more:
        name, more = "wide", more.replace("wide", "")
    path.write_text(f"object: thing\nsource: {{keyspace: {keyspace}, table: {name}}}\ntarget: {{index: {index}{more}}}\n"
                    f"nulls: omit\nversioning: {versioning}\n")
    hooks = []
    proxy = Proxy(elastic.url, lambda *step: [hook(*step) for hook in hooks]).start()
    with program.start(*flags(cassandra, proxy.url, path)) as server:
        api = Api(server)
        api.hooks, api.proxy, api.server = hooks, proxy, server
        yield api
    proxy.stop()


def now_us():
    return time.time_ns() // 1000


def put_row(db, table, id_, v, more=""):
    db.execute(f"INSERT INTO {table} (id, v) VALUES (%s, %s) {more}", [id_, v])


def write(elastic, index, id_, v, version):
    """Another process that writes with versions."""
    elastic.ok("PUT", f"/{index}/_doc/{id_}?version={version}&version_type=external_gte", {"id": id_, "v": v})


def delete(elastic, index, id_, version):
    elastic.call("DELETE", f"/{index}/_doc/{id_}?version={version}&version_type=external_gte")


def restart_engine(elastic, index):
    elastic.ok("POST", f"/{index}/_close")
    elastic.ok("POST", f"/{index}/_open")
    elastic.ok("GET", f"/_cluster/health/{index}?wait_for_status=yellow&timeout=30s")


def before_first_bulk(served, action):
    served.hooks.append(lambda step, n: step == "_bulk" and n == 1 and action())


def v_of(elastic, index, id_):
    found = elastic.get(index, id_)
    return found["_source"]["v"] if found.get("found") else None


read_time = pytest.mark.parametrize("served", ["read_time"], indirect=True)


@read_time
def test_the_time_of_reading_is_the_version(served, db, table, elastic, index):
    put_row(db, table, "a", "1")
    begin = now_us()
    assert served.sync("thing", ["a", "nobody"]) == {"a": True, "nobody": False}
    document = elastic.get(index, "a")
    assert document["_source"] == {"id": "a", "v": "1"}
    assert begin <= document["_version"] <= now_us()
    put_row(db, table, "a", None)
    assert served.sync("thing", ["a"]) == {"a": True}
    assert elastic.get(index, "a")["_source"] == {"id": "a"}
    assert served.proxy.count == {"_mget": 0, "_bulk": 2}


@read_time
def test_two_writers_with_interleaved_reads(served, db, table, elastic, index):
    """Fails without versions: ours, read first, would come last."""
    put_row(db, table, "two", "1")

    def other():
        put_row(db, table, "two", "2")
        write(elastic, index, "two", "2", now_us())
    before_first_bulk(served, other)
    assert served.sync("thing", ["two"]) == {"two": True}
    assert v_of(elastic, index, "two") == "2"
    assert served.proxy.count["_bulk"] == 2, "read once more, and written with the later time"


@read_time
def test_older_body_after_a_delete(served, db, table, elastic, index):
    put_row(db, table, "del", "1")

    def other():
        db.execute(f"DELETE FROM {table} WHERE id = 'del'")
        delete(elastic, index, "del", now_us())
    before_first_bulk(served, other)
    assert served.sync("thing", ["del"]) == {"del": False}
    assert v_of(elastic, index, "del") is None


@read_time
def test_older_body_after_a_delete_and_an_engine_restart(served, db, table, elastic, index):
    """Fails without the look at the primary term: the delete's version is forgotten, and the document comes back."""
    put_row(db, table, "back", "1")
    write(elastic, index, "back", "0", 5)

    def other():
        db.execute(f"DELETE FROM {table} WHERE id = 'back'")
        delete(elastic, index, "back", now_us())
        restart_engine(elastic, index)
    before_first_bulk(served, other)
    assert served.sync("thing", ["back"]) == {"back": False}
    assert served.proxy.count["_bulk"] == 2, "created, doubted, deleted"
    assert v_of(elastic, index, "back") is None


@read_time
def test_row_that_is_there_survives_an_engine_restart(served, db, table, elastic, index):
    put_row(db, table, "stays", "1")
    before_first_bulk(served, lambda: restart_engine(elastic, index))
    assert served.sync("thing", ["stays"]) == {"stays": True}
    assert v_of(elastic, index, "stays") == "1"
    assert served.proxy.count["_bulk"] == 1


@read_time
def test_foreign_version_one_hour_ahead(served, db, table, elastic, index):
    """Fails without the comparison with the clock: for ever stale, and nobody told."""
    put_row(db, table, "far", "1")
    put_row(db, table, "near", "1")
    write(elastic, index, "far", "x", now_us() + HOUR_US)
    assert served.sync("thing", ["far", "near"]) == {"far": False, "near": True}
    assert v_of(elastic, index, "far") == "x"


@pytest.mark.parametrize("served", ["sequence"], indirect=True)
def test_co_writer_between_read_and_write(served, db, table, elastic, index):
    """Fails without if_seq_no: its newer content would be overwritten."""
    put_row(db, table, "co", "1")
    elastic.ok("PUT", f"/{index}/_doc/co", {"id": "co", "v": "0"})

    def other():
        put_row(db, table, "co", "2")
        elastic.ok("PUT", f"/{index}/_doc/co", {"id": "co", "v": "2"})
    before_first_bulk(served, other)
    assert served.sync("thing", ["co"]) == {"co": True}
    assert v_of(elastic, index, "co") == "2"


@pytest.mark.parametrize("served", ["sequence"], indirect=True)
def test_absent_document_deleted_between_look_and_create(served, db, table, elastic, index):
    """Fails without the check behind a create: the deleted document would come back."""
    put_row(db, table, "abs", "1")

    def other():
        db.execute(f"DELETE FROM {table} WHERE id = 'abs'")
        elastic.call("DELETE", f"/{index}/_doc/abs")
    before_first_bulk(served, other)
    assert served.sync("thing", ["abs"]) == {"abs": False}
    assert v_of(elastic, index, "abs") is None


@pytest.mark.parametrize("served", ["write_time"], indirect=True)
def test_the_row_s_own_time(served, db, table, elastic, index):
    """Equal: nothing is written. Older than what is there: stale."""
    put_row(db, table, "w", "1", "USING TIMESTAMP 1700000000000001")
    assert served.sync("thing", ["w"]) == {"w": True}
    first = elastic.get(index, "w")
    assert first["_version"] == 1700000000000001 and first["_source"] == {"id": "w", "v": "1"}
    assert served.sync("thing", ["w"]) == {"w": True}
    assert elastic.get(index, "w")["_seq_no"] == first["_seq_no"]
    put_row(db, table, "w", "2", "USING TIMESTAMP 1700000000000002")
    write(elastic, index, "w", "3", 1700000000000003)
    assert served.sync("thing", ["w"]) == {"w": True}
    assert v_of(elastic, index, "w") == "3"
    put_row(db, table, "w", "4", "USING TIMESTAMP 1700000000000004")
    assert served.sync("thing", ["w"]) == {"w": True}
    assert v_of(elastic, index, "w") == "4"
    metrics = served.opener.open(served.url + "/metrics").read().decode()
    for line in ("documents_indexed_total 2", "documents_unchanged_total 1", "documents_stale_total 1"):
        assert f"cass2es_{line}\n" in metrics, metrics


@pytest.mark.parametrize("served", ["none"], indirect=True)
def test_whoever_comes_last(served, db, table, elastic, index):
    put_row(db, table, "n", "1")
    before_first_bulk(served, lambda: elastic.ok("PUT", f"/{index}/_doc/n", {"id": "n", "v": "2"}))
    assert served.sync("thing", ["n"]) == {"n": True}
    assert v_of(elastic, index, "n") == "1"
    assert elastic.get(index, "n")["_version"] == 2


def test_index_that_forgets_deletes_at_once(program, cassandra, elastic, table, index, tmp_path):
    keyspace, name = table.split(".")
    elastic.create(index, settings={"index.gc_deletes": "0s"})
    path = tmp_path / "thing.yaml"
    path.write_text(f"object: thing\nsource: {{keyspace: {keyspace}, table: {name}}}\ntarget: {{index: {index}}}\nversioning: read_time\n")
    result = program.run(*flags(cassandra, elastic.url, path), timeout=30)
    assert result.code == 2 and "index.gc_deletes" in result.err, result


@pytest.mark.parametrize("served", ["read_time wide", "sequence wide", "none wide"], indirect=True)
def test_partition_with_static_columns_only(served, db, table, elastic, index):
    """Its id is the partition key; with its first row it is no document of its own any more."""
    wide = table.replace("thing", "wide")
    p = index[-6:]
    db.execute(f"INSERT INTO {wide} (p, s) VALUES (%s, 'x')", [p])
    assert served.sync("thing", [p]) == {p: True}
    assert elastic.docs(index) == {p: {"p": p, "s": "x"}}
    db.execute(f"INSERT INTO {wide} (p, c, v) VALUES (%s, 1, 'y')", [p])
    assert served.sync("thing", [p]) == {p: True}
    assert elastic.docs(index)[f"{p}:1"] == {"p": p, "c": 1, "s": "x", "v": "y"}


@pytest.mark.parametrize("served", ['read_time wide, routing: "{v}"', 'sequence wide, routing: "{p}"'], indirect=True)
def test_routing(served, db, table, elastic, index, request):
    wide = table.replace("thing", "wide")
    p = index[-6:]
    db.execute(f"INSERT INTO {wide} (p, c, v) VALUES (%s, 1, 'y')", [p])
    assert served.sync("thing", [p]) == {p: True}
    routing = "y" if "{v}" in request.node.callspec.params["served"] else p
    assert elastic.call("GET", f"/{index}/_doc/{p}:1?routing={routing}")[1]["_routing"] == routing
    db.execute(f"UPDATE {wide} SET v = 'y', s = 'z' WHERE p = %s AND c = 1", [p])
    assert served.sync("thing", [p]) == {p: True}
    assert elastic.call("GET", f"/{index}/_doc/{p}:1?routing={routing}")[1]["_source"]["s"] == "z"
    assert len(elastic.docs(index)) == 1
