"""All CQL types to JSON, value by value: our rows against the server's SELECT JSON and the bytes that the Python driver reads."""
import os
import random
import re
import struct
import warnings

import pytest
import servers
from typetable import GROUPS, SIMPLE, TYPES, UDTS, Cells, Check, Wrong, compact, frame, parse, type_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cassandra import protocol
    from cassandra.cluster import EXEC_PROFILE_DEFAULT  # noqa: F401 (loads the reactor)
    from cassandra.concurrent import execute_concurrent
    from cassandra.cqltypes import BytesType
    from cassandra.marshal import int32_unpack

ROWS, LONG_ROWS, TO_A_PARTITION = 10_500, 60_000, 8


class RawRows(protocol.ResultMessage):
    """Cells as bytes: what they mean is decided value by value."""

    def recv_results_rows(self, f, protocol_version, user_type_map, result_metadata):
        self.recv_results_metadata(f, user_type_map)
        columns = self.column_metadata or result_metadata
        self.parsed_rows = [self.recv_row(f, len(columns)) for _ in range(int32_unpack(f.read(4)))]
        self.column_names, self.column_types = [c[2] for c in columns], [c[3] for c in columns]


class RawHandler(protocol._ProtocolHandler):
    message_types_by_opcode = {**protocol._ProtocolHandler.message_types_by_opcode, RawRows.opcode: RawRows}


@pytest.fixture(scope="module")
def raw(keyspace):
    """A session that gives and takes cells as bytes, in the keyspace."""
    session = servers.session(keyspace)
    session.client_protocol_handler = RawHandler
    session.default_fetch_size = 500
    for name, fields in UDTS.items():
        columns = ", ".join(f'"{f}" {t}' for f, t in fields.items())
        session.execute(f"CREATE TYPE {name} ({columns})")
    yield session
    session.cluster.shutdown()


def seed():
    n = int(os.environ.get("CASS2ES_TEST_SEED") or random.SystemRandom().randrange(10 ** 9))
    print(f"CASS2ES_TEST_SEED={n}")
    return n


def insert(raw, table, columns):
    """A prepared INSERT that takes every value as bytes."""
    q = raw.prepare(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})")
    q.column_metadata = [c._replace(type=BytesType) for c in q.column_metadata]
    return q


def write(raw, statements):
    done = execute_concurrent(raw, statements, concurrency=64, raise_on_first_error=False)
    bad = [(str(r.result_or_exc)[:200], [c if c is None else c[:60] for c in s[1]]) for r, s in zip(done, statements) if not r.success]
    assert not bad, f"{len(bad)} rows refused by the server: {bad[:5]}"


def bare(name):
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def compare(raw, program, cassandra_args, keyspace, table, columns, key, *flags):
    """Every cell of the table; columns: name -> type. Yields the Check, the number of rows and the run."""
    r = program.run("sync", f"{keyspace}.{table}", "--to", "-", *cassandra_args, *flags)
    assert r.code == 0, r.err[-3000:]
    types = [(bare(name), type_of(text)) for name, text in columns.items()]
    names = ", ".join(columns)

    def keyed(lines, get):
        out = {}
        for line in lines:
            row = {name: value for name, value in parse(line) if value is not None}
            k = tuple(compact(get(row, name)) for name in key)
            assert k not in out, f"{k} twice"
            out[k] = row
        return out

    def of_server(row, name):  # a name that needs quotes has them in its JSON, too
        return row.get(name, row.get('"' + name + '"'))
    ours = keyed(filter(None, r.out.split("\n")), lambda row, name: row.get(name))
    server = keyed((json[0].decode() for json in raw.execute(f"SELECT JSON {names} FROM {table}")), of_server)
    assert ours.keys() == server.keys(), f"{len(ours)} rows of ours, {len(server)} of the server"
    check, wrong, rows = Check(), [], 0
    where = [list(columns).index(k) for k in key]
    for cells in raw.execute(f"SELECT {names} FROM {table}"):
        rows += 1
        k = tuple("null" if cells[i] is None else str(int.from_bytes(cells[i], "big", signed=True)) for i in where)
        mine, theirs = ours[k], server[k]
        assert set(mine) <= {name for name, _ in types}, set(mine) - {name for name, _ in types}
        for (name, t), cell in zip(types, cells):
            if cell is None and name not in mine and of_server(theirs, name) is None:
                continue
            try:
                check.cell(t, cell, mine.get(name), of_server(theirs, name))
            except (Wrong, TypeError, ValueError, KeyError, AttributeError) as e:
                wrong.append(f"{name} {t.text()} of row {k}: {type(e).__name__} {e}\n  cell {None if cell is None else cell.hex()[:400]}\n"
                             f"  ours   {str(mine.get(name))[:300]}\n  server {str(of_server(theirs, name))[:300]}")
    assert not wrong, f"{len(wrong)} cells differ\n" + "\n".join(wrong[:int(os.environ.get('SHOW', 20))])
    assert rows == len(ours)
    return check, rows, r


def fill_all_types(raw, rows, n):
    columns = ", ".join(f"{name} {text}" for name, text in TYPES.items())
    raw.execute(f"CREATE TABLE all_types (p int, c bigint, st_text text static, st_list list<timestamp> static, st_addr frozen<addr> static, "
                f"st_map map<double, text> static, {columns}, PRIMARY KEY (p, c)) WITH CLUSTERING ORDER BY (c DESC)", timeout=60)
    cells, statements = Cells(n), []
    edges = [[cells.edges(type_of(text)) for _, text in group] for group in GROUPS]
    queries = [insert(raw, "all_types", ["p", "c", *(name for name, _ in group)]) for group in GROUPS]
    types = [[type_of(text) for _, text in group] for group in GROUPS]
    # First all edge values of each group, then random ones in turn.
    plan = [(g, i) for g, group in enumerate(edges) for i in range(max(map(len, group)))]
    plan += [(i % len(GROUPS), None) for i in range(rows - len(plan))]
    for i, (g, at) in enumerate(plan):
        if at is None:
            values = [cells.any(t) if cells.rng.random() < 0.6 else None for t in types[g]]
        else:
            values = [e[at] if at < len(e) else None for e in edges[g]]
        statements.append((queries[g], [struct.pack(">i", i // TO_A_PARTITION), struct.pack(">q", i - 5000), *values]))
    big = insert(raw, "all_types", ["p", "c", "x_text", "x_blob"])
    for i in range(3):
        text = "".join(cells.rng.choice('abcdefgh "\\\n漢😀é') for _ in range(1000)) * (900 if i < 2 else 1)
        statements.append((big, [struct.pack(">i", -1 - i), struct.pack(">q", 1), text.encode()[:1 << 20].decode(errors="ignore").encode(), bytes(range(256)) * 2000 * i]))
    static = insert(raw, "all_types", ["p", "st_text", "st_list", "st_addr", "st_map"])
    kinds = [type_of(x) for x in ("text", "list<timestamp>", "addr", "map<double, text>")]
    last = rows // TO_A_PARTITION
    for p in [*range(0, last, 3), *range(last + 10, last + 60)]:  # the last ones have nothing else
        statements.append((static, [struct.pack(">i", p), *(cells.any(t) for t in kinds)]))
    write(raw, statements)


STATIC = {"st_text": "text", "st_list": "list<timestamp>", "st_addr": "frozen<addr>", "st_map": "map<double, text>"}


@pytest.mark.parametrize("rows", [ROWS, pytest.param(LONG_ROWS, marks=pytest.mark.long)], ids=["short", "long"])
def test_all_types(raw, program, cassandra_args, keyspace, rows):
    fill_all_types(raw, rows, seed())
    check, seen, r = compare(raw, program, cassandra_args, keyspace, "all_types", {"p": "int", "c": "bigint", **STATIC, **TYPES}, ["p", "c"])
    raw.execute("DROP TABLE all_types", timeout=60)
    assert seen >= rows and check.kinds >= {*SIMPLE, "list", "set", "map", "tuple", "udt", "vector"}
    print(f"{seen} rows, {check.values} values, {check.nulls} nulls alike")
    counted = {word: int(n.replace(",", "")) for word, n in re.findall(r"^\s*(NaN|years|failed|not UTF-8)[^\n]*?\s([\d,]+)$", r.err, re.M)}
    assert counted == {"NaN": check.nan, "years": check.years, "failed": 0}


KEY_TYPES = [x for x in SIMPLE if x not in ("varchar", "duration")]
KEYS = {"kp": "int", "kc": "bigint",
        **{f"q_{x}": x for x in ("text", "blob", "double", "timestamp", "inet", "varint", "decimal", "boolean")},
        "q_list": "frozen<list<int>>", "q_addr": "frozen<addr>",
        **{f"c_{x}": x for x in KEY_TYPES}, "c_map": "frozen<map<text, double>>", "c_tuple": "tuple<int, text>", "c_vector": "vector<float, 2>"}


def test_keys_of_all_types_in_both_orders(raw, program, cassandra_args, keyspace):
    """Reversed clustering types change nothing; partition keys are read back from the key's own form."""
    columns = ", ".join(f"{name} {text}" for name, text in KEYS.items())
    partition, clustering = [k for k in KEYS if k[0] != "c" and k != "kc"], ["kc", *(k for k in KEYS if k[0] == "c")]
    orders = ", ".join(f"{k} {('DESC', 'ASC')[i % 5 == 4]}" for i, k in enumerate(clustering))
    raw.execute(f"CREATE TABLE keys ({columns}, v text, PRIMARY KEY (({', '.join(partition)}), {', '.join(clustering)})) "
                f"WITH CLUSTERING ORDER BY ({orders})", timeout=60)
    cells, q = Cells(seed()), insert(raw, "keys", [*KEYS, "v"])
    types = {name: type_of(text) for name, text in KEYS.items()}
    edges = {name: [c for c in cells.edges(t) if c and len(c) < 1000] for name, t in types.items()}

    def key(name, i):
        if name in ("kp", "kc"):
            return struct.pack(">i" if name == "kp" else ">q", i // 3 if name == "kp" else i)
        if name[0] == "q":  # one partition has three rows
            i //= 3
        return edges[name][i % len(edges[name])]
    write(raw, [(q, [*(key(name, i) for name in KEYS), b"v"]) for i in range(900)])
    check, seen, _ = compare(raw, program, cassandra_args, keyspace, "keys", {**KEYS, "v": "text"}, ["kp", "kc"])
    assert seen == 900 and check.values > 30_000


def test_counters(raw, program, cassandra_args, keyspace):
    raw.execute("CREATE TABLE counters (p int, c int, n counter, m counter, s counter static, PRIMARY KEY (p, c))", timeout=60)
    for i, n in enumerate((0, 1, -1, 2 ** 53 + 1, -2 ** 53 - 1, 2 ** 63 - 1, -2 ** 63)):
        raw.execute(f"UPDATE counters SET n = n + {n}{', m = m - 3' if i % 2 else ''} WHERE p = {i // 3} AND c = {i}")
    raw.execute("UPDATE counters SET s = s + 7 WHERE p = 0")
    raw.execute("UPDATE counters SET s = s - 8 WHERE p = 9")
    columns = {"p": "int", "c": "int", "n": "counter", "m": "counter", "s": "counter"}
    check, seen, _ = compare(raw, program, cassandra_args, keyspace, "counters", columns, ["p", "c"])
    assert seen == 8 and "counter" in check.kinds


# Cells that a server takes, and that its SELECT JSON fails at or shows in a way of its own: type, bytes, our JSON (None: no field).
NOT_SHOWN = [
    ("boolean", b"", None),
    ("list<int>", None, None),
    ("frozen<list<int>>", frame([b"", b"\0\0\0\1"]), "[null,1]"),
    ("frozen<set<boolean>>", frame([b"", b"\1"]), "[null,true]"),
    ("map<boolean, int>", Cells.map([(b"", b"\0\0\0\1")]), '{"":1}'),
    ("tuple<int, text, double>", frame([b"\0\0\0\1"])[4:], "[1,null,null]"),
    ("tuple<int, text>", b"", None),
    ("text", b"a\xc0\x80b", '"a\ufffd\ufffdb"'),
    ("text", b"a\xed\xa0\x80\xed\xb0\x80b", '"a\ufffd\ufffdb"'),
    ("text", b"\xf4\x90\x80\x80", '"\ufffd"'),
    ("tuple<text, text>", frame([b"\xc0\x80", b"ok"])[4:], '["\ufffd\ufffd","ok"]'),
    ("map<double, int>", Cells.map([(struct.pack(">d", x), b"\0\0\0\1") for x in (float("-inf"), 1e300, float("inf"), float("nan"))]),
     '{"-Infinity":1,"1e+300":1,"Infinity":1,"NaN":1}'),
    ("text", b"\xc0\x80" + "\u20ac\U0010ffff\ud7ff\ue000é\"".encode() + b"\xed\xbf\xbfx\n", '"\ufffd\ufffd\u20ac\U0010ffff\ud7ff\ue000é\\"\ufffdx\\n"'),
    ("inet", b"\0" * 10 + b"\xff\xff\1\2\3\4", '"::ffff:1.2.3.4"'),
    ("varint", b"\x7f" + b"\xff" * 16383, f'"{2 ** (16384 * 8 - 1) - 1}"'),
    ("varint", b"\x80" + b"\0" * 16383, f'"{-2 ** (16384 * 8 - 1)}"'),
    ("'org.apache.cassandra.db.marshal.LexicalUUIDType'", bytes(range(16)), '"00010203-0405-0607-0809-0a0b0c0d0e0f"'),
    ("'CompositeType(UTF8Type,Int32Type)'", b"\0\2hi\0\0\4\0\0\0\3\0", '"AAJoaQAABAAAAAMA"'),
    ("'DynamicCompositeType(s=>UTF8Type,i=>Int32Type)'", b"\x80s\0\2hi\0\x80i\0\4\0\0\0\3\0", '"gHMAAmhpAIBpAAQAAAADAA=="'),
]


def test_cells_that_the_server_cannot_show_as_json(raw, program, cassandra_args, keyspace):
    raw.execute(f"CREATE TABLE odd (k int PRIMARY KEY, {', '.join(f'v{i} {x[0]}' for i, x in enumerate(NOT_SHOWN))})", timeout=60)
    for i, (_, cell, _) in enumerate(NOT_SHOWN):
        raw.execute(insert(raw, "odd", ["k", f"v{i}"]), [struct.pack(">i", i), cell])
    r = program.run("sync", f"{keyspace}.odd", "--to", "-", *cassandra_args)
    assert r.code == 0, r
    lines = set(filter(None, r.out.split("\n")))
    assert lines == {f'{{"k":{i}' + (f',"v{i}":{want}' if want else "") + "}" for i, (_, _, want) in enumerate(NOT_SHOWN)}
    assert re.search(r"not UTF-8, written with U\+FFFD +5$", r.err, re.M), r.err


def test_text_that_is_not_utf8_at_every_place(raw, program, cassandra_args, keyspace):
    """Bytes that Cassandra takes for text, and no reader of JSON would: U+FFFD in their place, and nothing around them changes."""
    raw.execute("CREATE TABLE no_text (k int PRIMARY KEY, v text)", timeout=60)
    bad = {b"\xc0\x80": 2, b"\xed\xa0\x80": 1, b"\xed\xbf\xbf": 1, b"\xf4\x90\x80\x80": 1}
    q, want = insert(raw, "no_text", ["k", "v"]), {}
    for before in range(34):
        for i, (cell, signs) in enumerate(bad.items()):
            front, back = ("aé😀\u2028" * 9)[:before], "漢\nz" * (before % 7)
            k = before * len(bad) + i
            raw.execute(q, [struct.pack(">i", k), front.encode() + cell + back.encode()])
            want[str(k)] = front + "\ufffd" * signs + back
    r = program.run("sync", f"{keyspace}.no_text", "--to", "-", *cassandra_args)
    assert r.code == 0 and {row["k"]: row["v"] for row in map(dict, map(parse, filter(None, r.out.split("\n"))))} == want
    assert re.search(rf"not UTF-8, written with U\+FFFD +{len(want)}$", r.err, re.M), r.err
    assert program.run("sync", f"{keyspace}.no_text", "--to", "-", "--strict-values", *cassandra_args).code == 1
