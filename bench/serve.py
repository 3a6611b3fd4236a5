#!/usr/bin/python3
"""The part `serve` of bench/run, and a program of its own: many clients at once, a server that goes away, one id.

    bench/serve.py --program build/release/cass2es --cassandra 127.0.0.1:19042 --elastic http://127.0.0.1:19200

It makes keyspace and index bench_serve, and takes them away. Elasticsearch is "stopped" by a proxy that refuses and cuts
all connections for a third of the time, as a restart looks to a client.
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
import statistics
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
PATH = "/v1/data/sync"
MAPPING = (f"object: user\nsource: {{table: users, keyspace: {NAME}}}\ntarget: {{index: {NAME}, id: \"{{id}}\"}}\n"
           "versioning: sequence\n")
Load = collections.namedtuple("Load", "calls ids full errors outcomes lost rss_first rss_last waits ids_per_s")


# --- what it runs against ------------------------------------------------------------------------

def fill(address, user, password):
    """The session, and the rows' ids."""
    from cassandra.auth import PlainTextAuthProvider
    from cassandra.cluster import Cluster
    from cassandra.concurrent import execute_concurrent_with_args
    host, port = address.rsplit(":", 1)
    session = Cluster([host], int(port), auth_provider=PlainTextAuthProvider(user, password)).connect()
    session.execute(f"CREATE KEYSPACE IF NOT EXISTS {NAME} WITH replication = "
                    "{'class': 'SimpleStrategy', 'replication_factor': 1}", timeout=60)
    session.execute(f"CREATE TABLE IF NOT EXISTS {NAME}.users (id text PRIMARY KEY, firstname text, lastname text, email text, "
                    "status int, roles list<text>)", timeout=60)
    insert = session.prepare(f"INSERT INTO {NAME}.users (id, firstname, lastname, email, status, roles) VALUES (?, ?, ?, ?, ?, ?)")
    ids = ["user-%06d" % n for n in range(ROWS)]
    execute_concurrent_with_args(session, insert, [(i, "First", "Last of " + i, i + "@example.org", 1, ["PUBLIC", "ADMIN"]) for i in ids], 64)
    return session, ids


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


def load(options, server, ids, harm):
    """harm: at a third of the time, then at two thirds."""
    runs, seen, errors, rss = [], collections.Counter(), [], []
    begin = time.monotonic()
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
    until = time.monotonic() + 300
    while server.metric("queue_ids") and time.monotonic() < until:
        time.sleep(0.2)
    took = time.monotonic() - begin
    outcomes, lost = account(server, runs)
    quarter = max(1, len(rss) // 4)
    return Load(len(runs), len(runs) * options.block, seen[429], errors, outcomes, lost, statistics.median(rss[quarter:2 * quarter] or rss),
                statistics.median(rss[-quarter:]), server.metric("work_waits_total"), sum(outcomes.values()) / took)


def judge(name, got):
    """Lines for people, and what is wrong."""
    wrong = []
    if got.errors:
        wrong.append(f"errors other than 429: {collections.Counter(map(str, got.errors)).most_common(3)}")
    if got.lost or sum(got.outcomes.values()) != got.ids or set(got.outcomes) - {"indexed", "unchanged"}:
        wrong.append(f"not accounted for: {dict(got.outcomes)} of {got.ids} ids, {len(got.lost)} calls not done")
    if got.rss_last > 1.15 * got.rss_first + 8192:
        wrong.append(f"memory grew from {got.rss_first} to {got.rss_last} KiB")
    text = (f"{name}: {got.calls} calls, {got.ids} ids, {got.full} times 429, {got.ids_per_s:,.0f} ids/s, outcomes {dict(got.outcomes)}, "
            f"resident {got.rss_first / 1024:.1f} then {got.rss_last / 1024:.1f} MiB")
    return text, wrong


# --- one id --------------------------------------------------------------------------------------

def timed(n, work):
    took = []
    for i in range(n):
        begin = time.perf_counter()
        work(i)
        took.append((time.perf_counter() - begin) * 1000)
    return statistics.median(took)


def latency(options, server, session, ids, n):
    """Medians in ms: a synchronous call for one id, and what the servers take for the same, asked one after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    to = urllib.parse.urlsplit(options.elastic)
    search = http.client.HTTPConnection(to.hostname, to.port, timeout=60)
    select = session.prepare(f"SELECT * FROM {NAME}.users WHERE id = ?")

    def one(i):
        assert call(connection, [ids[i % ROWS]], operationType="sync").status == 200

    def ask(path, body):
        search.request("POST", path, body, {"Content-Type": "application/json"})
        answer = search.getresponse()
        assert answer.status == 200
        answer.read()

    for i in range(20):
        one(i)
    whole = timed(n, lambda i: one(i + 20))
    read = timed(n, lambda i: session.execute(select, [ids[i]]))
    look = timed(n, lambda i: ask(f"/{NAME}/_mget", json.dumps({"ids": [ids[i]]})))
    check = read
    document = json.dumps({"firstname": "First", "lastname": "Last", "status": 1})
    write = timed(n, lambda i: ask("/_bulk", '{"index":{"_index":"%s","_id":"x%d"}}\n%s\n' % (NAME, i, document)))
    return whole, read + look + check + write


# --- all of it -----------------------------------------------------------------------------------

def run(options):
    session, ids = fill(options.cassandra, options.user, options.password)
    with contextlib.suppress(urllib.error.HTTPError):
        elastic(options.elastic, "DELETE", "/" + NAME)
    elastic(options.elastic, "PUT", "/" + NAME, {"settings": {"number_of_shards": 1, "number_of_replicas": 0},
                                                 "mappings": {"dynamic": False}})
    lines, wrong = [], []
    try:
        with proxied(options.elastic) as (url, tell):
            for name, harm in (("load", []), ("load, Elasticsearch away for a third", [lambda: tell("down"), lambda: tell("up")])):
                if harm and options.stop:
                    harm = [lambda: subprocess.run(options.stop, check=True, stdout=subprocess.DEVNULL),
                            lambda: subprocess.run(options.start, check=True, stdout=subprocess.DEVNULL)]
                with serving(options, url) as server:
                    text, bad = judge(name, load(options, server, ids, harm))
                    lines.append(text)
                    wrong += [f"{name}: {b}" for b in bad]
                    if code := server.stop():
                        wrong.append(f"{name}: exit {code}\n{server.said()[-2000:]}")
        with serving(options, options.elastic) as server:
            whole, servers = latency(options, server, session, ids, options.calls)
            lines.append(f"one id: median {whole:.2f} ms a synchronous call; its servers, asked alone: {servers:.2f} ms")
            if whole - servers >= 5:
                wrong.append(f"one id: {whole - servers:.2f} ms beyond the servers' own time, not under 5")
    finally:
        session.execute(f"DROP KEYSPACE {NAME}", timeout=60)
        session.cluster.shutdown()
        elastic(options.elastic, "DELETE", "/" + NAME)
    return lines, wrong


def part(b, report, programs, quick):
    port = re.search(r"CASS2ES_TEST_PORT_elasticsearch_bench='([^']*)'", b.check(b.SERVERS, "env"), re.I).group(1)
    ran = "elasticsearch-bench" in b.running()
    b.check(b.SERVERS, "start", "elasticsearch-bench")
    options = argparse.Namespace(program=programs.program, cassandra=f"127.0.0.1:{programs.node.port}", user=b.USER, password=b.PASSWORD,
                                 elastic=f"http://127.0.0.1:{port}", seconds=6 if quick else 60, clients=200, block=100,
                                 calls=100 if quick else 1000, stop=[b.SERVERS, "stop", "elasticsearch-bench"],
                                 start=[b.SERVERS, "start", "--keep", "elasticsearch-bench"])
    try:
        lines, wrong = run(options)
    finally:
        if not ran:
            b.check(b.SERVERS, "stop", "elasticsearch-bench")
    report.add("## 6. The server under load", "", *[f"- {line}" for line in lines], *[f"- **{w}**" for w in wrong], "")
    report.verdict("serve: only 429, memory flat, every id accounted for, one id under 5 ms beyond the servers", len(wrong), ("0 faults", 1),
                   "; ".join(wrong) or "holds")


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
    lines, wrong = run(parser.parse_args())
    print("\n".join(lines + [f"WRONG: {w}" for w in wrong]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
