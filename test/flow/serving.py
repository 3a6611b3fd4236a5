"""What the tests of `serve` share: the server between a scripted Cassandra and Elasticsearch, and its callers."""
import http.client
import json
import re
import signal
import time

import peer_cql
import peer_http
import pytest
import servers

PROFILES = servers.ROOT / "profiles"
USER = servers.ROOT / "test/data/user.yaml"
PATHS = ("/v1/data/sync", "/data/v1/index/sync", "/api/data/v1/index/sync")
TABLES = {"batch": ("course_batch", "course-batch"), "location": ("location", "location"), "user": ("user", "userv3")}


def tables(ring):
    """Those of the three object types, with the columns that the tests fill."""
    ring.table("sunbird_courses", "course_batch", "courseid text, batchid text, name text, status int, created_date timestamp, "
               "mentors list<text>", "courseid", ["batchid"])
    ring.table("sunbird", "location", "id text, name text, code text, type text, parentid text", "id")
    ring.table("sunbird", "user", "id text, firstname text, loginid text, roles list<text>, isdeleted boolean", "id")
    ring.table("sunbird_courses", "user_enrolments", "userid text, courseid text, batchid text, active boolean", "userid",
               ["courseid", "batchid"])
    ring.table("sunbird", "organisation", "id text, orgname text", "id")
    return ring


def indices(elastic):
    for name in ("course-batch", "location", "userv3"):
        elastic.index(name)
    elastic.aliases["user_alias"] = "userv3"
    return elastic


def locations(ring, *ids, name="n"):
    ring.tables["sunbird", "location"].put([(i, "%s %s" % (name, i), "c", "block", None) for i in ids])


def location(id_, name="n"):
    return {"id": id_, "identifier": id_, "name": "%s %s" % (name, id_), "code": "c", "type": "block", "parentId": None}


def batches(ring, *keys, name="n"):
    ring.tables["sunbird_courses", "course_batch"].put([(c, b, name, 1, 0, None) for c, b in keys])


def batch(course, number, name="n"):
    return {"id": number, "courseId": course, "batchId": number, "name": name, "status": 1, "mentors": [],
            "createdDate": "1970-01-01T00:00:00.000Z"}


def request_of(object_type, ids, **more):
    return {"params": {}, "request": {"objectType": object_type, "objectIds": ids, "operationFor": "es", **more}}


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def result(self):
        return self.json["result"]

    def __repr__(self):
        return "%d %r" % (self.status, self.body[:2000])


class Serve:
    """`cass2es serve` on a free port; again after a kill or a stop: the same state folder."""

    def __init__(self, program, ring, elastic):
        self.program, self.ring, self.elastic, self.server, self.port, self.running = program, ring, elastic, None, None, []

    def args(self, *flags, mappings=("sunbird/batch", "sunbird/location", USER), elastic_url=None):
        named = [w for m in mappings for w in ("--mapping", m)]
        profiles = [] if "--profiles-dir" in flags else ["--profiles-dir", PROFILES]
        return ["serve", "--listen", "127.0.0.1:0", "--cassandra-hosts", self.ring.address, "--cassandra-port", self.ring.port,
                "--elastic-url", elastic_url or self.elastic.url, *profiles, *named, *flags]

    def begin(self, *flags, env=None, **more):
        """Without waiting."""
        command = self.program.command(*self.args(*flags, **more))
        self.server = servers.Background(command, {**self.program.env, **(env or {})}, self.program.cwd, None)
        self.running.append(self.server)
        return self.server

    def start(self, *flags, **more):
        self.port = int(self.begin(*flags, **more).expect(r"event=listening address=\S+:(\d+)", 60)[1])
        return self

    def fails(self, *flags, code, **more):
        """It does not start: what it printed."""
        result = self.begin(*flags, **more).wait()
        assert result.code == code, result
        return result.err

    def kill(self):
        return self.server.kill()

    def stop(self, code=0):
        self.server.signal(signal.SIGTERM)
        result = self.server.wait()
        assert result.code == code, result
        return result

    def end(self):
        for server in self.running:
            server.__exit__()

    def http(self, method, path, body=None, headers=None, timeout=70):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            if isinstance(body, str):
                body = body.encode()
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return Answer(r.status, r.headers, r.read())
        finally:
            c.close()

    def call(self, object_type, ids, path=PATHS[0], **more):
        body = json.dumps(request_of(object_type, ids, **more), ensure_ascii=False)
        return self.http("POST", path, body, {"Content-Type": "application/json"})

    def sync(self, object_type, ids, **more):
        """result of a call that waits for the work."""
        answer = self.call(object_type, ids, operationType="sync", **more)
        assert answer.status == 200, answer
        assert answer.result["response"] == "SUCCESS"
        return answer.result

    def metrics(self):
        text = self.http("GET", "/metrics").body.decode()
        return {n: int(v) for n, v in re.findall(r"^cass2es_(\w+) (-?\d+)$", text, re.M)}

    def ready(self):
        return self.http("GET", "/health/ready")

    def until(self, predicate, seconds=60):
        end = time.monotonic() + seconds
        while not predicate():
            assert time.monotonic() < end, "did not come\n%s" % self.server.err()[-4000:]
            time.sleep(0.01)

    def idle(self):
        """Until all that was accepted is worked off; the metrics then."""
        self.until(lambda: self.metrics()["queue_ids"] == 0)
        return self.metrics()

    def docs(self, object_type):
        return self.elastic.sources(TABLES[object_type][1])


@pytest.fixture
def elastic():
    with indices(peer_http.Elastic()) as e:
        yield e


@pytest.fixture
def cassandra():
    with tables(peer_cql.Ring()) as r:
        yield r


@pytest.fixture
def serve(program, cassandra, elastic):
    s = Serve(program, cassandra, elastic)
    yield s
    s.end()


def on_step(elastic, hook):
    """hook(step, n, request) at the n-th _mget or _bulk, before it is done; what it returns is the answer, None: the usual."""
    count = {}

    def usual(request):
        step = request.path.rsplit("/", 1)[-1]
        if step not in ("_mget", "_bulk"):
            return None
        count[step] = count.get(step, 0) + 1
        return hook(step, count[step], request)
    elastic.always = usual
    return count
