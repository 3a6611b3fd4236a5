"""serve against the real Cassandra and Elasticsearch: the documents, and another writer at the same time."""
import json
import pathlib
import re
import time
import urllib.error
import urllib.request

import peer_http
import pytest
import servers

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLES = json.loads((ROOT / "test/data/sunbird-documents.json").read_text())["samples"]
SOURCES = {"batch": "sunbird_courses.course_batch", "location": "sunbird.location"}
OWN = {"participantCount": 17, "completedCount": 5, "reportUpdatedOn": "2025-06-01"}


@pytest.fixture(scope="module")
def tables(db, keyspace):
    """Sunbird's tables in a keyspace of our own."""
    text = "\n".join(line for line in (ROOT / "demo/schema.cql").read_text().splitlines() if not line.startswith("--"))
    for statement in text.split(";"):
        if re.search(r"CREATE TABLE.*(course_batch|location) ", statement, re.S):
            db.execute(re.sub(r"sunbird(_courses)?\.", f"{keyspace}.", statement), timeout=60)
    return keyspace


class Proxy(peer_http.HttpPeer):
    """In front of the real Elasticsearch; `before(step, n)` is called before its n-th _mget or _bulk is passed on."""

    def __init__(self, target, before):
        super().__init__()
        self.target, self.before, self.count = target, before, {"_mget": 0, "_bulk": 0}

    def usual(self, request):
        step = request.path.rsplit("/", 1)[-1]
        if step in self.count:
            self.count[step] += 1
            self.before(step, self.count[step])
        headers = {n: v for n, v in request.headers if n.lower() in ("content-type", "authorization")}
        out = urllib.request.Request(self.target + request.target, request.body or None, headers, method=request.method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(out, timeout=60) as answer:
                return peer_http.Reply(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            return peer_http.Reply(error.code, error.read())


def mapping(folder, object_type, keyspace, index, more=""):
    """The shipped profile, for our keyspace and index."""
    text = (ROOT / f"profiles/sunbird/{object_type}.yaml").read_text()
    text = re.sub(r"keyspace: \w+", f"keyspace: {keyspace}", text)
    text = re.sub(r"index: [\w-]+", f"index: {index}", text)
    text = text.replace("renames.yaml", str(ROOT / "profiles/sunbird/renames.yaml"))
    path = folder / f"{object_type}.yaml"
    path.write_text(text + more)
    return path


def flags(cassandra, elastic_url, *mappings):
    return ["serve", "--listen", "127.0.0.1:0", "--cassandra-hosts", cassandra.host, "--cassandra-port", cassandra.port,
            "--cassandra-username", servers.setting("USER"), "--cassandra-password", servers.setting("PASSWORD"),
            "--elastic-url", elastic_url, "--sync-timeout", "60s", *[word for m in mappings for word in ("--mapping", m)]]


class Api:
    def __init__(self, server):
        """Waits until it is ready."""
        self.url = "http://" + server.expect(r"event=listening address=(\S+)", 60)[1]
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(200):
            try:
                if self.opener.open(self.url + "/health/ready", timeout=2).status == 200:
                    return
            except OSError:
                pass
            if server.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"not ready\n{server.err()}")

    def sync(self, object_type, ids):
        """esSyncResponse of a call that waits for the work."""
        body = {"params": {}, "request": {"objectType": object_type, "objectIds": ids, "operationFor": "es", "operationType": "sync"}}
        request = urllib.request.Request(self.url + "/v1/data/sync", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with self.opener.open(request, timeout=70) as answer:
            return json.loads(answer.read())["result"]["esSyncResponse"]


@pytest.fixture
def served(tmp_path, program, cassandra, elastic, tables, index, request):
    """serve with the profile of the test's mark: (api, index); `before` of the test's Proxy, if it sets one."""
    object_type = request.param
    elastic.create(index)
    hooks = []
    proxy = Proxy(elastic.url, lambda *step: [hook(*step) for hook in hooks]).start()
    with program.start(*flags(cassandra, proxy.url, mapping(tmp_path, object_type, tables, index))) as server:
        api = Api(server)
        api.hooks, api.proxy, api.server = hooks, proxy, server
        yield api
    proxy.stop()


def insert(db, keyspace, table, row):
    db.execute(f"INSERT INTO {keyspace}.{table} JSON %s", [json.dumps(row)])


def stored(elastic, index, id_):
    return elastic.get(index, id_).get("_source")


def put(elastic, index, id_, source):
    elastic.ok("PUT", f"/{index}/_doc/{id_}", source)


@pytest.mark.parametrize("served,object_type", [("batch", "batch"), ("location", "location")], indirect=["served"])
def test_documents_are_those_of_sunbirds_services(served, object_type, db, tables, elastic, index):
    table = SOURCES[object_type].split(".")[1]
    samples = [s for s in SAMPLES if s["object"] == object_type]
    for sample in samples:
        insert(db, tables, table, sample["rows"][SOURCES[object_type]][0])
    ids = [s["rows"][SOURCES[object_type]][0]["courseid" if object_type == "batch" else "id"] for s in samples]
    assert served.sync(object_type, ids) == {id_: True for id_ in ids}
    for sample in samples:
        assert stored(elastic, index, sample["document"]["_id"]) == sample["document"]["_source"]
    before = {s["document"]["_id"]: elastic.get(index, s["document"]["_id"])["_seq_no"] for s in samples}
    assert served.sync(object_type, ids) == {id_: True for id_ in ids}
    for id_, seq_no in before.items():
        assert elastic.get(index, id_)["_seq_no"] == seq_no, "what is equal is not written"


def batch(course, number, name="first"):
    return {"courseid": course, "batchid": f"{course}-{number}", "name": name, "status": 1}


@pytest.mark.parametrize("served", ["batch"], indirect=True)
def test_another_writer_between_our_look_and_our_write(served, db, tables, elastic, index):
    """Its content, its own fields, and its deletes survive; ours comes on top of what it left."""
    id_ = "co-1"
    row = batch("co", 1, "second")
    insert(db, tables, "course_batch", row)
    put(elastic, index, id_, {"batchId": id_, "name": "first", "participantCount": 1, "old": True})

    def co_writer(step, n):
        if step == "_bulk" and n == 1:
            insert(db, tables, "course_batch", {**row, "name": "third"})
            put(elastic, index, id_, {"batchId": id_, "name": "third", **OWN})
    served.hooks.append(co_writer)
    assert served.sync("batch", ["co"]) == {"co": True}
    document = stored(elastic, index, id_)
    assert document["name"] == "third" and document["status"] == 1
    assert OWN.items() <= document.items() and "old" not in document
    assert served.proxy.count == {"_mget": 2, "_bulk": 2}


@pytest.mark.parametrize("served", ["batch"], indirect=True)
def test_another_writer_creates_first(served, db, tables, elastic, index):
    insert(db, tables, "course_batch", batch("cc", 1))
    served.hooks.append(lambda step, n: step == "_bulk" and n == 1 and put(elastic, index, "cc-1", {"name": "live", **OWN}))
    assert served.sync("batch", [{"courseId": "cc", "batchId": "cc-1"}]) == {'{"courseId":"cc","batchId":"cc-1"}': True}
    document = stored(elastic, index, "cc-1")
    assert document["name"] == "first" and OWN.items() <= document.items()


@pytest.mark.parametrize("served", ["batch"], indirect=True)
def test_row_deleted_between_our_read_and_our_create(served, db, tables, elastic, index):
    insert(db, tables, "course_batch", batch("del", 1))
    insert(db, tables, "course_batch", batch("del", 2))

    def deleter(step, n):
        if step == "_bulk" and n == 1:
            db.execute(f"DELETE FROM {tables}.course_batch WHERE courseid = 'del' AND batchid = 'del-1'")
    served.hooks.append(deleter)
    assert served.sync("batch", ["del"]) == {"del": True}
    assert stored(elastic, index, "del-1") is None
    assert stored(elastic, index, "del-2")["name"] == "first"


@pytest.mark.parametrize("served", ["batch"], indirect=True)
def test_document_deleted_between_our_look_and_our_update(served, db, tables, elastic, index):
    insert(db, tables, "course_batch", batch("gone", 1))
    put(elastic, index, "gone-1", {"name": "old", **OWN})

    def deleter(step, n):
        if step == "_bulk" and n == 1:
            db.execute(f"DELETE FROM {tables}.course_batch WHERE courseid = 'gone' AND batchid = 'gone-1'")
            elastic.ok("DELETE", f"/{index}/_doc/gone-1")
    served.hooks.append(deleter)
    assert served.sync("batch", ["gone"]) == {"gone": False}
    assert stored(elastic, index, "gone-1") is None


@pytest.mark.parametrize("served", ["batch"], indirect=True)
def test_missing_and_bad_ids(served, db, tables, elastic, index):
    insert(db, tables, "course_batch", batch("m", 1))
    put(elastic, index, "kept-1", {"name": "has no row"})
    answer = served.sync("batch", ["m", "nobody", {"courseId": "m", "status": 2}, {"courseId": "kept", "batchId": "kept-1"}])
    assert answer == {"m": True, "nobody": False, '{"courseId":"m","status":2}': False,
                      '{"courseId":"kept","batchId":"kept-1"}': False}
    with pytest.raises(urllib.error.HTTPError, match="400"):  # it would scan
        served.sync("batch", [{"name": "x"}])
    assert stored(elastic, index, "kept-1") == {"name": "has no row"}, "missing rows are reported, never deleted"


@pytest.mark.parametrize("served", ["batch"], indirect=True)
def test_contended_document_fails_alone(served, db, tables, elastic, index):
    insert(db, tables, "course_batch", batch("busy", 1))
    insert(db, tables, "course_batch", batch("calm", 1))
    put(elastic, index, "busy-1", {"name": "0"})
    served.hooks.append(lambda step, n: step == "_bulk" and put(elastic, index, "busy-1", {"name": str(n), **OWN}))
    assert served.sync("batch", ["busy", "calm"]) == {"busy": False, "calm": True}
    assert stored(elastic, index, "busy-1") == {"name": "6", **OWN}


@pytest.mark.parametrize("served", ["batch"], indirect=True)
def test_many_documents_of_one_course(served, db, tables, elastic, index):
    """More than a page of keys, and more than a round."""
    for n in range(700):
        insert(db, tables, "course_batch", batch("many", n))
    assert served.sync("batch", ["many"]) == {"many": True}
    assert elastic.count(index) == 700


def test_index_that_is_not_there(program, cassandra, elastic, tables, index, tmp_path):
    result = program.run(*flags(cassandra, elastic.url, mapping(tmp_path, "batch", tables, index)), timeout=30)
    assert result.code == 2, result
    assert f'there is no index or alias "{index}"' in result.err and "Create it" in result.err
    assert elastic.call("GET", f"/{index}")[0] == 404, "never created silently"


def test_alias_of_two_indices(program, cassandra, elastic, tables, index, tmp_path):
    for n in (1, 2):
        elastic.create(f"{index}-{n}", aliases={f"{index}-a": {}})
    result = program.run(*flags(cassandra, elastic.url, mapping(tmp_path, "batch", tables, f"{index}-a")), timeout=30)
    assert result.code == 2 and "stands for 2 indices" in result.err, result


@pytest.mark.parametrize("more,words", [
    ("nulls: keep\n", '"nulls" is there twice'),
    ("stepz: []\n", 'unknown key "stepz"; did you mean "steps"'),
])
def test_mistake_in_a_mapping(program, cassandra, elastic, tables, index, tmp_path, more, words):
    elastic.create(index)
    path = mapping(tmp_path, "batch", tables, index, more)
    result = program.run(*flags(cassandra, elastic.url, path), timeout=30)
    assert result.code == 2, result
    assert re.search(re.escape(str(path)) + r":\d+:\d+: " + re.escape(words), result.err), result


def test_column_that_the_table_lacks(program, cassandra, elastic, tables, index, tmp_path):
    elastic.create(index)
    path = mapping(tmp_path, "location", tables, index)
    path.write_text(path.read_text().replace("copy: {identifier: id}", "copy: {identifier: idd}"))
    result = program.run(*flags(cassandra, elastic.url, path), timeout=30)
    assert result.code == 2, result
    assert 'copy: there is no field "idd" at this step; did you mean "id"' in result.err, result
