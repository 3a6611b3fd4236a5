"""What the tests of direct sync share: a table of a scripted Cassandra into an index of a scripted Elasticsearch."""
import json
import re

from flow import cass
from peer_http import Reply

MAPPING = """object: item
source: {keyspace: shop, table: items, %(columns)skey: [id]}
target: {index: items, id: "%(id)s"%(target)s}
nulls: omit
versioning: %(versioning)s
%(more)s"""


class Direct:
    """shop.items (id text, v text) -> index `items`."""

    def __init__(self, program, ring, elastic, rows=60):
        self.program, self.ring, self.elastic = program, ring, elastic
        self.table = ring.table("shop", "items", "id text, v text", "id", rows=[("i%04d" % i, "v%d" % i) for i in range(rows)])
        elastic.index("items", mappings={"properties": {}}, settings={"gc_deletes": "1h"})
        ring.start()
        elastic.start()

    def args(self, *flags, versioning=None, id_="{id}", more="", columns="", target="", json_=True):
        if versioning:
            text = MAPPING % {"id": id_, "versioning": versioning, "more": more, "columns": columns, "target": target}
            what = ["--mapping", self.program.file("items.yaml", text)]
        else:
            what = ["shop.items", "--index", "items"]
        return ["sync", *what, "--elastic-url", self.elastic.url, *cass(self.ring), *(["--json"] if json_ else []), *flags]

    def start(self, *flags, **more):
        return self.program.start(*self.args(*flags, **more))

    def run(self, *flags, timeout=30, **more):
        result = self.program.finish(self.start(*flags, **more), timeout)
        result.counts = json.loads(result.out) if result.out.startswith("{") else None
        return result

    def ok(self, *flags, code=0, **more):
        """A run that comes to its end: its counts, which obey the law."""
        result = self.run(*flags, **more)
        assert result.code == code, result
        self.law(result.counts)
        return result.counts

    @staticmethod
    def law(c):
        assert c["rows"] == c["filtered"] + c["merged"] + c["documents"], c
        assert c["documents"] == c["indexed"] + c["unchanged"] + c["stale"] + c["failed"], c

    def bulks(self):
        return [c for c in self.elastic.calls if c.path.endswith("/_bulk")]

    def on_bulk(self, *entries, each=False):
        """What to do for the _bulk requests: entry by entry, then (each: always again) as usual."""
        left = list(entries)

        def act(req):
            if not req.path.endswith("/_bulk") or not left:
                return None
            entry = left[0] if each else left.pop(0)
            return entry(req) if callable(entry) else entry
        self.elastic.always = act

    def rows(self):
        """The documents that the table asks for."""
        names = [n for n in self.table.columns]
        return {r["id"].decode(): {n: r[n].decode() for n in names if r[n] is not None} for r in self.table.rows}

    def same(self, without=()):
        """The index equals the table."""
        want = {i: d for i, d in self.rows().items() if i not in without}
        assert self.elastic.sources("items") == want

    def failures(self, run):
        return self.program.run("failures", "list", run).out


def actions(request):
    """[(action, meta, source)] of a _bulk request."""
    lines = [json.loads(x) for x in request.body.split(b"\n") if x]
    return [(*list(lines[i].items())[0], lines[i + 1]) for i in range(0, len(lines), 2)]


def sent_versions(bulks):
    """{id: [versions in the order sent]}"""
    out = {}
    for b in bulks:
        for _, meta, _ in actions(b):
            out.setdefault(meta["_id"], []).append(meta["version"])
    return out


def refused(status, type_, reason="scripted"):
    return {"status": status, "error": {"type": type_, "reason": reason}}


def problem(status, type_, reason="scripted"):
    return Reply(status, {"error": {"type": type_, "reason": reason}, "status": status})


def number(id_):
    return int(re.search(r"\d+", id_)[0])
