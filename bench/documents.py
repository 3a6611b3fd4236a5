"""The part `documents` of bench/run: users with their organisations and roles (profiles/sunbird/user.yaml) against a copy
of the user table alone, by a scan and by ids. `b` is the module bench/run itself."""
import re
import statistics

import direct

USERS, ORGS, IDS = 1_000_000, 2_000, 50_000
QUICK_USERS, QUICK_IDS = 50_000, 10_000
WARM_UP = 100_000
TABLES = ("user", "user_organisation", "user_roles", "organisation")
# Both arms store the same way: what an index does with fields is not what is compared.
INDEX = {"settings": direct.INDEX["settings"], "mappings": {"dynamic": "false", "properties": {"id": {"type": "keyword"}}}}
IDS_PER_SECOND = 28  # of the program that is replaced
MASK = 2**64 - 1


def keyspace(quick):
    return "bench_users_quick" if quick else "bench_users"


def tables(quick):
    return [f"{keyspace(quick)}.{table}" for table in TABLES]


def create(b, table):
    """The statement of demo/schema.cql, and how many rows of what bench/load/Users.java writes."""
    space, name = table.split(".")
    text = (b.ROOT / "demo/schema.cql").read_text()
    statement = re.sub(r"EXISTS \w+\.", f"EXISTS {space}.", re.search(rf"CREATE TABLE IF NOT EXISTS \w+\.{name} \(.*?\);", text, re.S)[0])
    return (statement.rstrip(";") + " WITH compaction = {'class': 'SizeTieredCompactionStrategy', 'enabled': 'false'}",
            ORGS if name == "organisation" else QUICK_USERS if space.endswith("quick") else USERS)


def mix(z):
    z = (z + 1) * 0x9E3779B97F4A7C15 & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def user_id(i):
    """As Load.id()."""
    text = f"{mix(2 * i):016x}{mix(2 * i + 1):016x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


class Arms:
    """Command lines, each with an index of its own that is empty before it."""

    def __init__(self, b, programs, elastic, quick):
        self.b, self.programs, self.url, self.space = b, programs, f"http://127.0.0.1:{elastic}", keyspace(quick)
        self.users, self.ids = (QUICK_USERS, QUICK_IDS) if quick else (USERS, IDS)
        self.runs = {}
        self.id_file = b.WORK / f"{self.space}.ids"
        self.id_file.write_text("".join(f"{user_id(i * (self.users // self.ids))}\n" for i in range(self.ids)), encoding="ascii")

    def sync(self, name, text, *more):
        path = self.b.WORK / f"{name}.yaml"
        path.write_text(text)
        return [self.programs.program, "sync", "--mapping", path, "--fresh", "--state-dir", self.b.WORK / "cwd/state",
                *self.programs.cassandra(), "--elastic-url", self.url, *more]

    def documents(self, versioning, *more):
        return self.sync(f"documents-{versioning}", f"extends: {self.b.ROOT}/profiles/sunbird/user.yaml\nsource: {{keyspace: {self.space}}}\n"
                         f"target: {{index: bench-users}}\nversioning: {versioning}\n", *more)

    def alone(self, versioning, *more):
        return self.sync(f"alone-{versioning}", f"object: user\nsource: {{keyspace: {self.space}, table: user}}\n"
                         f"target: {{index: bench-users}}\nversioning: {versioning}\n", *more)

    def one(self, name, command, rows, keep=True):
        index = f"{self.url}/bench-users"
        direct.call("DELETE", index)
        direct.call("PUT", index, INDEX)
        took = self.b.measure(command)
        direct.call("POST", index + "/_refresh")
        count = direct.call("GET", index + "/_count")["count"]
        direct.call("DELETE", index)
        if count != rows:
            self.b.sys.exit(f"bench: {name}: {count} documents in the index, {rows} expected")
        if keep:
            self.runs.setdefault(name, []).append(took)
        self.b.say(f"documents: {name}: {took.wall:.2f} s, {rows / took.wall:,.0f} a second, {self.b.cpu(took):.2f} CPU s"
                   + ("" if keep else " (warm-up)"))

    def alternate(self, commands, rows, rounds):
        for name, command in commands.items():
            self.one(name, [*command, "--limit", min(rows, WARM_UP)], min(rows, WARM_UP), keep=False)
        for i in range(self.b.rounds_of(rounds)):
            for name in list(commands)[::1 if i % 2 == 0 else -1]:
                self.one(name, commands[name], rows)

    def rate(self, name, rows):
        return rows / statistics.median(t.wall for t in self.runs[name])

    def rows(self, names, rows):
        return [[*self.b.took_row(n, self.runs[n]), f"{self.rate(n, rows):,.0f}"] for n in names]


def part_scan(b, report, arms, rounds):
    for versioning in ("sequence", "read_time"):
        whole, alone = (f"{text}, {versioning}" for text in ("users with organisations and roles", "the user table alone"))
        arms.alternate({whole: arms.documents(versioning), alone: arms.alone(versioning)}, arms.users, rounds)
        pairs = [a.wall / w.wall for w, a in zip(arms.runs[whole], arms.runs[alone])]
        report.add(f"A scan of {arms.users:,} users, versioning: {versioning}:", "")
        report.table([*b.TOOK_HEAD, "documents a second"], arms.rows((whole, alone), arms.users))
        report.add(f"Rate with organisations and roles / rate of the user table alone, pair by pair: **{b.spread(pairs)}**.", "")
        if versioning == "sequence":
            report.verdict("documents: a scan of users at least half the rate of the user table alone", -statistics.median(pairs),
                           ("1/2", -0.5), b.spread(pairs))


def part_ids(b, report, arms, rounds):
    whole, alone = "users with organisations and roles, by ids", "the user table alone, by ids"
    more = ("--id-file", arms.id_file)
    arms.alternate({whole: arms.documents("sequence", *more), alone: arms.alone("sequence", *more)}, arms.ids, rounds)
    rate = arms.rate(whole, arms.ids)
    report.add(f"{arms.ids:,} ids of a file, versioning: sequence:", "")
    report.table([*b.TOOK_HEAD, "documents a second"], arms.rows((whole, alone), arms.ids))
    report.verdict("documents: by ids at least 100 times the original's 28 users a second", -rate,
                   (f"{100 * IDS_PER_SECOND:,}", -100 * IDS_PER_SECOND), f"{rate:,.0f}")


def part(b, report, programs, quick):
    elastic = b.re.search(rf"CASS2ES_TEST_PORT_{direct.ELASTIC.replace('-', '_')}='([^']*)'", b.check(b.SERVERS, "env"), b.re.I).group(1)
    report.add("## 7. Documents of several tables", "",
               f"Sunbird's users: each with one or two memberships of {ORGS:,} organisations, whose names are looked up, and one or two "
               "roles. The same servers and kind of index for both programs, empty before each run and counted after it.", "")
    ran = direct.ELASTIC in b.running()
    b.check(b.SERVERS, "start", direct.ELASTIC)
    try:
        arms = Arms(b, programs, elastic, quick)
        part_scan(b, report, arms, 1 if quick else 5)
        part_ids(b, report, arms, 1 if quick else 5)
    finally:
        if not ran:
            b.check(b.SERVERS, "stop", direct.ELASTIC)
