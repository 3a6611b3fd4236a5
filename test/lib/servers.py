"""The real servers and the program, for tests and the demo.

    servers.ensure("cassandra", "elasticsearch")     started when they don't run
    servers.session("shop")                          a session of the Python driver
    servers.elastic().count("users")                 a few calls of Elasticsearch
    Program().run("sync", "shop.users", "--to", "-") the program under test: code, out, err, peak_kib

Addresses come from CASS2ES_TEST_… (set by ./dev test), else from tools/servers.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "tools/servers/servers")


# --- servers -----------------------------------------------------------------------------------------

class Address:
    """Where a server listens. str() gives host:port."""

    def __init__(self, host, port):
        self.host, self.port = host, int(port)

    def __str__(self):
        return f"{self.host}:{self.port}"


def ensure(*instances):
    """Starts those that don't run (rows of tools/servers/table); returns the names that it started."""
    before = running()
    done = subprocess.run([SCRIPT, "start", *instances], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"servers {' '.join(instances)}: {done.stderr[-3000:]}")
    return sorted(set(instances) - before)


def stop(*instances):
    if instances:
        subprocess.run([SCRIPT, "stop", *instances], stdin=subprocess.DEVNULL, capture_output=True, check=True)


def start_again(instance):
    """Starts one that was stopped, with the data it had."""
    subprocess.run([SCRIPT, "start", "--keep", instance], stdin=subprocess.DEVNULL, capture_output=True, check=True)


def running():
    out = subprocess.run([SCRIPT, "status"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in out.splitlines() if "running, pid" in line}


_env = {}


def setting(name):
    """CASS2ES_TEST_<name> of the environment, else as tools/servers has it."""
    if not _env:
        out = subprocess.run([SCRIPT, "env"], capture_output=True, text=True, check=True).stdout
        _env.update(re.findall(r"CASS2ES_TEST_(\w+)='([^']*)'", out))
    return os.environ.get(f"CASS2ES_TEST_{name}") or _env[name]


def address(instance):
    name = instance.upper().replace("-", "_")
    return Address(setting(f"HOST_{name}"), setting(f"PORT_{name}"))


def tls(name):
    """A file of the test authority: ca.pem, other-ca.pem, server.pem, client.pem, client.key."""
    return os.path.join(setting("TLS"), name)


def cluster(at=None, user=None, password=None, **options):
    """A Cluster of the Python driver, shut down by the caller."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cassandra.auth import PlainTextAuthProvider
        from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
        from cassandra.policies import RoundRobinPolicy
    at = at or address("cassandra")
    login = PlainTextAuthProvider(user or setting("USER"), password or setting("PASSWORD"))
    profile = ExecutionProfile(load_balancing_policy=RoundRobinPolicy(), request_timeout=30)
    return Cluster([at.host], port=at.port, auth_provider=login, protocol_version=4, connect_timeout=15,
                   execution_profiles={EXEC_PROFILE_DEFAULT: profile}, **options)


def session(keyspace=None, at=None):
    """A session; `session.cluster.shutdown()` ends it. A ring that was just made needs a while to know its superuser."""
    from cassandra import AuthenticationFailed
    from cassandra.cluster import NoHostAvailable
    end = time.monotonic() + 60
    while True:
        try:
            return cluster(at).connect(keyspace)
        except NoHostAvailable as error:
            if time.monotonic() > end or not any(isinstance(e, AuthenticationFailed) for e in error.errors.values()):
                raise
        time.sleep(1)


def ring_session():
    """Of the three nodes; each of them lets us in, also when another is away."""
    from cassandra import ConsistencyLevel, Unauthorized
    from cassandra.query import SimpleStatement
    db = session(at=address("ring1"))
    db.execute("ALTER KEYSPACE system_auth WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}", timeout=60)
    # Read by all: the new replicas get what they miss. Until then one of them may not know what we may, and remember that for a while.
    roles = SimpleStatement("SELECT * FROM system_auth.roles", consistency_level=ConsistencyLevel.ALL)
    end, in_a_row = time.monotonic() + 60, 0
    while in_a_row < 3:  # they take turns
        try:
            db.execute(roles, timeout=60)
            in_a_row += 1
        except Unauthorized:
            if time.monotonic() > end:
                raise
            in_a_row = 0
            time.sleep(1)
    return db


def create_keyspace(db, name, replicas=1):
    db.execute(f"CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = "
               f"{{'class': 'SimpleStrategy', 'replication_factor': {replicas}}}")


class Elastic:
    """A few calls; every answer is (status, parsed JSON)."""

    def __init__(self, at):
        self.url = f"http://{at}"
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, method, path, body=None, lines=None):
        """body: sent as JSON; lines: a list, sent as NDJSON."""
        data = kind = None
        if lines is not None:
            data, kind = "".join(json.dumps(line) + "\n" for line in lines).encode(), "application/x-ndjson"
        elif body is not None:
            data, kind = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(self.url + path, data, {"Content-Type": kind} if kind else {}, method=method)
        try:
            with self.opener.open(request, timeout=60) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        try:
            return status, json.loads(text) if text else None
        except ValueError:
            return status, text.decode(errors="replace")

    def ok(self, method, path, body=None, lines=None):
        status, answer = self.call(method, path, body, lines)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def refresh(self, index):
        return self.ok("POST", f"/{index}/_refresh")

    def count(self, index):
        """Documents of an index or alias, refreshed before; 0 when there is no such index."""
        if self.call("POST", f"/{index}/_refresh")[0] == 404:
            return 0
        return self.ok("GET", f"/{index}/_count")["count"]

    def get(self, index, id_):
        """The whole answer of a get by id (found, _source, _version, _seq_no)."""
        return self.call("GET", f"/{index}/_doc/{urllib.parse.quote(id_, safe='')}")[1]

    def docs(self, index, size=1000):
        """All documents: {_id: _source}."""
        self.refresh(index)
        found = {}
        page = self.ok("POST", f"/{index}/_search?scroll=1m", {"size": size, "sort": ["_doc"]})
        while page["hits"]["hits"]:
            found.update((hit["_id"], hit["_source"]) for hit in page["hits"]["hits"])
            page = self.ok("POST", "/_search/scroll", {"scroll": "1m", "scroll_id": page["_scroll_id"]})
        self.call("DELETE", "/_search/scroll", {"scroll_id": page["_scroll_id"]})
        return found

    def create(self, index, mappings=None, settings=None, aliases=None):
        settings = {"number_of_shards": 1, "number_of_replicas": 0, **(settings or {})}
        body = {"settings": settings, "mappings": mappings or {}, "aliases": aliases or {}}
        return self.ok("PUT", f"/{index}", body)

    def delete(self, index):
        return self.call("DELETE", f"/{index}?ignore_unavailable=true")


def elastic(instance="elasticsearch"):
    """instance: a search server of tools/servers/table"""
    return Elastic(address(instance))


def server_of(instance):
    """What an instance is: "elasticsearch-6.8.23"."""
    out = subprocess.run([SCRIPT, "status"], capture_output=True, text=True, check=True).stdout
    return next(line.split()[1] for line in out.splitlines() if line.split()[0] == instance)


# --- the program -------------------------------------------------------------------------------------

class Result:
    """What a run gave. peak_kib: the most resident memory it had (VmHWM), None where not measured."""

    def __init__(self, code, out, err, peak_kib, seconds):
        self.code, self.out, self.err, self.peak_kib, self.seconds = code, out, err, peak_kib, seconds

    def __repr__(self):
        return f"exit {self.code}\n--- out\n{self.out[-4000:]}\n--- err\n{self.err[-4000:]}"


class Program:
    """The program under test: $CASS2ES_BIN, else build/gcc/cass2es. Its home and state live in `folder`."""

    def __init__(self, folder=None):
        self.path = os.environ.get("CASS2ES_BIN") or str(ROOT / "build/gcc/cass2es")
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="cass2es-test-"))

    def environment(self, more=None):
        """Ours without the settings of the program and of proxies, home and state in our folder."""
        keep = {k: v for k, v in os.environ.items()
                if not k.startswith("CASS2ES_") and k.lower() not in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")}
        return {**keep, "HOME": str(self.folder), "XDG_STATE_HOME": str(self.folder / "state"), **(more or {})}

    def run(self, *args, stdin=None, env=None, cwd=None, timeout=90):
        """Runs to the end. stdin: text or bytes. A hang is stopped and raises TimeoutError."""
        peak = self.folder / f"peak.{os.getpid()}"
        wrapper = ["/usr/bin/time", "-q", "-o", str(peak), "-f", "%M"] if os.path.exists("/usr/bin/time") else []
        data = stdin.encode() if isinstance(stdin, str) else stdin
        begin = time.monotonic()
        process = subprocess.Popen([*wrapper, self.path, *map(str, args)], cwd=cwd or self.folder, env=self.environment(env),
                                   stdin=subprocess.PIPE if data is not None else subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        try:
            out, err = process.communicate(data, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise TimeoutError(f"{' '.join(map(str, args))}: no end after {timeout} s\n{err.decode(errors='replace')[-4000:]}")
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        seconds, code = time.monotonic() - begin, process.returncode
        # `time` gives 128 + n for a program that a signal ended; Popen would give -n.
        code = 128 - code if code < 0 else code
        kib = int(peak.read_text()) if peak.exists() and peak.read_text().strip() else None
        peak.unlink(missing_ok=True)
        return Result(code, out.decode(errors="replace"), err.decode(errors="replace"), kib, seconds)

    def start(self, *args, env=None, cwd=None, stdin=None):
        """Starts it in the background; use as a context manager."""
        return Background([self.path, *map(str, args)], self.environment(env), cwd or self.folder, stdin)


class Background:
    """A running program: .pid, .err() what it wrote so far, .wait(), .kill(). Ended when the block ends."""

    def __init__(self, command, env, cwd, stdin):
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, env=env, cwd=cwd, stdin=stdin or subprocess.DEVNULL,
                                        stdout=self._out, stderr=self._err, start_new_session=True)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._out.close()
        self._err.close()

    @staticmethod
    def _text(file):
        return os.pread(file.fileno(), 1 << 24, 0).decode(errors="replace")

    def out(self):
        return self._text(self._out)

    def err(self):
        return self._text(self._err)

    def peak_kib(self):
        """VmHWM now; only while it runs."""
        return int(re.search(r"VmHWM:\s*(\d+)", pathlib.Path(f"/proc/{self.pid}/status").read_text())[1])

    def expect(self, pattern, seconds=30):
        """Waits until its output (either) matches; returns the match."""
        deadline = time.monotonic() + seconds
        while True:
            ended = self.process.poll() is not None
            if match := re.search(pattern, self.out() + self.err(), re.M):
                return match
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} did not come\nexit {self.process.poll()}\n{self.out()[-2000:]}\n{self.err()[-4000:]}")
            time.sleep(0.02)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        return self.wait()

    def wait(self, timeout=60):
        code = self.process.wait(timeout)
        return Result(128 - code if code < 0 else code, self.out(), self.err(), None, 0.0)
