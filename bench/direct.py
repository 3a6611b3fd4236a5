"""The part `direct` of bench/run: `cass2es sync KS.TABLE --index NAME` against programs that do the same, and against
the floor. `b` is the module bench/run itself."""
import contextlib
import json
import math
import os
import pathlib
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import time
import urllib.error
import urllib.request

DOCS = {"docs1k": (1_000_000, 720), "docs250": (1_000_000, 4), "docs1k_some": (100_000, 720),
        "docs1k_quick": (10_000, 720), "docs250_quick": (10_000, 4)}
CREATE = ("CREATE TABLE IF NOT EXISTS bench.{} (id uuid PRIMARY KEY, name text, email text, bio text, status text, age int,"
          " visits bigint, score double, active boolean, created timestamp, tags list<text>, props map<text, text>)"
          " WITH compaction = {{'class': 'SizeTieredCompactionStrategy', 'enabled': 'false'}}")
INDEX = {"settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1", "gc_deletes": "1h",
                      "translog.durability": "async"},
         "mappings": {"dynamic": "false", "properties": {
             "id": {"type": "keyword"}, "name": {"type": "text"}, "email": {"type": "keyword"}, "bio": {"type": "text"},
             "status": {"type": "keyword"}, "age": {"type": "integer"}, "visits": {"type": "long"},
             "score": {"type": "double"}, "active": {"type": "boolean"}, "created": {"type": "date"},
             "tags": {"type": "keyword"}}}}
ELASTIC = "elasticsearch-bench"
FREE_CQL_PORT = int(os.environ.get("CASS2ES_BENCH_FREE_CQL_PORT", "19082"))
FREE_ES_PORT = int(os.environ.get("CASS2ES_BENCH_FREE_ES_PORT", "19083"))
WORKERS, DOCS_PER_BULK, BODY_BYTES = 8, 1000, 1 << 20
ROW_BYTES = {"small": 90, "medium": 210, "large": 960, "docs250": 210, "docs1k": 960}  # for the reader's pages of 1 MiB
VERSION = 1_700_000_000_000_000
OURS, RUST, GO, PLAIN, PYTHON = "cass2es sync --index", "Rust", "Go", "Go, MapScan and encoding/json", "Python"
READ_ONLY = "cass2es sync --to /dev/null (reading and JSON alone)"
BOTH, READER, SENDER = "null clients together (the floor)", "discarding reader alone", "bare sender alone"


# --- peers -------------------------------------------------------------------------------------------

def tools_of(b):
    """The peers' programs by name; one that can't be built here is left out, with a word."""
    gcc = ["gcc", "-O3", "-std=gnu17", "-D_GNU_SOURCE", "-pthread", "-Wall"]
    for name in ("free_cql", "free_es"):
        b.check(*gcc, "-o", b.PEERS / name, b.BENCH / f"peers/{name}.c", "-ldeflate")
    found = {}

    def build(name, program, *command, **more):
        if not shutil.which(command[0]):
            b.say(f"{name} peer: there is no {command[0]}, so it is left out")
            return
        b.say(f"building the {name} peer")
        done = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False, **more)
        if done.returncode:
            b.say(f"{name} peer: could not be built, so it is left out:\n{(done.stdout + done.stderr)[-1500:]}")
        else:
            found[name] = [program]

    build(RUST, b.PEERS / "rust/release/rust-peer", "cargo", "build", "--release", "--quiet", "--manifest-path",
          b.BENCH / "peers/rust/Cargo.toml", "--target-dir", b.PEERS / "rust")
    build(GO, b.PEERS / "go-peer", "go", "build", "-o", b.PEERS / "go-peer", ".", cwd=b.BENCH / "peers/go",
          env={**os.environ, "GOCACHE": str(b.CACHE / "go-build"), "GOFLAGS": "-buildvcs=false"})
    if GO in found:
        found[PLAIN] = [*found[GO], "--plain"]
    if subprocess.run(["/usr/bin/python3", "-c", "import cassandra, elasticsearch"], capture_output=True, check=False).returncode:
        b.say("Python peer: python3-cassandra or python3-elasticsearch is missing, so it is left out")
    else:
        found[PYTHON] = ["/usr/bin/python3", b.BENCH / "peers/python/peer.py"]
    return found


@contextlib.contextmanager
def background(b, port, *command):
    """A server of ours, until the end of the block."""
    with open(b.WORK / f"{pathlib.Path(str(command[0])).name}.log", "w", encoding="ascii") as log:
        process = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log)
    try:
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                b.sys.exit(f"bench: {command[0]} ended")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


class Place:
    """Two servers and a table: the command line of each program for it."""

    def __init__(self, b, tools, program, cassandra, elastic, table, rows):
        self.b, self.tools, self.program, self.table, self.rows = b, tools, program, table, rows
        self.cassandra, self.elastic = cassandra, elastic
        self.index = "bench-" + table.split(".")[1].replace("_", "-")
        self.url = f"http://127.0.0.1:{elastic}"
        self.size = ROW_BYTES.get(table.split(".")[1].split("_")[0], 960)

    def sync(self, *more):
        return [self.program, "sync", self.table, "--fresh", "--state-dir", self.b.WORK / "cwd/state", "--cassandra-hosts",
                f"127.0.0.1:{self.cassandra}", "--cassandra-username", self.b.USER, "--cassandra-password", self.b.PASSWORD, *more]

    def ours(self, *more):
        return self.sync("--index", self.index, "--elastic-url", self.url, *more)

    def by_sequence(self):
        mapping = self.b.WORK / "sequence.yaml"
        keyspace, table = self.table.split(".")
        mapping.write_text(f"object: docs\nsource: {{keyspace: {keyspace}, table: {table}, key: [id]}}\n"
                           f'target: {{index: {self.index}, id: "{{id}}"}}\nversioning: sequence\n')
        command = self.ours("--mapping", mapping)
        for what in (self.table, "--index", self.index):  # the mapping says it
            command.remove(what)
        return command

    def peer(self, name):
        return [*self.tools[name], f"127.0.0.1:{self.cassandra}", self.b.USER, self.b.PASSWORD, self.table, self.url, self.index,
                WORKERS, DOCS_PER_BULK]

    def reader(self, ranges):
        return [self.b.PEERS / "reader", "127.0.0.1", self.cassandra, self.b.USER, self.b.PASSWORD,
                f"SELECT * FROM {self.table} WHERE token(id) > %lld AND token(id) <= %lld", ranges, 4,
                max(1, BODY_BYTES // self.size)]

    def sender(self, bodies):
        path, sizes, documents, count = bodies
        calls = math.ceil(self.rows * count / documents)
        return [self.b.PEERS / "sender", self.elastic, 4, calls, path,
                f"/{self.index}/_bulk?filter_path=errors,items.*.status", sizes]

    def both(self, ranges, bodies):
        reader, sender = (shlex.join(map(str, c)) for c in (self.reader(ranges), self.sender(bodies)))
        return ["sh", "-c", f"{reader} & p=$!; {sender}; s=$?; wait $p && exit $s"]


def bodies_of(b, place, rows):
    """Ready-made bodies of (at most so many of) the table's documents: file, sizes, documents, bodies."""
    name = f"{place.table}-{rows}"
    path, sizes, facts = (b.WORK / f"{name}.{end}" for end in ("bodies", "sizes", "facts"))
    if not facts.exists():
        b.say(f"making bodies of {place.table}")
        lines = b.WORK / "lines"
        lines.unlink(missing_ok=True)
        (b.WORK / "cwd").mkdir(exist_ok=True)
        b.check(*place.sync("--to", lines))
        documents = 0
        with open(lines, "rb") as source, open(path, "wb") as out, open(sizes, "w", encoding="ascii") as list_:
            size = 0
            for documents, line in enumerate(source, 1):
                action = b'{"index":{"_id":"%s","version":%d,"version_type":"external_gte"}}\n' % (
                    json.loads(line)["id"].encode(), VERSION)
                out.write(action + line)
                size += len(action) + len(line)
                if size >= BODY_BYTES:
                    list_.write(f"{size}\n")
                    size = 0
                if documents == rows:
                    break
            if size:
                list_.write(f"{size}\n")
        lines.unlink()
        facts.write_text(f"{documents} {len(sizes.read_text().split())}")
    documents, count = map(int, facts.read_text().split())
    return path, sizes, documents, count


# --- tables ------------------------------------------------------------------------------------------

def call(method, url, body=None):
    request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode(),
                                     headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as e:
        if e.code == 404:
            return None
        raise


class Rounds:
    """One of each, round after round; with real servers each gets an empty index, and is held to its documents."""

    def __init__(self, b, place, real):
        self.b, self.place, self.real = b, place, real
        self.runs = {}

    def one(self, name, command, keep=True):
        b, index = self.b, f"{self.place.url}/{self.place.index}"
        writes = self.real and name not in (READER, READ_ONLY)
        if writes:
            call("DELETE", index)
            call("PUT", index, INDEX)
        took = b.measure(command)
        if writes:
            call("POST", index + "/_refresh")
            count = call("GET", index + "/_count")["count"]
            if count != self.place.rows:
                b.sys.exit(f"bench: {name}: {count} documents in the index, {self.place.rows} expected")
            call("DELETE", index)
        if keep:
            self.runs.setdefault(name, []).append(took)
        b.say(f"{self.place.table}: {name}: {took.wall:.2f} s, {b.cpu(took):.2f} CPU s, {took.peak_kib / 1024:.1f} MiB"
              + ("" if keep else " (warm-up)"))

    def alternate(self, commands, rounds, warm_up=1):
        rounds = self.b.rounds_of(rounds)
        for i in range(rounds + warm_up):
            for name in list(commands)[::1 if i % 2 == 0 else -1]:
                self.one(name, commands[name], keep=i >= warm_up)

    def median_cpu(self, name):
        return statistics.median(map(self.b.cpu, self.runs[name])) if name in self.runs else None

    def rows(self, per_million=True):
        out = []
        for name, runs in self.runs.items():
            row = self.b.took_row(name, runs)
            million = self.median_cpu(name) / self.place.rows * 1e6
            out.append([*row, f"{million:.2f}", f"{1e6 / million:,.0f}" if million else "-"])
        return out


HEAD_MORE = ["CPU s per million", "documents per CPU s"]


def ratios(b, report, rounds, where, wall):
    """What must hold of one place."""
    ours = rounds.median_cpu(OURS)
    if ours is None:
        return
    for name, most, text in ((RUST, 0.5, "1/2 of Rust's"), (BOTH, 3, "3 × the floor's")):
        other = rounds.median_cpu(name)
        if other:
            report.verdict(f"direct, {where}: CPU at most {text}", ours / other, (str(most), most), f"{ours / other:.2f}")
    for name in (GO, PLAIN, PYTHON):
        other = rounds.median_cpu(name)
        if other:
            report.add(f"CPU of ours / CPU of {name}, {where}: **1/{other / ours:.1f}**.", "")
    if wall:
        pairs = [n.wall / o.wall for o, n in zip(rounds.runs[OURS], rounds.runs[BOTH])]
        report.verdict(f"direct, {where}: wall at least 90 % of the null clients together", -statistics.median(pairs),
                       ("0.9", -0.9), b.spread(pairs, 3))


# --- sections ----------------------------------------------------------------------------------------

def free_ranges(b):
    ends = [-2**63, *(-2**63 + 2**59 + (i << 60) for i in range(16)), 2**63 - 1]
    path = b.WORK / "free-ranges"
    path.write_text("".join(f"{x} {y}\n" for x, y in zip(ends, ends[1:])))
    return path


def slow_peers(place, rounds, tools, names, share, count=1):
    """Fewer rows for the slow ones: `share` is a place with fewer; what they took is scaled to this one's rows."""
    for name in names:
        if name in tools:
            few = Rounds(rounds.b, share, rounds.real)
            for _ in range(count):
                few.one(name, share.peer(name))
            factor = place.rows / share.rows
            rounds.runs[name] = [type(t)(t.wall * factor, t.user * factor, t.system * factor, t.peak_kib) for t in few.runs[name]]


def part_free(b, report, tools, program, has_index, quick):
    report.add("### With servers that cost nothing", "",
               "Both servers are programs that answer from memory (`peers/free_cql.c`, `peers/free_es.c`): what is left is the "
               "client's own cost. They share the cores with the clients, so only CPU is compared.", "")
    ranges = free_ranges(b)
    for kind, rows, text in (("small", 2_000_000, "126 bytes, 10 columns"), ("medium", 1_000_000, "250 bytes, 12 columns"),
                             ("large", 1_000_000, "1 KB, 12 columns")):
        rows, few = (50_000, 20_000) if quick else (rows, 100_000)
        with background(b, FREE_ES_PORT, b.PEERS / "free_es", FREE_ES_PORT):
            with background(b, FREE_CQL_PORT, b.PEERS / "free_cql", FREE_CQL_PORT, kind, few):
                share = Place(b, tools, program, FREE_CQL_PORT, FREE_ES_PORT, "free.docs", few)
                share.size = ROW_BYTES[kind]
                for end in ("facts", "bodies", "sizes"):
                    (b.WORK / f"free.docs-{few}.{end}").unlink(missing_ok=True)
                bodies = bodies_of(b, share, few)
                slow = Rounds(b, Place(b, tools, program, FREE_CQL_PORT, FREE_ES_PORT, "free.docs", rows), False)
                slow_peers(slow.place, slow, tools, (PYTHON,), share)
            with background(b, FREE_CQL_PORT, b.PEERS / "free_cql", FREE_CQL_PORT, kind, rows):
                place = Place(b, tools, program, FREE_CQL_PORT, FREE_ES_PORT, "free.docs", rows)
                place.size = ROW_BYTES[kind]
                commands = {OURS: place.ours()} if has_index else {}
                commands |= {n: place.peer(n) for n in (RUST, GO) if n in tools}
                commands |= {BOTH: place.both(ranges, bodies), READER: place.reader(ranges), SENDER: place.sender(bodies),
                             READ_ONLY: place.sync("--to", "/dev/null")}
                rounds = Rounds(b, place, False)
                rounds.alternate(commands, 1 if quick else 7)
                if PLAIN in tools:
                    rounds.alternate({PLAIN: place.peer(PLAIN)}, 1, 0)
                rounds.runs |= slow.runs
        report.add(f"{rows:,} documents of {text}" + (f"; Python with {few:,}, scaled:" if PYTHON in tools else ":"), "")
        report.table(b.TOOK_HEAD + HEAD_MORE, rounds.rows())
        ratios(b, report, rounds, f"free servers, {text}", False)
        if kind == "small" and has_index:
            rate = rows / rounds.median_cpu(OURS)
            report.verdict("direct, free servers: at least 500,000 documents of 126 bytes per CPU second", -rate,
                           ("500,000", -500_000), f"{rate:,.0f}")


def part_real(b, report, tools, program, node, has_index, quick):
    elastic = b.re.search(rf"CASS2ES_TEST_PORT_{ELASTIC.replace('-', '_')}='([^']*)'", b.check(b.SERVERS, "env"), b.re.I).group(1)
    ranges, _ = node.ranges()
    report.add("### With real servers", "",
               "Cassandra 5.0.4 and Elasticsearch 7.17.28 (4 GiB heap) on the same machine; an index with one shard, no replica, no "
               "refresh, empty before each run, and counted after it. The null clients run together: a reader that discards, and "
               "a sender of the same documents, ready-made, of 1 MiB a body; each 4 connections.", "")
    for table, text in (("docs1k", "1 KB"), ("docs250", "250 bytes")):
        some = "docs1k_quick" if quick else "docs1k_some"
        name = f"{table}_quick" if quick else table
        place = Place(b, tools, program, node.port, elastic, f"bench.{name}", DOCS[name][0])
        share = Place(b, tools, program, node.port, elastic, f"bench.{some}", DOCS[some][0])
        bodies = bodies_of(b, place, place.rows)
        rounds = Rounds(b, place, True)
        ours = {OURS: place.ours()} if has_index else {}
        rounds.alternate({**ours, BOTH: place.both(ranges, bodies)}, 1 if quick else 7)
        fast = {n: place.peer(n) for n in (RUST, GO) if n in tools}
        rounds.alternate(fast, 1 if quick or table != "docs1k" else 3, 0)
        rounds.alternate({READER: place.reader(ranges), SENDER: place.sender(bodies)}, 1, 0)
        if table == "docs1k":
            slow_peers(place, rounds, tools, (PLAIN, PYTHON), share)
        report.add(f"{place.rows:,} rows of about {text}" +
                   (f"; {PLAIN}, and Python: with {share.rows:,} rows, scaled:" if table == "docs1k" else ":"), "")
        report.table(b.TOOK_HEAD + HEAD_MORE, rounds.rows())
        ratios(b, report, rounds, f"real servers, {text}", True)


def part_memory(b, report, program, has_index, quick):
    few, many, huge = 10_000, 100_000 if quick else 10_000_000, 50 if quick else 1000
    cases = [("small", few, 0, "126 bytes"), ("small", many, 0, "126 bytes"), ("huge", huge, 0, "1 MB")]
    # What is stored is looked at, and as large as the row.
    by_sequence = [("small", few, 126, "126 bytes, by sequence"), ("large", huge * 100, 1000, "1 KB, by sequence"),
                   ("huge", huge, 1_000_000, "1 MB, by sequence")]
    less = [("huge", huge, 0, "1 MB, --memory 16MiB")]
    rows, peaks = [], {False: [], True: []}
    for kind, count, stored, text in cases + (by_sequence + less if has_index else []):
        tight = "--memory" in text
        flags = ["--memory", "16MiB"] if tight else []
        with background(b, FREE_ES_PORT, b.PEERS / "free_es", FREE_ES_PORT, stored), \
                background(b, FREE_CQL_PORT, b.PEERS / "free_cql", FREE_CQL_PORT, kind, count):
            place = Place(b, {}, program, FREE_CQL_PORT, FREE_ES_PORT, "free.docs", count)
            took = b.measure(place.by_sequence() if stored else place.ours(*flags) if has_index
                             else place.sync("--to", "/dev/null"))
        peak = took.peak_kib / 1024
        peaks[tight].append(peak)
        rows.append([f"{count:,} rows of {text}", f"{peak:.1f}", f"{took.wall:.1f}", f"{b.cpu(took):.2f}"])
        b.say(f"memory: {rows[-1]}")
    report.add("### Memory (VmHWM), default settings but where said, servers that cost nothing" + ("" if has_index else ", --to /dev/null"), "")
    report.table(["table", "peak MiB", "wall s", "CPU s"], rows)
    report.verdict("direct: VmHWM under 64 MiB", max(peaks[False]), ("64", 64), f"at most {max(peaks[False]):.1f} MiB")
    if has_index:
        report.verdict("direct: VmHWM under 32 MiB with --memory 16MiB, rows of 1 MB", peaks[True][0], ("32", 32),
                       f"{peaks[True][0]:.1f} MiB")


def part(b, report, programs, quick, sections):
    program, node = programs.program, programs.node
    has_index = "--index " in b.check(program, "sync", "--help")
    report.add("## 5. Direct sync: a table into an index", "")
    if not has_index:
        report.add("**This program has no `sync --index`: only reading and JSON are measured.**", "")
    tools = tools_of(b)
    if "free" in sections:
        part_free(b, report, tools, program, has_index, quick)
    if "real" in sections:
        ran = ELASTIC in b.running()
        b.check(b.SERVERS, "start", ELASTIC)
        try:
            part_real(b, report, tools, program, node, has_index, quick)
        finally:
            if not ran:
                b.check(b.SERVERS, "stop", ELASTIC)
    if "memory" in sections:
        part_memory(b, report, program, has_index, quick)
