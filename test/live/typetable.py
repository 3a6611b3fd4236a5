"""Every CQL type: cells of edge and random values, and the check of one cell's JSON.

    TYPES                          column name -> CQL type, of one table
    Cells(seed).edges(t), .any(t)  cells as bytes, as they stand on the wire
    Check().cell(t, raw, ours, server)

A cell's bytes are read by the Python driver's own types; what they mean is then compared with our JSON and with the server's, translated
by one rule for each type. JSON is parsed by `parse()`: numbers stay text (Num), objects stay lists of pairs (Pairs).
"""
import base64
import datetime
import decimal
import ipaddress
import json
import math
import random
import re
import struct
import sys
import uuid
import warnings

from peer_cql import Type, parse_type, unsigned_vint, varint, w_bytes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cassandra import cqltypes

sys.set_int_max_str_digits(0)  # a varint's digits are compared, all of them

UDTS = {
    "inner_t": {"a": "int", "b": "text", "Quoted Name": "text"},
    "addr": {"street": "text", "zip": "int", "tags": "frozen<set<text>>", "loc": "frozen<inner_t>", "w": "decimal", "at": "timestamp",
             "raw": "blob", "d": "double", "pairs": "frozen<list<frozen<tuple<int, text>>>>"},
}
SIMPLE = ["ascii", "bigint", "blob", "boolean", "date", "decimal", "double", "duration", "float", "inet", "int", "smallint", "text", "time",
          "timestamp", "timeuuid", "tinyint", "uuid", "varchar", "varint"]
# Types that a server takes zero bytes for, which say nothing but null (boolean, too: but SELECT JSON fails then).
EMPTY_IS_NULL = {"bigint", "decimal", "double", "float", "inet", "int", "timestamp", "timeuuid", "uuid", "varint"}
NESTED = """
    list<frozen<list<int>>> | list<frozen<map<text, double>>> | set<frozen<set<text>>> | set<frozen<tuple<int, text>>>
    map<text, frozen<map<int, frozen<list<boolean>>>>> | frozen<list<frozen<list<frozen<list<frozen<set<smallint>>>>>>>>
    list<frozen<addr>> | set<frozen<inner_t>> | map<text, frozen<addr>>
    addr | frozen<addr> | inner_t
    tuple<int, text, double> | tuple<frozen<tuple<frozen<tuple<text, decimal>>, int>>, blob> | tuple<frozen<list<varint>>, frozen<addr>, uuid>
    tuple<float> | tuple<frozen<map<inet, frozen<set<date>>>>, duration>
    map<frozen<list<double>>, int> | map<frozen<set<text>>, text> | map<frozen<map<int, text>>, boolean> | map<frozen<tuple<int, text, timestamp>>, float>
    map<frozen<inner_t>, int> | map<frozen<addr>, text> | map<frozen<tuple<frozen<inner_t>, frozen<list<blob>>>>, decimal>
    frozen<map<frozen<map<frozen<list<int>>, text>>, int>> | map<frozen<vector<float, 2>>, int>
    vector<frozen<list<text>>, 2> | vector<vector<float, 2>, 3> | vector<vector<text, 2>, 2> | vector<frozen<tuple<int, text>>, 2>
    vector<frozen<addr>, 2> | vector<frozen<map<text, int>>, 1> | vector<float, 300> | list<frozen<vector<double, 2>>>
""".replace("\n", "|")

UDT_TYPES = {}
for _name, _fields in UDTS.items():
    UDT_TYPES[_name] = Type(_name, [parse_type(x, UDT_TYPES) for x in _fields.values()], list(_fields))


def type_of(text):
    return parse_type(text, UDT_TYPES)


def make_types():
    """Groups of columns; a row has values in those of one group."""
    groups = [[(f"x_{s}", s) for s in SIMPLE[:10]], [(f"x_{s}", s) for s in SIMPLE[10:]]]
    shapes = {"l": "list<{0}>", "fl": "frozen<list<{0}>>", "s": "set<{0}>", "fs": "frozen<set<{0}>>", "mk": "map<{0}, int>",
              "fm": "frozen<map<{0}, {0}>>", "mv": "map<int, {0}>", "v": "vector<{0}, 3>", "t": "tuple<{0}, {0}>"}
    for name, shape in shapes.items():
        keyed = name in ("s", "fs", "mk", "fm")  # a duration has no order
        groups.append([(f"{name}_{s}", shape.format(s)) for s in SIMPLE if s != "varchar" and not (keyed and s == "duration")])
    nested = [x.strip() for x in NESTED.split("|") if x.strip()]
    columns = [(f"n_{i}", x) for i, x in enumerate(nested)]
    groups += [columns[:12], columns[12:24], columns[24:]]
    groups.append([('"Case And Blank"', "text"), ('"Quoted""Sign"', "map<text, text>"), ("e_text", "list<text>")])
    return groups


GROUPS = make_types()
TYPES = {name: text for group in GROUPS for name, text in group}


# ---- cells --------------------------------------------------------------------------------------------------------------------------

def vint(n):
    return unsigned_vint(n << 1 if n >= 0 else (-n << 1) - 1)


def duration(months, days, nanos):
    return vint(months) + vint(days) + vint(nanos)


def dec(unscaled, scale):
    return struct.pack(">i", scale) + varint(unscaled)


def whole_edges(bits):
    top = 2 ** (bits - 1)
    picked = {0, 1, -1, 9, 10, -10, 99, 100, top - 1, -top, top - 2, 1 - top}
    picked |= {s * (10 ** n + d) for n in range(1, 19) for d in (-1, 0) for s in (1, -1)}
    return [n.to_bytes(bits // 8, "big", signed=True) for n in sorted(picked) if -top <= n < top]


def real_edges(form, bits, mantissa, smallest, biggest):
    v = [0.0, -0.0, 1.0, -1.0, 0.1, 0.2, 0.3, 1.5, 1 / 3, 123456.789, 1e5, 1e6, 1e7, 1e15, 1e16, 1e17, 1e21, 1e22, 1e23, 1e-4, 1e-5, 1e-6,
         1e-7, 9.5e-5, 16777216.0, 16777217.0, 33554432.0, 2.0 ** 53, 2.0 ** 53 + 2, 2.0 ** 63, 2.0 ** 64, 123456789012345680.0, 999999.5,
         9999999.0, 2e-3, 2.2250738585072014e-308, 4.35, 0.000123, 100.0, 1e2, 1.17549435e-38, 9007199254740993.0]
    cells = [struct.pack(form, x) for x in v]
    cells += [struct.pack(form, 2.0 ** e) for e in range(smallest, biggest, 7)]  # next to a power of two the steps differ
    patterns = [1, 2, 3, (1 << mantissa) - 1, 1 << mantissa, (1 << mantissa) + 1, (((1 << (bits - 1 - mantissa)) - 1) << mantissa) - 1]
    infinity = ((1 << (bits - 1 - mantissa)) - 1) << mantissa
    patterns += [infinity, infinity | 1 << (mantissa - 1), infinity | 1]
    return cells + [(p | s << (bits - 1)).to_bytes(bits // 8, "big") for p in patterns for s in (0, 1)]


def text_edges():
    yield from ("", " ", '"', "\\", "\\\\\"", "/", "\x7f", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufeff", "\ufffd", "\uffff",
                "\U00010000", "\U0010ffff", "\u2028\u2029", "😀👩‍👩‍👧", "e\u0301é", "\u202eabc", "null", "NaN", "[1]", '{"a": 1}', "</script>", "%s%n", "1e5")
    yield from map(chr, range(32))
    yield "".join(map(chr, range(128)))
    for n in range(1, 40):  # lengths around the steps of 8 and 16 bytes, the sign that needs care at each place
        yield "a" * n
        yield "a" * (n - 1) + "\n"
        yield "\u20ac" + "b" * n + '"'
        yield "x" * (n - 1) + "😀" + "y" * (40 - n)


TIMESTAMPS = [0, 1, -1, 999, 1000, -999, -1000, 86399999, 86400000, -86400000, -86400001, 2 ** 31 * 1000, 1709210096789, 951782400000,
              -62135596800000, -62135596800001, -62167219200000, -62167219200001, -62198755200000, 253402300799999, 253402300800000,
              -12219292800000, -12219292800001, 2 ** 63 - 1, -2 ** 63, -2 ** 63 + 1, 4102444800000, 10 ** 17, -10 ** 17]
DATES = [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 31 + 1, 2 ** 32 - 1, 2 ** 32 - 2, 2 ** 31 - 719162, 2 ** 31 - 719163, 2 ** 31 - 719528, 2 ** 31 - 719529,
         2 ** 31 + 2932896, 2 ** 31 + 2932897, 2 ** 31 + 19782, 2 ** 31 + 11016, 2 ** 31 - 141427, 2 ** 31 - 141428]
INETS = ["0.0.0.0", "255.255.255.255", "127.0.0.1", "10.1.2.3", "::", "::1", "::ffff:1.2.3.4", "::1.2.3.4", "2001:db8::ff00:42:8329",
         "fe80::1", "ff02::1:ff00:0", "1:0:0:2:0:0:0:3", "1:2:3:4:5:6:7:8", "0:1::", "1::2:0:0:3:4", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
         "1:0:2:3:4:5:6:7", "abcd:ef01:2345:6789:abcd:ef01:2345:6789"]
TOP32, TOP64 = 2 ** 31 - 1, 2 ** 63 - 1
DURATIONS = [(0, 0, 0), (1, 2, 3), (-1, -2, -3), (14, 0, 0), (-14, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, -1), (0, 0, 10 ** 9), (0, 0, 1500000000),
             (0, 0, 60 * 10 ** 9), (0, 0, 3600 * 10 ** 9), (TOP32, 0, 0), (0, TOP32, 0), (0, 0, TOP64), (TOP32, TOP32, TOP64),
             (-TOP32, -TOP32, -TOP64), (0, 0, 86400 * 10 ** 9), (12, 31, 999999999), (0, -31, -1000), (13, 0, 1000000), (-5, 0, -7200000000001)]


def scalar_edges(name):
    if name in ("text", "varchar"):
        return [x.encode() for x in text_edges()]
    if name == "ascii":
        return [x.encode() for x in text_edges() if x.isascii()]
    if name in ("tinyint", "smallint", "int", "bigint"):
        return whole_edges({"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}[name])
    if name == "boolean":
        return [b"\0", b"\1", b"\2", b"\xff"]
    if name == "blob":
        return [bytes(range(n)) for n in range(9)] + [b"\xff" * 3, b"\0" * 7, bytes(range(256)), bytes(range(255, -1, -1)) * 13]
    if name == "double":
        return real_edges(">d", 64, 52, -1074, 1024)
    if name == "float":
        return [x for x in real_edges(">f", 32, 23, -149, 128)]
    if name == "varint":
        n = {0, 1, -1, 10 ** 18, 10 ** 19, 10 ** 40, 3 ** 20000, -7 ** 9000, 10 ** 5000, -10 ** 5000 + 1, 10 ** 4999 - 1}
        n |= {s * (1 << b) + d for b in (7, 8, 15, 16, 31, 32, 62, 63, 64, 65, 95, 96, 127, 128, 255, 256, 1000, 4096) for d in (-1, 0, 1) for s in (1, -1)}
        return [varint(x) for x in sorted(n)] + [b"\0\0\1", b"\xff\xff\x80", b"\0" * 12 + b"\1", b"\xff" * 20]  # and longer than they need be
    if name == "decimal":
        scales = [0, 1, 2, 5, 18, 38, 39, 40, 41, 400, TOP32, -1, -5, -38, -39, -40, -41, -400, -TOP32, -TOP32 - 1]
        values = [0, 1, -1, 10, -10, 120, 12345678901234567890, -5, 10 ** 38 - 1, 10 ** 40, -10 ** 39 + 1, 10 ** 41 + 7, 3 ** 5000]
        return [dec(v, s) for v in values for s in scales]
    if name == "timestamp":
        return [struct.pack(">q", x) for x in TIMESTAMPS]
    if name == "date":
        return [struct.pack(">I", x) for x in DATES]
    if name == "time":
        return [struct.pack(">q", x) for x in (0, 1, 999, 10 ** 9 - 1, 10 ** 9, 60 * 10 ** 9, 3600 * 10 ** 9, 43200 * 10 ** 9, 86400 * 10 ** 9 - 1, 29574123400000)]
    if name == "inet":
        return [ipaddress.ip_address(x).packed for x in INETS]
    if name == "duration":
        return [duration(*x) for x in DURATIONS]
    if name == "uuid":
        return [bytes(16), b"\xff" * 16, uuid.UUID("123e4567-e89b-42d3-a456-426614174000").bytes]
    if name == "timeuuid":
        return [uuid.UUID(x).bytes for x in ("50554d6e-29bb-11e5-b345-feff819cdc9f", "00000000-0000-1000-8080-808080808080",
                                             "ffffffff-ffff-1fff-7f7f-7f7f7f7f7f7f", "13814000-1dd2-11b2-8000-000000000000")]
    raise KeyError(name)


def frame(cells):
    return struct.pack(">i", len(cells)) + b"".join(map(w_bytes, cells))


FIXED = {"boolean": 1, "int": 4, "float": 4, "bigint": 8, "double": 8, "timestamp": 8, "uuid": 16, "timeuuid": 16}


def takes_no_empty(t):
    """Where zero bytes for a null make the server fail, when they are written or shown as JSON."""
    return t.name == "list"


def fixed_bytes(t):
    """Of an element of a vector; None: each has its length in front."""
    if t.name == "vector":
        inner = fixed_bytes(t.args[0])
        return inner and inner * t.size
    return FIXED.get(t.name)


class Cells:
    def __init__(self, seed):
        self.rng, self.known = random.Random(seed), {}

    def edges(self, t, inside=False):
        """All edge values; of a collection: some that together have each edge value of its elements. inside: no empty cells for nulls."""
        if t.args:
            return self.compound_edges(t)
        if t.name not in self.known:
            self.known[t.name] = scalar_edges(t.name)
        return self.known[t.name] + ([b""] if t.name in EMPTY_IS_NULL and not inside else [])

    def compound_edges(self, t):
        if t.fields or t.name == "tuple":
            columns = [self.edges(a) + [None] for a in t.args]
            rows = [[c[i % len(c)] for c in columns] for i in range(min(400, max(map(len, columns))))]
            return [b"".join(map(w_bytes, row[:1 + i % len(row)] if t.fields and i % 3 == 0 else row)) for i, row in enumerate(rows)]
        if t.name == "vector":
            some = self.edges(t.args[0], True)
            return [self.vector(t, [some[(i + k) % len(some)] for k in range(t.size)]) for i in range(0, len(some), t.size)]
        if t.name == "map":
            keys, values = (self.edges(a) for a in t.args)
            pairs = {k: values[i % len(values)] for i, k in enumerate(keys)}
            for i, v in enumerate(values):
                pairs[keys[i % len(keys)]] = v if len(values) > len(keys) else pairs[keys[i % len(keys)]]
            flat = list(pairs.items())
            return [self.map(flat[i:i + 12]) for i in range(0, len(flat), 12)] + [self.map([])]
        cells = self.edges(t.args[0], takes_no_empty(t))
        cells = list(dict.fromkeys(cells)) if t.name == "set" else cells
        return [frame(cells[i:i + 12]) for i in range(0, len(cells), 12)] + [frame([])]

    @staticmethod
    def map(pairs):
        return struct.pack(">i", len(pairs)) + b"".join(w_bytes(k) + w_bytes(v) for k, v in pairs)

    @staticmethod
    def vector(t, cells):
        return b"".join(cells if fixed_bytes(t.args[0]) else (unsigned_vint(len(c)) + c for c in cells))

    def any(self, t, inside=False):
        r = self.rng
        if not t.args:
            return r.choice(self.edges(t, inside)) if r.random() < 0.3 else self.scalar(t.name)
        if t.fields or t.name == "tuple":
            cells = [None if r.random() < 0.2 else self.any(a) for a in t.args]
            return b"".join(map(w_bytes, cells[:r.randrange(1, len(cells) + 1)] if t.fields and r.random() < 0.2 else cells))
        if t.name == "vector":
            return self.vector(t, [self.any(t.args[0], True) for _ in range(t.size)])
        count = r.choice((0, 1, 1, 2, 2, 3, 5))
        if t.name == "map":
            keys, values = ([self.any(a) for _ in range(count)] for a in t.args)
            return self.map(list(dict(zip(keys, values)).items()))
        cells = [self.any(t.args[0], takes_no_empty(t)) for _ in range(count)]
        return frame(list(dict.fromkeys(cells)) if t.name == "set" else cells)

    def scalar(self, name):
        r = self.rng
        if name in ("text", "varchar", "ascii"):
            sets = ["abcXYZ 019", "".join(map(chr, range(128)))]
            if name != "ascii":
                sets += ["äöüßéñ", "漢字仮名", "😀🚀𝄞", "a\"\\\n漢😀\u2028\x00é"]
            return "".join(r.choice(r.choice(sets)) for _ in range(r.choice((1, 3, 8, 20, 60, 200)))).encode()
        if name in ("double", "float"):
            size, form = (8, ">d") if name == "double" else (4, ">f")
            kind = r.random()
            if kind < 0.4:
                return r.randbytes(size)
            v = round(r.uniform(-1000, 1000), r.randrange(6)) if kind < 0.7 else float(r.randrange(-10 ** 9, 10 ** 9)) * 10.0 ** r.randrange(-20, 20)
            return struct.pack(form, v)
        if name == "varint":
            return varint(r.getrandbits(r.choice((7, 31, 63, 64, 65, 130, 700))) * r.choice((1, -1)))
        if name == "decimal":
            return dec(r.getrandbits(r.choice((3, 20, 60, 120, 300))) * r.choice((1, -1)), r.choice((0, 2, r.randrange(-60, 60), r.randrange(-TOP32, TOP32))))
        if name == "timestamp":
            return struct.pack(">q", r.choice((r.randrange(-10 ** 12, 2 * 10 ** 12), r.randrange(-62 * 10 ** 12, 253 * 10 ** 12), r.randrange(-2 ** 63, 2 ** 63))))
        if name == "date":
            return struct.pack(">I", r.choice((2 ** 31 + r.randrange(-30000, 60000), r.randrange(2 ** 32))))
        if name == "time":
            return struct.pack(">q", r.randrange(86400 * 10 ** 9))
        if name == "inet":
            if r.random() < 0.4:
                return r.randbytes(4)
            return bytes(b * keep for pair in [(r.random() < 0.5, r.randbytes(2)) for _ in range(8)] for keep in pair[:1] for b in pair[1])
        if name == "duration":
            s = r.choice((1, -1))
            return duration(*(s * r.randrange(r.choice((1, 100, TOP32))) for _ in range(2)), s * r.randrange(r.choice((1, 10 ** 10, TOP64))))
        if name == "uuid":
            return r.randbytes(16)
        if name == "timeuuid":
            return uuid.UUID(int=r.getrandbits(128), version=1).bytes
        if name == "blob":
            return r.randbytes(r.choice((0, 1, 2, 3, 16, 100, 1000)))
        if name == "boolean":
            return bytes([r.randrange(2)])
        return r.randbytes({"tinyint": 1, "smallint": 2, "int": 4, "bigint": 8}[name])


# ---- JSON ---------------------------------------------------------------------------------------------------------------------------

class Num(str):
    """A number, as it was written."""


class Pairs(list):
    """An object: names and values in their order, doubles included."""


decoder = json.JSONDecoder(object_pairs_hook=Pairs, parse_float=Num, parse_int=Num, parse_constant=lambda x: x / 0)


def parse(text):
    return decoder.decode(text)


def compact(v):
    if isinstance(v, Num):
        return str(v)
    if isinstance(v, Pairs):
        return "{" + ",".join(compact(k) + ":" + compact(x) for k, x in v) + "}"
    if isinstance(v, list):
        return "[" + ",".join(map(compact, v)) + "]"
    return json.dumps(v, ensure_ascii=False)


# ---- what a cell must be --------------------------------------------------------------------------------------------------------------

CASS = {"ascii": "AsciiType", "bigint": "LongType", "blob": "BytesType", "boolean": "BooleanType", "counter": "CounterColumnType",
        "date": "SimpleDateType", "decimal": "DecimalType", "double": "DoubleType", "duration": "DurationType", "float": "FloatType",
        "inet": "InetAddressType", "int": "Int32Type", "smallint": "ShortType", "text": "UTF8Type", "time": "TimeType", "timeuuid": "TimeUUIDType",
        "tinyint": "ByteType", "uuid": "UUIDType", "varchar": "UTF8Type", "varint": "IntegerType"}


def driver_value(name, raw):
    if name == "timestamp":  # the driver's datetime ends at the year 9999
        return struct.unpack(">q", raw)[0]
    return getattr(cqltypes, CASS[name]).deserialize(raw, 4)


def plain_date(days):
    """yyyy-MM-dd; the calendar repeats itself every 400 years."""
    cycles = (days + 719162) // 146097
    day = datetime.date.fromordinal(days + 719163 - cycles * 146097)
    year = day.year + cycles * 400
    sign = "" if 0 <= year <= 9999 else "-" if year < 0 else "+"
    return year, f"{sign}{abs(year):04d}-{day.month:02d}-{day.day:02d}"


def iso_timestamp(ms):
    days, rest = divmod(ms, 86400000)
    year, text = plain_date(days)
    s = rest // 1000
    return year, f"{text}T{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}.{rest % 1000:03d}Z"


def iso_duration(months, days, nanos):
    """What an ISO 8601 reader makes of ours must be the same: built from whole units, like any other writer would."""
    sign = "-" if min(months, days, nanos) < 0 else ""
    months, days, nanos = abs(months), abs(days), abs(nanos)
    front = "".join(f"{n}{u}" for n, u in ((months // 12, "Y"), (months % 12, "M"), (days, "D")) if n)
    s, ns = divmod(nanos, 10 ** 9)
    seconds = f"{s % 60}" + (f".{ns:09d}".rstrip("0") if ns else "")
    back = "".join(f"{n}{u}" for n, u in ((s // 3600, "H"), (s // 60 % 60, "M"), (seconds, "S")) if n not in (0, "0"))
    if not front and not back:
        back = "0S"
    return f"{sign}P{front}" + (f"T{back}" if back else "")


UNITS = {"y": (0, 12), "mo": (0, 1), "w": (1, 7), "d": (1, 1), "h": (2, 3600 * 10 ** 9), "m": (2, 60 * 10 ** 9), "s": (2, 10 ** 9),
         "ms": (2, 10 ** 6), "us": (2, 1000), "ns": (2, 1)}


def server_duration(text):
    parts = [0, 0, 0]
    assert re.fullmatch(r"-?(\d+(y|mo|w|d|h|ms|us|ns|m|s))*", text), text
    for n, unit in re.findall(r"(\d+)(mo|ms|us|ns|y|w|d|h|m|s)", text):
        where, times = UNITS[unit]
        parts[where] += int(n) * times
    return [-x for x in parts] if text.startswith("-") else parts


def digits_of(text):
    return len(re.sub(r"[eE].*", "", text).replace("-", "").replace(".", "").strip("0")) or 1


def shortest(v, narrow):
    if not narrow:
        return repr(v)
    return next(t for t in ("%.*e" % (p, v) for p in range(9)) if packed(t, True) == struct.pack(">f", v))


def packed(text, narrow):
    try:
        return struct.pack(">f" if narrow else ">d", float(text))
    except OverflowError:
        return b"too large"


def plain_decimal(v):
    """The documented layout: plain while that takes at most 40 digits, else scientific."""
    sign, digits, exponent = v.as_tuple()
    d = "".join(map(str, digits))
    minus, whole = "-" if sign and int(d) else "", len(d) + exponent
    if exponent >= 0:
        plain = d + "0" * exponent if exponent < 41 else None
        plain = "0" if int(d) == 0 and exponent else plain
    elif whole > 0:
        plain = f"{d[:whole]}.{d[whole:]}"
    else:
        plain = f"0.{'0' * -whole}{d}" if -whole < 41 else None
    if plain and len(plain.replace(".", "")) <= 40:
        return minus + plain
    return minus + d[0] + ("." + d[1:] if d[1:] else "") + f"E{whole - 1:+d}"


class Wrong(Exception):
    pass


class Check:
    """Cells compared, and what was counted on the way."""

    def __init__(self):
        self.values, self.nulls, self.nan, self.years = 0, 0, 0, 0
        self.kinds = set()

    def want(self, what, got, expected):
        if got != expected:
            raise Wrong(f"{what} {str(got)[:200]!r}, not {str(expected)[:200]!r}")

    def cell(self, t, raw, ours, server):
        """Raises Wrong. None of `ours`, `server`: null, or not there."""
        if raw is None or (not raw and t.name not in ("text", "varchar", "ascii", "blob")):
            self.nulls += 1
            self.want("ours", ours, None)
            if t.fields and raw is not None:  # the server takes it for one without fields
                return
            # SELECT JSON shows zero bytes as a text without signs (toJson() as null).
            return self.want("the server", server, None if raw is None else "")
        self.kinds.add("udt" if t.fields else t.name)
        if not t.args:
            self.values += 1
            return getattr(self, "is_" + t.name)(driver_value(t.name, raw), raw, ours, server)
        if t.fields:
            return self.udt(t, self.fields(t, raw), ours, server)
        if t.name == "map":
            return self.map(t, raw, ours, server)
        elements = self.fields(t, raw) if t.name == "tuple" else self.vector(t, raw) if t.name == "vector" else self.elements(raw)
        types = t.args if t.name == "tuple" else t.args * len(elements)
        self.want("ours, its kind:", type(ours), list)
        self.want("ours, elements:", len(ours), len(elements))
        self.want("the server's elements:", len(server), len(elements))
        for a, e, o, s in zip(types, elements, ours, server):
            self.cell(a, e, o, s)

    @staticmethod
    def take(raw, at):
        n, = struct.unpack_from(">i", raw, at)
        return (None, at + 4) if n < 0 else (raw[at + 4:at + 4 + n], at + 4 + n)

    def elements(self, raw, each=1):
        count, at, out = struct.unpack_from(">i", raw)[0] * each, 4, []
        for _ in range(count):
            e, at = self.take(raw, at)
            out.append(e)
        self.want("cell, its length:", len(raw), at)
        return out

    def fields(self, t, raw):
        at, out = 0, []
        for _ in t.args:
            e, at = self.take(raw, at) if at < len(raw) else (None, at)
            out.append(e)
        return out

    def vector(self, t, raw):
        size, at, out = fixed_bytes(t.args[0]), 0, []
        for _ in range(t.size):
            n = size
            if n is None:
                first = raw[at]
                more = 8 - (first ^ 0xff).bit_length() if first < 0xff else 8
                n = int.from_bytes(raw[at:at + 1 + more], "big") & ((1 << (8 * (more + 1) - more - (more < 8))) - 1)
                at += 1 + more
            out.append(raw[at:at + n])
            at += n
        self.want("cell, its length:", len(raw), at)
        return out

    def udt(self, t, cells, ours, server):
        self.want("ours, its kind:", type(ours), Pairs)
        there = [f for f, a, c in zip(t.fields, t.args, cells)
                 if c is not None and (c or a.name in ("text", "varchar", "ascii", "blob"))]
        self.want("ours, its fields:", [k for k, _ in ours], there)
        # The server shows names that need quotes with quotes, and fields without a value as null.
        self.want("the server's fields:", [k.strip('"') for k, _ in server], t.fields)
        mine = dict(ours)
        for f, a, c, (_, s) in zip(t.fields, t.args, cells, server):
            self.cell(a, c, mine.get(f), s)

    def map(self, t, raw, ours, server):
        cells = self.elements(raw, 2)
        self.want("ours, its kind:", type(ours), Pairs)
        self.want("ours, its members:", len(ours) * 2, len(cells))
        self.want("the server's members:", len(server) * 2, len(cells))
        for i, ((ok, ov), (sk, sv)) in enumerate(zip(ours, server)):
            self.key(t.args[0], cells[2 * i], ok, sk)
            self.cell(t.args[1], cells[2 * i + 1], ov, sv)

    def key(self, t, raw, ours, server):
        """The name of a member: text as it is, other scalars as their text, the rest as compact JSON."""
        if t.name in ("text", "varchar", "ascii", "blob", "inet", "uuid", "timeuuid", "timestamp", "date", "time", "duration", "varint", "decimal") and raw:
            server = Num(server) if t.name in ("varint", "decimal") else server
            return self.cell(t, raw, ours, server)
        if not t.args and not raw:
            self.want("ours", ours, "")
            return self.want("the server", server, "0x" if t.name == "blob" else "")
        if t.args:
            inside = parse(ours)
            self.want("ours, compact:", ours, compact(inside))
            return self.cell(t, raw, inside, parse(server))
        if t.name in ("double", "float") and not math.isfinite(driver_value(t.name, raw)):
            v = driver_value(t.name, raw)
            self.want("ours", ours, "NaN" if v != v else "Infinity" if v > 0 else "-Infinity")
            return None
        if t.name == "boolean":
            return self.cell(t, raw, {"true": True, "false": False}.get(ours), {"true": True, "false": False}.get(server))
        return self.cell(t, raw, Num(ours), Num(server))

    # -- scalars: the driver's value, the bytes, our JSON, the server's

    def is_text(self, v, raw, ours, server):
        self.want("ours, its kind:", type(ours), str)
        self.want("ours", ours, v)
        self.want("the server", server, v)
    is_varchar = is_ascii = is_text

    def is_int(self, v, raw, ours, server):
        self.want("ours, its kind:", type(ours), Num)
        self.want("ours", ours, str(v))
        self.want("the server", server, str(v))
    is_tinyint = is_smallint = is_bigint = is_counter = is_int

    def is_boolean(self, v, raw, ours, server):
        self.want("ours", ours is True, raw != b"\0")
        self.want("ours, its kind:", type(ours), bool)
        self.want("the server", server, raw != b"\0")

    def is_blob(self, v, raw, ours, server):
        self.want("ours", ours, base64.b64encode(v).decode())
        self.want("the server", server, "0x" + v.hex())

    def is_uuid(self, v, raw, ours, server):
        self.want("ours", ours, str(v))
        self.want("the server", server, str(v))
    is_timeuuid = is_uuid

    def is_varint(self, v, raw, ours, server):
        self.want("ours, its kind:", type(ours), str)
        self.want("ours", ours, str(v))
        self.want("the server", server, str(v))

    def is_decimal(self, v, raw, ours, server):
        self.want("ours, its kind:", type(ours), str)
        self.want("ours", ours, plain_decimal(v))
        self.want("ours, as a number:", decimal.Decimal(ours) == v, True)
        self.want("the server, as a number:", decimal.Decimal(server) == v, True)

    def real(self, v, raw, ours, server, narrow):
        if not math.isfinite(v):
            self.nan += 1
            self.want("ours", ours, None)
            return self.want("the server", server, None)
        self.want("ours, its kind:", type(ours), Num)
        self.want("ours, bits:", packed(ours, narrow), raw)
        self.want("ours has a point or an exponent:", bool(re.search("[.e]", ours)), True)
        self.want("ours is as short as can be:", digits_of(ours) <= digits_of(shortest(v, narrow)), True)
        return self.want("the server, bits:", packed(server, narrow), raw)

    def is_double(self, v, raw, ours, server):
        return self.real(v, raw, ours, server, False)

    def is_float(self, v, raw, ours, server):
        return self.real(v, raw, ours, server, True)

    def is_timestamp(self, v, raw, ours, server):
        year, text = iso_timestamp(v)
        self.years += not 0 <= year <= 9999
        self.want("ours", ours, text)
        # The server: a blank for the T; before the year 1 it leaves the era out and counts backwards.
        front = server.replace(" ", "T")
        if year <= 0:
            seen = re.sub(r"^\+?(\d+)", lambda m: str(1 - int(m[1])), front)
            text = f"{year}" + re.search(r"-\d\d-\d\dT.*", text)[0]
            front = seen
        self.want("the server", front, text)

    def is_date(self, v, raw, ours, server):
        text = plain_date(v.days_from_epoch)[1]
        self.want("ours", ours, text)
        self.want("the server", server, text)

    def is_time(self, v, raw, ours, server):
        n = v.nanosecond_time
        s = n // 10 ** 9
        text = f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}.{n % 10 ** 9:09d}"
        self.want("ours", ours, text)
        self.want("the server", server, text)

    def is_inet(self, v, raw, ours, server):
        address = ipaddress.ip_address(raw)
        self.want("ours, as an address:", ipaddress.ip_address(ours).packed, raw)
        self.want("ours", ours, str(v))
        self.want("ours, short:", len(ours) <= max(len(address.compressed), len("::ffff:255.255.255.255")), True)
        # The server shows an IPv4 address in IPv6 as if it were IPv4.
        mapped = getattr(address, "ipv4_mapped", None)
        self.want("the server", ipaddress.ip_address(server), mapped or address)

    def is_duration(self, v, raw, ours, server):
        self.want("ours", ours, iso_duration(v.months, v.days, v.nanoseconds))
        self.want("the server", server_duration(server), [v.months, v.days, v.nanoseconds])
