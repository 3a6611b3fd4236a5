"""serve against the real Cassandra and Elasticsearch: the job's documents, kills, servers that go and come, memory."""
import datetime
import json
import random
import re
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
import servers
import yaml
from port import Port

ROOT = servers.ROOT
sys.path.append(str(ROOT / "demo"))
SIZES = {"batches": 300, "courses": 90, "users": 400, "locations": 120, "enrolments": 0, "organisations": 5}
TYPES = {  # object type: mapping, table, key of its id, renames
    "batch": ("profiles/sunbird/batch.yaml", "course_batch", "batchid", ("lms", "course_batch")),
    "location": ("profiles/sunbird/location.yaml", "location", "id", ("userorg", "location")),
    "user": ("test/data/user.yaml", "user", "id", ("userorg", "user"))}


@pytest.fixture(scope="module")
def rows(db, keyspace):
    """The demo's rows in a keyspace of our own, as they are read back: {table: [{column: value}]}."""
    import data
    import load
    text = "\n".join(line for line in (ROOT / "demo/schema.cql").read_text().splitlines() if not line.startswith("--"))
    names = {table for _, table, _, _ in TYPES.values()}
    for statement in text.split(";"):
        table = re.search(r"CREATE TABLE IF NOT EXISTS \w+\.(\w+) ", statement)
        if table and table[1] in names:
            db.execute(re.sub(r"sunbird(_courses)?\.", f"{keyspace}.", statement), timeout=60)
    for table, columns, lines in data.tables(SIZES):
        if table.split(".")[1] in names:
            load.insert(db, f"{keyspace}.{table.split('.')[1]}", columns, lines)
    return {name: [r._asdict() for r in db.execute(f"SELECT * FROM {keyspace}.{name}")] for name in names}


@pytest.fixture(scope="module")
def columns(db, keyspace, rows):
    found = {}
    for r in db.execute("SELECT table_name, column_name, type FROM system_schema.columns WHERE keyspace_name = %s", [keyspace]):
        found.setdefault(r.table_name, {})[r.column_name] = r.type
    return found


def plain(value, type_):
    """A column's value as the profiles write it."""
    if re.match(r"(list|set|frozen<list)", type_):
        return [plain(v, "") for v in value or []]
    if value is None:
        return {} if type_.startswith("map") else None
    if isinstance(value, datetime.datetime):
        value += datetime.timedelta(microseconds=500)  # the driver comes by way of a float
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + "%03dZ" % (value.microsecond // 1000)
    if hasattr(value, "items"):
        return {k: plain(v, "") for k, v in value.items()}
    return [plain(v, "") for v in value] if isinstance(value, (list, tuple)) else value


def document(object_type, row, types):
    """What Sunbird's services would make of the row, said once more and apart from the program."""
    names = yaml.safe_load((ROOT / "profiles/sunbird/renames.yaml").read_text())
    for step in TYPES[object_type][3]:
        names = names[step]
    made = {names.get(c, c): plain(row[c], types[c]) for c in types}
    if object_type == "user":
        made.pop("loginId")
    made.update({"id": row["batchid"]} if object_type == "batch" else {"identifier": row["id"]})
    return made


class Relay:
    """A port before a server; down() is a server that went away."""

    def __init__(self, host, port):
        self.target, self.kept, self.listener, self.socks = (host, port), Port(), None, set()
        self.port = self.kept.number
        self.up()

    def up(self):
        self.listener = self.kept.listen()
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def down(self):
        for s in [self.listener, *self.socks]:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def accept(self, listener):
        while True:
            try:
                ours, _ = listener.accept()
                theirs = socket.create_connection(self.target)
            except OSError:
                return
            self.socks |= {ours, theirs}
            for a, b in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    def pump(self, a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
            self.socks.discard(s)


class Serve:
    def __init__(self, program, folder, keyspace, index, cassandra, elastic):
        self.program, self.index, self.elastic, self.server = program, index, elastic, None
        self.cassandra_at, self.ring, self.search = cassandra, Relay(cassandra.host, cassandra.port), Relay(*servers_address(elastic))
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.mappings = []
        for name, (path, _, _, _) in TYPES.items():
            text = (ROOT / path).read_text().replace(re.search(r"keyspace: (\w+)", (ROOT / path).read_text())[0], f"keyspace: {keyspace}")
            text = re.sub(r"index: [\w-]+", f"index: {index}-{name}", text)
            text = re.sub(r"file: [\w./]*renames.yaml", f"file: {ROOT}/profiles/sunbird/renames.yaml", text)
            (folder / f"{name}.yaml").write_text(text)
            self.mappings += ["--mapping", folder / f"{name}.yaml"]
            definition = json.loads((ROOT / "demo/indices" / {"batch": "course-batch", "user": "userv3"}.get(name, name)).with_suffix(".json").read_text())
            elastic.create(f"{index}-{name}", definition["mappings"])

    def start(self, *flags):
        self.server = self.program.start(
            "serve", "--listen", "127.0.0.1:0", "--state-dir", self.program.folder / "serve-state",
            "--cassandra-hosts", "127.0.0.1", "--cassandra-port", self.ring.port, "--cassandra-username", servers.setting("USER"),
            "--cassandra-password", servers.setting("PASSWORD"), "--address-map", f"{self.cassandra_at}=127.0.0.1:{self.ring.port}",
            "--elastic-url", f"http://127.0.0.1:{self.search.port}", *self.mappings, *flags)
        self.url = "http://" + self.server.expect(r"event=listening address=(\S+)")[1]
        return self

    def get(self, path):
        try:
            with self.opener.open(self.url + path, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def call(self, object_type, ids, **more):
        body = {"params": {}, "request": {"objectType": object_type, "objectIds": ids, "operationFor": "es", **more}}
        request = urllib.request.Request(self.url + "/v1/data/sync", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with self.opener.open(request, timeout=30) as answer:
            return json.loads(answer.read())["result"]

    def metrics(self):
        return {n: int(v) for n, v in re.findall(r"^cass2es_(\w+) (-?\d+)$", self.get("/metrics")[1], re.M)}

    def idle(self, seconds=60):
        end = time.monotonic() + seconds
        while (m := self.metrics())["queue_ids"]:
            assert time.monotonic() < end, self.server.err()[-4000:]
            time.sleep(0.05)
        return m

    def stop(self, code=0):
        self.server.signal(signal.SIGTERM)
        result = self.server.wait(30)
        assert result.code == code, result
        return result

    def job(self, cassandra_args, keyspace, object_type, table, *flags, code=0):
        param = {"dry_run": "false", "sunbird_cassandra_keyspace": keyspace, "sunbird_cassandra_table": table,
                 "sunbird_sync_object_type": object_type, "sunbird_sync_sleep_time": 0, "sunbird_sync_block_size": 25,
                 "sunbird_sync_api_endpoint": self.url + "/v1/data/sync"}
        words = [w for k, v in param.items() for w in ("--context_param", f"{k}={v}")]
        result = self.program.run("sync", *words, *cassandra_args, "--state-dir", self.program.folder / "job-state",
                                  "--log-dir", self.program.folder, *flags)
        assert result.code == code, result
        return result

    def end(self):
        if self.server:
            self.server.__exit__()
        self.ring.down()
        self.search.down()


def servers_address(elastic):
    host, port = elastic.url.removeprefix("http://").split(":")
    return host, int(port)


@pytest.fixture
def serve(program, tmp_path, keyspace, rows, index, cassandra, elastic):
    s = Serve(program, tmp_path, keyspace, index, cassandra, elastic)
    yield s
    s.end()


@pytest.mark.parametrize("object_type,flags", [
    ("batch", ["--await"]), ("user", []), *[pytest.param(*more, marks=pytest.mark.long) for more in
                                            (("batch", []), ("location", ["--await"]), ("user", ["--await"]))]])
def test_the_job(serve, cassandra_args, keyspace, rows, columns, elastic, index, object_type, flags):
    """All rows of the table are documents afterwards, field by field; a second time nothing is written."""
    _, table, key, _ = TYPES[object_type]
    serve.start()
    serve.job(cassandra_args, keyspace, object_type, table, *flags)
    m = serve.idle()
    expected = {r[key]: document(object_type, r, columns[table]) for r in rows[table]}
    found = elastic.docs(f"{index}-{object_type}")
    assert found.keys() == expected.keys()
    for id_, made in expected.items():
        assert found[id_] == made, id_
    assert elastic.count(f"{index}-{object_type}") == len(rows[table]) == m["documents_indexed_total"]
    serve.job(cassandra_args, keyspace, object_type, table, "--await")
    m = serve.idle()
    assert (m["documents_indexed_total"], m["documents_unchanged_total"], m["documents_failed_total"]) == (len(expected), len(expected), 0)
    kib = serve.server.peak_kib()
    print(f"{object_type}: {2 * len(expected)} documents, VmHWM {kib} KiB")
    assert kib < 64 << 10
    serve.stop()


def test_killed_again_and_again(serve, rows, elastic, index):
    """Every id of a call that was answered is indexed in the end, though Elasticsearch was away at times."""
    seed = int(time.time())
    print("seed", seed)
    dice, accepted = random.Random(seed), set()
    ids = [r["id"] for r in rows["location"]]

    def caller(k):
        mine = random.Random(seed + k)
        try:
            while True:
                block = mine.sample(ids, 5)
                if serve.call("location", block) == {"response": "SUCCESS"}:
                    accepted.update(block)
        except Exception:  # the server was killed
            pass
    for n in range(3):
        serve.start()
        if dice.random() < 0.5:
            serve.search.down()
        callers = [threading.Thread(target=caller, args=(10 * n + k,)) for k in range(3)]
        for c in callers:
            c.start()
        time.sleep(dice.uniform(0.05, 0.3))
        serve.server.kill()
        for c in callers:
            c.join()
        if serve.search.listener.fileno() < 0:
            serve.search.up()
    assert accepted
    serve.start().idle()
    assert accepted <= elastic.docs(f"{index}-location").keys()
    serve.stop()


def test_servers_that_go_and_come(serve, rows, elastic, index):
    ids = [r["id"] for r in rows["location"]]
    serve.start("--retry-budget", "300ms")
    for relay, block in ((serve.search, ids[:30]), (serve.ring, ids[30:60])):
        relay.down()
        assert serve.call("location", block) == {"response": "SUCCESS"}
        end = time.monotonic() + 15
        while serve.get("/health/ready")[0] == 200:
            assert time.monotonic() < end, "never not ready"
            time.sleep(0.05)
        relay.up()
        serve.idle()
        assert serve.get("/health/live")[0] == serve.get("/health/ready")[0] == 200
    assert elastic.docs(f"{index}-location").keys() == set(ids[:60])
    serve.stop()


def test_what_others_wrote_survives_the_job(serve, cassandra_args, keyspace, rows, columns, elastic, index):
    own = {"participantCount": 17, "completedCount": 5, "reportUpdatedOn": "2025-06-01"}
    some = rows["course_batch"][:20]
    lines = [line for r in some for line in ({"index": {"_id": r["batchid"]}}, {"batchId": r["batchid"], "name": "old", **own})]
    assert not elastic.ok("POST", f"/{index}-batch/_bulk?refresh=true", lines=lines)["errors"]
    serve.start()
    serve.job(cassandra_args, keyspace, "batch", "course_batch", "--await")
    found = elastic.docs(f"{index}-batch")
    for r in some:
        assert found[r["batchid"]] == {**document("batch", r, columns["course_batch"]), **own}
    assert len(found) == len(rows["course_batch"])


def test_memory_of_a_large_course(serve, db, keyspace, elastic, index):
    """One id, thousands of documents: worked off in rounds."""
    import load
    columns = ["courseid", "batchid", "name", "description"]
    load.insert(db, f"{keyspace}.course_batch", columns, (("large", f"large-{n}", "n" * 100, "d" * 1000) for n in range(4000)))
    serve.start("--sync-timeout", "60s")
    assert serve.call("batch", ["large"], operationType="sync")["esSyncResponse"] == {"large": True}
    assert serve.metrics()["documents_indexed_total"] == 4000
    kib = serve.server.peak_kib()
    print(f"4000 documents of one id: VmHWM {kib} KiB")
    assert kib < 64 << 10
    db.execute(f"DELETE FROM {keyspace}.course_batch WHERE courseid = 'large'")
    serve.stop()
