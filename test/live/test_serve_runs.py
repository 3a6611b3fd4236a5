"""serve against the real Cassandra and Elasticsearch: whole tables, filters that scan, what became of a call, a restart."""
import json
import signal
import time
import urllib.error
import urllib.request

import pytest
import servers

PATH = "/v1/data/sync"
BATCH = ("object: batch\nsource: {{table: course_batch, keyspace: {ks}}}\n"
         "target: {{index: {index}, id: \"{{batchid}}\"}}\nversioning: {mode}\n")
COURSE = ("object: user_course\nsource: {{table: user_enrolments, keyspace: {ks}}}\nselect: batchid\n"
          "target: {{index: {index}-uc, id: \"{{batchid}}_{{userid}}\"}}\nversioning: {mode}\n")
BATCHES, ENROLMENTS = 3000, 2000


@pytest.fixture(scope="module")
def rows(db, keyspace):
    db.execute(f"CREATE TABLE {keyspace}.course_batch (courseid text, batchid text, name text, status int, PRIMARY KEY (courseid, batchid))", timeout=60)
    db.execute(f"CREATE TABLE {keyspace}.user_enrolments (userid text, courseid text, batchid text, active boolean, "
               "PRIMARY KEY (userid, courseid, batchid))", timeout=60)
    from cassandra.concurrent import execute_concurrent_with_args
    put = db.prepare(f"INSERT INTO {keyspace}.course_batch (courseid, batchid, name, status) VALUES (?, ?, ?, ?)")
    execute_concurrent_with_args(db, put, [("c%d" % (n % 500), "b%d" % n, "n%d" % n, n % 3) for n in range(BATCHES)], 64)
    put = db.prepare(f"INSERT INTO {keyspace}.user_enrolments (userid, courseid, batchid, active) VALUES (?, ?, ?, true)")
    execute_concurrent_with_args(db, put, [("u%d" % n, "c1", "b%d" % (n % 50)) for n in range(ENROLMENTS)], 64)
    return keyspace


class Serve:
    def __init__(self, program, elastic, keyspace, index, mode, flags):
        self.elastic, self.program, self.index = elastic, program, index
        for name in (index, index + "-uc"):
            elastic.create(name, {"dynamic": False})
        self.mappings = []
        for name, text in (("batch", BATCH), ("uc", COURSE)):
            file = program.folder / (name + ".yaml")
            file.write_text(text.format(ks=keyspace, index=index, mode=mode))
            self.mappings += ["--mapping", file]
        self.start(*flags)

    def start(self, *flags):
        at = servers.address("cassandra")
        self.server = self.program.start(
            "serve", "--listen", "127.0.0.1:0", "--state-dir", self.program.folder / "state", "--cassandra-hosts", at.host,
            "--cassandra-port", at.port, "--cassandra-username", servers.setting("USER"), "--cassandra-password", servers.setting("PASSWORD"),
            "--elastic-url", self.elastic.url, *self.mappings, *flags)
        self.url = "http://" + self.server.expect(r"event=listening address=(\S+)")[1]

    def ask(self, path, body=None):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body else None, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.headers, json.loads(answer.read())
        except urllib.error.HTTPError as e:
            return e.code, e.headers, json.loads(e.read())

    def call(self, object_type, ids, **more):
        return self.ask(PATH, {"request": {"objectType": object_type, "objectIds": ids, **more}})

    def run(self, name):
        return self.ask("%s/runs/%s" % (PATH, name))[2]["result"]

    def done(self, name):
        end = time.monotonic() + 60
        while (run := self.run(name))["state"] != "done":
            assert time.monotonic() < end, (run["state"], self.server.err()[-2000:])
            time.sleep(0.05)
        return run

    def count(self, name):
        return self.elastic.count(name)


@pytest.fixture
def serve(program, elastic, index, rows, request):
    mode = getattr(request, "param", "sequence")
    running = Serve(program, elastic, rows, index, mode, ["--whole-table", "allow", "--filter-scan", "allow", "--sync-timeout", "60s"])
    yield running
    running.server.kill()


@pytest.mark.parametrize("serve", ["sequence", "read_time"], indirect=True)
def test_whole_table(serve, index):
    status, headers, answer = serve.call("batch", [])
    assert status == 200 and answer["result"] == {"response": "SUCCESS"}
    run = serve.done(headers["X-Cass2es-Run"])
    assert run["summary"]["counts"]["indexed"] == BATCHES and run["summary"]["exit_code"] == 0, run
    assert serve.count(index) == BATCHES
    again = serve.done(serve.call("batch", None)[1]["X-Cass2es-Run"])
    counts = again["summary"]["counts"]
    assert counts["rows"] == BATCHES and counts["indexed"] + counts["unchanged"] == BATCHES and counts["failed"] == 0


def test_user_courses_by_batch(serve, index):
    _, headers, answer = serve.call("user_course", ["b1", "b2", "none", {"userId": "u77"}, {"courseId": "c1", "batchId": ["b49"]}],
                                    operationType="sync")
    assert answer["result"]["esSyncResponse"] == {"b1": True, "b2": True, "none": False, '{"userId":"u77"}': True,
                                                  '{"courseId":"c1","batchId":["b49"]}': True}
    assert serve.count(index + "-uc") == 3 * ENROLMENTS // 50 + 1
    run = serve.run(headers["X-Cass2es-Run"])
    assert run["counts"]["indexed"] == 4 and run["counts"]["missing"] == 1


def test_calls_can_be_asked_for_after_a_kill(serve, index):
    names = [serve.call("batch", ["c%d" % n, "nobody"])[1]["X-Cass2es-Run"] for n in range(20)]
    serve.server.signal(signal.SIGKILL)
    serve.server.wait(20)
    serve.start()
    for name in names:
        assert [r["outcome"] for r in serve.done(name)["results"]] in (["indexed", "missing"], ["unchanged", "missing"])
    assert serve.count(index) == 20 * BATCHES // 500


def test_an_index_of_another_mode_is_refused(serve, index, elastic):
    """Its uuid and what was written tell; an index made anew has no past."""
    assert serve.call("batch", ["c1"], operationType="sync")[0] == 200
    serve.server.kill()
    for file in serve.mappings[1::2]:
        file.write_text(file.read_text().replace("sequence", "read_time"))
    with pytest.raises(AssertionError, match=f"index {index} was written under versioning sequence, this run would use read_time"):
        serve.start()
    assert serve.server.wait(20).code == 2
    for name in (index, index + "-uc"):
        elastic.delete(name)
        elastic.create(name, {"dynamic": False})
    serve.start()
    assert serve.call("batch", ["c1"], operationType="sync")[2]["result"]["esSyncResponse"] == {"c1": True}
