#!/usr/bin/python3
"""The part `serve` of bench/run, and a program of its own: many clients at once, a server that goes away, one id.

    bench/serve.py --program build/release/cass2es --cassandra 127.0.0.1:19042 --elastic http://127.0.0.1:19200

It makes keyspace and index bench_serve, and takes them away. Rows change all the time, two for each id that is worked off, so that
most ids have something to write; at the end the index has to equal the table. Elasticsearch is "stopped" by a proxy that refuses
and cuts all connections for a third of the time, as a restart looks to a client.
"""
import argparse
import collections
import contextlib
import http.client
import json
import multiprocessing
import pathlib
import random
import re
import shlex
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAME = "bench_serve"
ROWS = 20_000
SAMPLE = 3_000  # documents that are compared
DRAIN_S = 120  # what waits when the time is over is waited for
WARM_UP = 20
PATH = "/v1/data/sync"
MAPPING = (f"object: user\nsource: {{table: users, keyspace: {NAME}}}\ntarget: {{index: {NAME}, id: \"{{id}}\"}}\n"
           "versioning: sequence\n")
Load = collections.namedtuple("Load", "calls ids full errors outcomes lost rss_first rss_last retries ids_per_s updates differ")
Holds = collections.namedtuple("Holds", "name value limit text")


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


# --- what it runs against ------------------------------------------------------------------------

class Table:
    """bench_serve.users: filled, changed, read, and taken away."""

    def __init__(self, address, user, password):
        from cassandra.auth import PlainTextAuthProvider
        from cassandra.cluster import Cluster
        host, port = address.rsplit(":", 1)
        self.session = Cluster([host], int(port), auth_provider=PlainTextAuthProvider(user, password)).connect()
        self.session.execute(f"CREATE KEYSPACE IF NOT EXISTS {NAME} WITH replication = "
                             "{'class': 'SimpleStrategy', 'replication_factor': 1}", timeout=60)
        self.session.execute(f"CREATE TABLE IF NOT EXISTS {NAME}.users (id text PRIMARY KEY, firstname text, lastname text, email text, "
                             "status int, roles list<text>)", timeout=60)
        insert = self.session.prepare(f"INSERT INTO {NAME}.users (id, firstname, lastname, email, status, roles) VALUES (?, ?, ?, ?, ?, ?)")
        self.ids = ["user-%06d" % n for n in range(ROWS)]
        self.many(insert, [(i, "First", "Last of " + i, i + "@example.org", 1, ["PUBLIC", "ADMIN"]) for i in self.ids])
        self.update = self.session.prepare(f"UPDATE {NAME}.users SET status = ? WHERE id IN ?")

    def many(self, statement, values):
        from cassandra.concurrent import execute_concurrent_with_args
        return execute_concurrent_with_args(self.session, statement, values, 64)

    def change(self, ids, status):
        self.session.execute(self.update, (status, ids), timeout=60)

    def documents(self, ids):
        select = self.session.prepare(f"SELECT id, firstname, lastname, email, status, roles FROM {NAME}.users WHERE id = ?")
        rows = [row for _, found in self.many(select, [(i,) for i in ids]) for row in found]
        return {row.id: {**row._asdict(), "roles": list(row.roles)} for row in rows}

    def drop(self):
        self.session.execute(f"DROP KEYSPACE {NAME}", timeout=60)
        self.session.cluster.shutdown()


class Writer(threading.Thread):
    """Changes rows until it is stopped, in turn: two for each id that the server has worked off, and a thousand a second."""

    AT_ONCE = 200
    turn = 1  # the status of the rows: never that of another load, never 0

    def __init__(self, server, table):
        super().__init__(daemon=True)
        self.server, self.table, self.stopped, self.updates, self.error = server, table, threading.Event(), 0, None

    def run(self):
        begin, due, at, ids = time.monotonic(), 0, 0, random.Random(2).sample(self.table.ids, len(self.table.ids))
        try:
            while not self.stopped.wait(0.1 if self.updates >= due else 0):
                if self.updates >= due:
                    due = 2 * self.server.metric("ids_found_total") + 1000 * (time.monotonic() - begin)
                if at == 0:
                    Writer.turn += 1
                self.table.change(ids[at:at + self.AT_ONCE], Writer.turn)
                self.updates += len(ids[at:at + self.AT_ONCE])
                at = (at + self.AT_ONCE) % len(ids)
        except Exception as problem:  # told at the end: the load goes on
            self.error = problem

    def stop(self):
        self.stopped.set()
        self.join()
        if self.error:
            raise self.error
        return self.updates


def make_index(url):
    with contextlib.suppress(urllib.error.HTTPError):
        elastic(url, "DELETE", "/" + NAME)
    elastic(url, "PUT", "/" + NAME, {"settings": {"number_of_shards": 1, "number_of_replicas": 0}, "mappings": {"dynamic": False}})


def differences(url, table):
    """What is not as in the table: the count, and documents of a sample."""
    elastic(url, "POST", f"/{NAME}/_refresh")
    count = elastic(url, "GET", f"/{NAME}/_count")["count"]
    found = [f"{count} documents of {len(table.ids)} rows"] if count != len(table.ids) else []
    sample = random.Random(3).sample(table.ids, min(SAMPLE, len(table.ids)))
    want = table.documents(sample)
    for at in range(0, len(sample), 500):
        for d in elastic(url, "POST", f"/{NAME}/_mget", {"ids": sample[at:at + 500]})["docs"]:
            if d.get("_source") != want[d["_id"]]:
                found.append(f"{d['_id']}: {d.get('_source')} for {want[d['_id']]}")
    return found


def elastic(url, method, path, body=None):
    request = urllib.request.Request(url + path, json.dumps(body).encode() if body is not None else None,
                                     {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def proxy_main(pipe, host, port):
    sys.path.append(str(ROOT / "test/lib"))
    from proxy import Proxy
    with Proxy(host, port) as p:
        pipe.send(p.port)
        while (word := pipe.recv()) != "end":
            p.down() if word == "down" else p.up()


@contextlib.contextmanager
def proxied(url):
    """A process of its own: the clients keep this one busy."""
    to = urllib.parse.urlsplit(url)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=proxy_main, args=(theirs, to.hostname, to.port), daemon=True)
    process.start()
    port = ours.recv()
    try:
        yield f"http://127.0.0.1:{port}", ours.send
    finally:
        ours.send("end")
        process.join(5)


class Server:
    def __init__(self, options, elastic_url, folder):
        (folder / "m.yaml").write_text(MAPPING)
        self.log = open(folder / "log", "w+")
        self.process = subprocess.Popen(
            [options.program, "serve", "--listen", "127.0.0.1:0", "--cassandra-hosts", options.cassandra.rsplit(":", 1)[0],
             "--cassandra-port", options.cassandra.rsplit(":", 1)[1], "--cassandra-username", options.user,
             "--cassandra-password", options.password, "--elastic-url", elastic_url, "--mapping", folder / "m.yaml",
             "--state-dir", folder / "state", "--sync-timeout", "60s"], stdout=subprocess.DEVNULL, stderr=self.log)
        end = time.monotonic() + 30
        while not (found := re.search(r"event=listening address=\S+:(\d+)", self.said())):
            assert self.process.poll() is None and time.monotonic() < end, self.said()
            time.sleep(0.05)
        self.port = int(found[1])

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def rss(self):
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text())[1])

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.read()

    def metric(self, name):
        return int(re.search(rb"^cass2es_%s (\d+)$" % name.encode(), self.get("/metrics"), re.M)[1])

    def stop(self):
        self.process.terminate()
        return self.process.wait(60)


@contextlib.contextmanager
def serving(options, elastic_url):
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options, elastic_url, pathlib.Path(folder))
        try:
            yield server
        finally:
            server.process.kill()
            server.process.wait()


# --- load ----------------------------------------------------------------------------------------

def call(connection, ids, **more):
    body = json.dumps({"request": {"objectType": "user", "objectIds": ids, **more}})
    connection.request("POST", PATH, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer


def client(server, ids, block, end, seed, runs, seen, errors):
    dice = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    while time.monotonic() < end:
        try:
            answer = call(connection, dice.sample(ids, block))
        except (OSError, http.client.HTTPException) as problem:
            errors.append(repr(problem))
            connection.close()
            continue
        seen[answer.status] += 1
        if answer.status == 200:
            runs.append(answer.headers["X-Cass2es-Run"])
        elif answer.status == 429:
            time.sleep(float(answer.headers["Retry-After"]) * dice.uniform(0.5, 1.5))
        else:
            errors.append(answer.status)


def account(server, runs):
    """Outcome by outcome, of every call that was taken; and the calls that are not done or not known."""
    outcomes, lost = collections.Counter(), []
    for name in runs:
        run = json.loads(server.get(f"{PATH}/runs/{name}"))["result"]
        outcomes.update(r["outcome"] for r in run["results"])
        if run["state"] != "done":
            lost.append(name)
    return outcomes, lost


def drain(server):
    until = time.monotonic() + DRAIN_S
    while server.metric("queue_ids") and time.monotonic() < until:
        time.sleep(0.2)


def once_more(server, ids, block, seen, errors):
    """Every id, when no row changes any more: the calls that were taken."""
    runs = []
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for at in range(0, len(ids), block):
        while (answer := call(connection, ids[at:at + block])).status == 429:
            seen[429] += 1
            time.sleep(float(answer.headers["Retry-After"]))
        if answer.status == 200:
            runs.append(answer.headers["X-Cass2es-Run"])
        else:
            errors.append(answer.status)
    connection.close()
    return runs


def load(options, server, table, harm):
    """harm: at a third of the time, then at two thirds."""
    runs, seen, errors, rss, ids = [], collections.Counter(), [], [], table.ids
    begin = time.monotonic()
    writer = Writer(server, table)
    writer.start()
    end = begin + options.seconds
    clients = [threading.Thread(target=client, args=(server, ids, options.block, end, n, runs, seen, errors))
               for n in range(options.clients)]
    for c in clients:
        c.start()
    harms = list(harm)
    while time.monotonic() < end:
        time.sleep(min(1, options.seconds / 20))
        rss.append(server.rss())
        if harms and time.monotonic() > begin + options.seconds * (len(harm) - len(harms) + 1) / 3:
            harms.pop(0)()
    for c in clients:
        c.join()
    drain(server)
    took = time.monotonic() - begin
    updates = writer.stop()
    last = once_more(server, ids, options.block, seen, errors)
    drain(server)
    outcomes, lost = account(server, runs)
    others, more = account(server, last)
    wrong = [f"{n} {outcome} when no row changed any more" for outcome, n in others.items() if outcome not in WELL]
    quarter = max(1, len(rss) // 4)
    said = server.said()
    return Load(len(runs), len(runs) * options.block, seen[429], errors, outcomes, lost + more, statistics.median(rss[quarter:2 * quarter] or rss),
                statistics.median(rss[-quarter:]), {w: said.count(f"event={w}") for w in ("bulk_retry", "mget_retry", "work_waits")},
                sum(outcomes.values()) / took, updates, wrong + differences(options.elastic, table))


WELL = ("indexed", "unchanged")


def judge(name, got):
    """A line for people, and what is to hold: name, how far off it is, the limit, what was measured."""
    unknown = got.ids - sum(got.outcomes.values())
    others = sum(n for outcome, n in got.outcomes.items() if outcome not in WELL)
    indexed = got.outcomes["indexed"] / max(1, sum(got.outcomes.values()))
    errors = ", ".join(f"{n} × {e}" for e, n in collections.Counter(map(str, got.errors)).most_common(3))
    growth = got.rss_last - got.rss_first
    text = (f"{name}: {got.calls:,} calls, {got.ids:,} ids, {got.full:,} times 429, {got.ids_per_s:,.0f} ids/s, {got.updates:,} rows changed meanwhile, "
            f"outcomes {dict(got.outcomes)}, log {dict(got.retries)}, resident {got.rss_first / 1024:.1f} then {got.rss_last / 1024:.1f} MiB")
    return text, [
        Holds(f"serve, {name}: no error but 429", len(got.errors), ("none", 0), errors or f"none in {got.calls + got.full:,} calls"),
        Holds(f"serve, {name}: every accepted id accounted for", abs(unknown) + others + len(got.lost), ("all", 0),
              f"{got.ids - unknown:,} of {got.ids:,}" + (f", {others} with another outcome" if others else "")
              + (f", {len(got.lost)} calls not done" if got.lost else "")),
        Holds(f"serve, {name}: most ids had something to write", 1 - indexed, ("half", 0.5), f"{indexed:.0%} indexed"),
        Holds(f"serve, {name}: the index equals the table at the end", len(got.differ), ("all", 0),
              "; ".join(got.differ[:3]) or f"{ROWS:,} documents, {min(SAMPLE, ROWS):,} of them compared"),
        Holds(f"serve, {name}: memory flat", growth, ("15 % and 8 MiB", 0.15 * got.rss_first + 8192), f"{growth / 1024:+.1f} MiB"),
    ]


# --- one id --------------------------------------------------------------------------------------

class Cql:
    """Cassandra asked in the plainest way, so that what it takes is not a driver's time."""

    STARTUP, AUTHENTICATE, PREPARE, EXECUTE, AUTH_RESPONSE = 1, 3, 9, 10, 15

    def __init__(self, address, user, password):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code, _ = self.ask(self.STARTUP, struct.pack(">HH11sH5s", 1, 11, b"CQL_VERSION", 5, b"3.0.0"))
        if code == self.AUTHENTICATE:
            token = f"\0{user}\0{password}".encode()
            self.ask(self.AUTH_RESPONSE, struct.pack(">i", len(token)) + token)

    def ask(self, code, body):
        self.socket.sendall(struct.pack(">BBhBi", 4, 0, 0, code, len(body)) + body)
        head = self.take(9)
        answer = self.take(struct.unpack(">i", head[5:])[0])
        assert head[4] != 0, answer
        return head[4], answer

    def take(self, n):
        got = b""
        while len(got) < n:
            piece = self.socket.recv(n - len(got))
            assert piece, "Cassandra closed the connection"
            got += piece
        return got

    def prepare(self, text):
        _, answer = self.ask(self.PREPARE, struct.pack(">i", len(text)) + text.encode())
        n = struct.unpack(">H", answer[4:6])[0]
        return answer[6:6 + n]

    def execute(self, prepared, value):
        """One row, by LOCAL_QUORUM, one text bound."""
        value = value.encode()
        self.ask(self.EXECUTE, struct.pack(">H", len(prepared)) + prepared + struct.pack(">HBHi", 6, 1, 1, len(value)) + value)


class Http:
    """Requests over one connection; the body of the answer."""

    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, path, body):
        body = body.encode()
        self.socket.sendall(b"POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                            % (path.encode(), len(body), body))
        got = b""
        while not (head := re.match(rb"HTTP/1.1 (\d+).*?\r\n\r\n", got, re.S)) or len(got) < head.end() + int(
                re.search(rb"(?i)content-length: (\d+)", head[0])[1]):
            piece = self.socket.recv(1 << 16)
            assert piece, "the connection was closed"
            got += piece
        assert head[1] == b"200", got
        return json.loads(got[head.end():])


def document(i, **more):
    return {"id": i, "firstname": "First", "lastname": "Last of " + i, "email": i + "@example.org", "status": 1, "roles": ["PUBLIC", "ADMIN"], **more}


def latency(options, server, ids, n):
    """
    Medians in ms: a synchronous call for one id whose document has changed; what the servers take when they get the same requests
    from here, turn by turn; and the difference.
    """
    to = urllib.parse.urlsplit(options.elastic)
    ours, search = Http("127.0.0.1", server.port), Http(to.hostname, to.port)
    cassandra = Cql(options.cassandra, options.user, options.password)
    select = cassandra.prepare(f"SELECT * FROM {NAME}.users WHERE id = ?")
    begin = random.Random(1).sample(ids, 2 * (n + WARM_UP))
    stale = "".join('{"index":{"_id":"%s"}}\n%s\n' % (i, json.dumps(document(i, status=0))) for i in begin)
    search.ask(f"/{NAME}/_bulk?refresh=true", stale)

    def one(i):
        answer = ours.ask(PATH, json.dumps({"request": {"objectType": "user", "objectIds": [i], "operationType": "sync"}}))
        assert answer["result"]["esSyncResponse"] == {i: True}

    def same(i):
        found = search.ask(f"/{NAME}/_mget", json.dumps({"ids": [i]}))["docs"][0]
        cassandra.execute(select, i)
        action = {"_id": i, "if_seq_no": found["_seq_no"], "if_primary_term": found["_primary_term"]}
        assert not search.ask(f"/{NAME}/_bulk", json.dumps({"index": action}) + "\n" + json.dumps(document(i)) + "\n")["errors"]

    def timed(work, i):
        at = time.perf_counter()
        work(i)
        return (time.perf_counter() - at) * 1000

    pairs = [(timed(one, begin[2 * k]), timed(same, begin[2 * k + 1])) for k in range(n + WARM_UP)][WARM_UP:]
    assert server.metric("documents_indexed_total") == n + WARM_UP, "the calls were to write"
    return (statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs), statistics.median(a - b for a, b in pairs))


# --- all of it -----------------------------------------------------------------------------------

def run(options):
    """Lines for people, and what is to hold."""
    table = Table(options.cassandra, options.user, options.password)
    lines, rows = [], []
    try:
        with proxied(options.elastic) as (url, tell):
            for name, harm in (("load", []), ("load, Elasticsearch away for a third", [lambda: tell("down"), lambda: tell("up")])):
                if harm and options.stop:
                    harm = [lambda: subprocess.run(options.stop, check=True, stdout=subprocess.DEVNULL),
                            lambda: subprocess.run(options.start, check=True, stdout=subprocess.DEVNULL)]
                make_index(options.elastic)
                with serving(options, url) as server:
                    text, judged = judge(name, load(options, server, table, harm))
                    say(text)
                    lines.append(text)
                    rows += judged
                    code = server.stop()
                    rows.append(Holds(f"serve, {name}: ends with its books balanced", code, ("exit 0", 0), f"exit {code}"))
        with serving(options, options.elastic) as server:
            whole, servers, beyond = latency(options, server, table.ids, options.calls)
            lines.append(f"one id whose document (one table, six columns) changed: median {whole:.2f} ms a synchronous call; its servers, sent the same requests in turn: "
                         f"{servers:.2f} ms")
            rows.append(Holds("serve: a synchronous call for one id, beyond its servers", beyond, ("5 ms", 5), f"{beyond:.2f} ms"))
    finally:
        table.drop()
        elastic(options.elastic, "DELETE", "/" + NAME)
    return lines, rows


def part(b, report, programs, quick):
    port = re.search(r"CASS2ES_TEST_PORT_elasticsearch_bench='([^']*)'", b.check(b.SERVERS, "env"), re.I).group(1)
    ran = "elasticsearch-bench" in b.running()
    b.check(b.SERVERS, "start", "elasticsearch-bench")
    options = argparse.Namespace(program=programs.program, cassandra=f"127.0.0.1:{programs.node.port}", user=b.USER, password=b.PASSWORD,
                                 elastic=f"http://127.0.0.1:{port}", seconds=6 if quick else 60, clients=200, block=100,
                                 calls=100 if quick else 1000, stop=[b.SERVERS, "stop", "elasticsearch-bench"],
                                 start=[b.SERVERS, "start", "--keep", "elasticsearch-bench"])
    try:
        lines, rows = run(options)
    finally:
        if not ran:
            b.check(b.SERVERS, "stop", "elasticsearch-bench")
    report.add("## 6. The server under load", "", *[f"- {line}" for line in lines], "")
    for row in rows:
        report.verdict(*row)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/release/cass2es"))
    parser.add_argument("--cassandra", default="127.0.0.1:19042")
    parser.add_argument("--user", default="cassandra")
    parser.add_argument("--password", default="cassandra")
    parser.add_argument("--elastic", default="http://127.0.0.1:19200")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--block", type=int, default=100)
    parser.add_argument("--calls", type=int, default=1000, help="of one id, for the median")
    parser.add_argument("--stop", type=shlex.split, help="a command that stops Elasticsearch for good; else a proxy does as if")
    parser.add_argument("--start", type=shlex.split, help="a command that starts it again, with its data")
    lines, rows = run(parser.parse_args())
    wrong = [r for r in rows if r.value > r.limit[1]]
    print("\n".join(lines + [f"{r.name}: {r.text} (limit {r.limit[0]}): {'does not hold' if r in wrong else 'holds'}" for r in rows]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
