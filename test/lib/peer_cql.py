"""A scripted Cassandra on loopback: native protocol v4 and v5, answered from tables in memory.

    ring = Ring(nodes=1)
    ring.table("shop", "users", "id text, name text", key="id", rows=[("a", "Ann")])
    ring.on("EXECUTE", 'FROM "shop"', do=error(OVERLOADED), times=1)
    ring.start()   # then ring.address, ring.port
    ...
    ring.requests  # every request, in the order of arrival

Every node has its own address (127.0.0.1, .2, ...), the same port, and its own prepared statements;
all nodes see the same rows. Threads: one per connection. Nothing here is fast: it is meant for some
ten thousand rows.
"""
import bisect
import datetime
import decimal
import hashlib
import re
import socket
import ssl
import struct
import threading
import time
import uuid
import zlib

from port import Port

OPS = {0: "ERROR", 1: "STARTUP", 2: "READY", 3: "AUTHENTICATE", 5: "OPTIONS", 6: "SUPPORTED", 7: "QUERY",
       8: "RESULT", 9: "PREPARE", 10: "EXECUTE", 11: "REGISTER", 12: "EVENT", 13: "BATCH",
       14: "AUTH_CHALLENGE", 15: "AUTH_RESPONSE", 16: "AUTH_SUCCESS"}
OP = {name: code for code, name in OPS.items()}

SERVER_ERROR, PROTOCOL_ERROR, BAD_CREDENTIALS, UNAVAILABLE, OVERLOADED, BOOTSTRAPPING = (
    0x0000, 0x000A, 0x0100, 0x1000, 0x1001, 0x1002)
READ_TIMEOUT, READ_FAILURE, SYNTAX, UNAUTHORIZED, INVALID, UNPREPARED = (
    0x1200, 0x1300, 0x2000, 0x2100, 0x2200, 0x2500)

MIN_TOKEN, MAX_TOKEN = -2**63, 2**63 - 1
SEGMENT_MAX = 131054  # what a real server cuts its slices to


class CqlError(Exception):
    def __init__(self, code, text, **extra):
        super().__init__(text)
        self.code, self.text, self.extra = code, text, extra


# ---------------------------------------------------------------- notation

def w_string(s):
    b = s.encode()
    return struct.pack(">H", len(b)) + b


def w_long_string(s):
    b = s.encode()
    return struct.pack(">i", len(b)) + b


def w_bytes(b):
    return b"\xff\xff\xff\xff" if b is None else struct.pack(">i", len(b)) + b


def w_short_bytes(b):
    return struct.pack(">H", len(b)) + b


def w_string_list(items):
    return struct.pack(">H", len(items)) + b"".join(w_string(s) for s in items)


def w_inetaddr(address):
    b = socket.inet_aton(address)
    return bytes([len(b)]) + b


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise CqlError(PROTOCOL_ERROR, "request body too short")
        self.at += n
        return self.data[self.at - n:self.at]

    def num(self, fmt):
        return struct.unpack(">" + fmt, self.take(struct.calcsize(">" + fmt)))[0]

    def string(self):
        return self.take(self.num("H")).decode()

    def long_string(self):
        return self.take(self.num("i")).decode()

    def bytes_(self):
        n = self.num("i")
        return None if n < 0 else self.take(n)

    def short_bytes(self):
        return self.take(self.num("H"))

    def string_list(self):
        return [self.string() for _ in range(self.num("H"))]

    def string_map(self):
        return {self.string(): self.string() for _ in range(self.num("H"))}


# ---------------------------------------------------------------- types

class Type:
    """A CQL type: name, element types, and for a UDT the field names."""

    def __init__(self, name, args=(), fields=(), ks=None, size=0):
        self.name, self.args, self.fields, self.ks, self.size = name, list(args), list(fields), ks, size

    def text(self):
        if self.fields or not self.args:
            return self.name
        inner = [a.text() for a in self.args] + ([str(self.size)] if self.name == "vector" else [])
        return "%s<%s>" % (self.name, ", ".join(inner))


CODES = {"ascii": 1, "bigint": 2, "blob": 3, "boolean": 4, "counter": 5, "decimal": 6, "double": 7, "float": 8,
         "int": 9, "timestamp": 0xB, "uuid": 0xC, "text": 0xD, "varchar": 0xD, "varint": 0xE, "timeuuid": 0xF,
         "inet": 0x10, "date": 0x11, "time": 0x12, "smallint": 0x13, "tinyint": 0x14, "duration": 0x15}
MARSHAL = {"ascii": "AsciiType", "bigint": "LongType", "blob": "BytesType", "boolean": "BooleanType",
           "double": "DoubleType", "float": "FloatType", "int": "Int32Type", "text": "UTF8Type", "uuid": "UUIDType",
           "smallint": "ShortType", "tinyint": "ByteType", "timestamp": "TimestampType", "duration": "DurationType"}
FIXED = {"boolean": 1, "int": 4, "float": 4, "bigint": 8, "double": 8, "timestamp": 8, "uuid": 16, "timeuuid": 16}


def split_top(text):
    """Splits at the commas that are outside < >."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c == "<") - (c == ">")
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return parts + [text[start:].strip()]


def parse_type(text, udts=None):
    text = text.strip()
    m = re.match(r"^(\w+)\s*<(.*)>$", text, re.S)
    if not m:
        if udts and text.strip('"') in udts:
            return udts[text.strip('"')]
        if text not in CODES and not text.startswith("'"):
            raise ValueError("unknown type " + text)
        return Type(text)
    name, args = m.group(1), split_top(m.group(2))
    if name == "frozen":
        t = parse_type(args[0], udts)
        copy = Type(t.name, t.args, t.fields, t.ks, t.size)
        copy.text = lambda t=t: "frozen<%s>" % t.text()
        return copy
    if name == "vector":
        return Type("vector", [parse_type(args[0], udts)], size=int(args[1]))
    return Type(name, [parse_type(a, udts) for a in args])


def marshal_class(t):
    prefix = "org.apache.cassandra.db.marshal."
    if t.name == "vector":
        return "%sVectorType(%s , %d)" % (prefix, marshal_class(t.args[0]), t.size)
    return prefix + MARSHAL[t.name]


def option(t, version):
    if t.name.startswith("'"):
        return struct.pack(">H", 0) + w_string(t.name.strip("'"))
    if t.fields:
        return struct.pack(">H", 0x30) + w_string(t.ks) + w_string(t.name) + struct.pack(">H", len(t.fields)) + b"".join(
            w_string(f) + option(a, version) for f, a in zip(t.fields, t.args))
    if t.name == "vector" or (t.name == "duration" and version < 5):
        return struct.pack(">H", 0) + w_string(marshal_class(t))
    if t.name == "tuple":
        return struct.pack(">HH", 0x31, len(t.args)) + b"".join(option(a, version) for a in t.args)
    if t.name in ("list", "map", "set"):
        return struct.pack(">H", {"list": 0x20, "map": 0x21, "set": 0x22}[t.name]) + b"".join(
            option(a, version) for a in t.args)
    return struct.pack(">H", CODES[t.name])


def varint(n):
    return n.to_bytes((n + (n < 0)).bit_length() // 8 + 1, "big", signed=True)


def unsigned_vint(n):
    extra = 0
    while extra < 8 and n >> (7 * (extra + 1)):
        extra += 1
    if extra == 8:
        return b"\xff" + n.to_bytes(8, "big")
    first = (0xFF00 >> extra) & 0xFF
    return bytes([first | (n >> (8 * extra))]) + (n & ((1 << 8 * extra) - 1)).to_bytes(extra, "big")


def encode(t, v):
    """Python value -> cell bytes. None is null; bytes are taken as they are."""
    if v is None or isinstance(v, (bytes, bytearray)):
        return None if v is None else bytes(v)
    n = t.name
    if n in ("text", "varchar", "ascii"):
        return str(v).encode()
    if n in ("bigint", "counter"):
        return struct.pack(">q", v)
    if n == "timestamp":
        if isinstance(v, datetime.datetime):
            v = round(v.replace(tzinfo=v.tzinfo or datetime.timezone.utc).timestamp() * 1000)
        return struct.pack(">q", v)
    if n == "int":
        return struct.pack(">i", v)
    if n == "smallint":
        return struct.pack(">h", v)
    if n == "tinyint":
        return struct.pack(">b", v)
    if n == "boolean":
        return b"\1" if v else b"\0"
    if n == "double":
        return struct.pack(">d", v)
    if n == "float":
        return struct.pack(">f", v)
    if n in ("uuid", "timeuuid"):
        return (v if isinstance(v, uuid.UUID) else uuid.UUID(v)).bytes
    if n == "varint":
        return varint(v)
    if n == "decimal":
        sign, digits, exponent = decimal.Decimal(v).as_tuple()
        unscaled = int("".join(map(str, digits)))
        return struct.pack(">i", -exponent) + varint(-unscaled if sign else unscaled)
    if n == "inet":
        return socket.inet_pton(socket.AF_INET6 if ":" in v else socket.AF_INET, v)
    if n == "date":
        if isinstance(v, str):
            v = (datetime.date.fromisoformat(v) - datetime.date(1970, 1, 1)).days
        return struct.pack(">I", v + 2**31)
    if n == "time":
        return struct.pack(">q", v)
    if n == "duration":
        return b"".join(unsigned_vint(x << 1 if x >= 0 else (-x << 1) - 1) for x in v)
    if n in ("list", "set"):
        return struct.pack(">i", len(v)) + b"".join(w_bytes(encode(t.args[0], x)) for x in v)
    if n == "map":
        return struct.pack(">i", len(v)) + b"".join(
            w_bytes(encode(t.args[0], k)) + w_bytes(encode(t.args[1], x)) for k, x in v.items())
    if n == "tuple":
        return b"".join(w_bytes(encode(a, x)) for a, x in zip(t.args, v))
    if n == "vector":
        cells = [encode(t.args[0], x) for x in v]
        return b"".join(cells) if t.args[0].name in FIXED else b"".join(unsigned_vint(len(c)) + c for c in cells)
    if t.fields:
        return b"".join(w_bytes(encode(a, v.get(f))) for f, a in zip(t.fields, t.args))
    raise ValueError("cannot encode " + t.text())


def sort_value(t, cell):
    """A comparable form of a cell, for clustering order and for < and >."""
    n = t.name
    if cell is None:
        return (0,)
    if n in ("bigint", "counter", "int", "smallint", "tinyint", "timestamp", "time", "varint"):
        return (1, int.from_bytes(cell, "big", signed=True))
    if n in ("double", "float"):
        return (1, struct.unpack(">d" if n == "double" else ">f", cell)[0])
    return (1, cell)


def cell_list(cell):
    r = Reader(cell)
    return [r.bytes_() for _ in range(r.num("i"))]


# ---------------------------------------------------------------- Murmur3, with Cassandra's sign bug

M64 = 2**64 - 1


def rotl(x, r):
    return ((x << r) | (x >> (64 - r))) & M64


def fmix(k):
    k ^= k >> 33
    k = k * 0xFF51AFD7ED558CCD & M64
    k ^= k >> 33
    k = k * 0xC4CEB9FE1A85EC53 & M64
    return k ^ (k >> 33)


def murmur3(key):
    if not key:
        return MIN_TOKEN
    c1, c2, h1, h2 = 0x87C37B91114253D5, 0x4CF5AD432745937F, 0, 0
    whole = len(key) // 16 * 16
    for i in range(0, whole, 16):
        k1, k2 = struct.unpack_from("<QQ", key, i)
        h1 ^= rotl(k1 * c1 & M64, 31) * c2 & M64
        h1 = (rotl(h1, 27) + h2 & M64) * 5 + 0x52DCE729 & M64
        h2 ^= rotl(k2 * c2 & M64, 33) * c1 & M64
        h2 = (rotl(h2, 31) + h1 & M64) * 5 + 0x38495AB5 & M64
    tail = key[whole:]
    k1 = k2 = 0
    for i, b in enumerate(tail):
        signed = (b - 256 if b > 127 else b) & M64
        if i < 8:
            k1 ^= signed << (8 * i) & M64
        else:
            k2 ^= signed << (8 * (i - 8)) & M64
    h2 ^= rotl(k2 * c2 & M64, 33) * c1 & M64
    h1 ^= rotl(k1 * c1 & M64, 31) * c2 & M64
    h1 ^= len(key)
    h2 ^= len(key)
    h1 = h1 + h2 & M64
    h2 = h2 + h1 & M64
    h1, h2 = fmix(h1), fmix(h2)
    h1 = h1 + h2 & M64
    token = h1 - 2**64 if h1 >= 2**63 else h1
    return MAX_TOKEN if token == MIN_TOKEN else token


def key_token(cells):
    if len(cells) == 1:
        return murmur3(cells[0])
    return murmur3(b"".join(w_short_bytes(c) + b"\0" for c in cells))


# ---------------------------------------------------------------- LZ4 blocks

def lz4_compress(data):
    """Literals only: legal, and never smaller."""
    if not data:
        return b"\0"
    n = len(data)
    if n < 15:
        return bytes([n << 4]) + data
    rest = n - 15
    return b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255]) + data


def lz4_decompress(block, size):
    out, i = bytearray(), 0
    while i < len(block):
        token = block[i]
        i += 1
        n = token >> 4
        if n == 15:
            while True:
                b = block[i]
                i += 1
                n += b
                if b != 255:
                    break
        out += block[i:i + n]
        i += n
        if i >= len(block):
            break
        offset = block[i] | block[i + 1] << 8
        i += 2
        n = token & 15
        if n == 15:
            while True:
                b = block[i]
                i += 1
                n += b
                if b != 255:
                    break
        for _ in range(n + 4):
            out.append(out[-offset])
    if len(out) != size:
        raise CqlError(PROTOCOL_ERROR, "LZ4 block of %d bytes, %d announced" % (len(out), size))
    return bytes(out)


# ---------------------------------------------------------------- v5 segments

def crc24(data):
    reg = 0x875060
    for b in data:
        reg ^= b << 16
        for _ in range(8):
            reg <<= 1
            if reg & 0x1000000:
                reg ^= 0x1974F0B
    return (reg & 0xFFFFFF).to_bytes(3, "little")


def crc32(data):
    return zlib.crc32(data, zlib.crc32(b"\xfa\x2d\x55\xca")).to_bytes(4, "little")


def segment(payload, lz4, self_contained, bad_crc=False):
    if lz4:
        packed = lz4_compress(payload)
        raw = len(payload)
        if len(packed) >= len(payload):
            packed, raw = payload, 0
        head = (len(packed) | raw << 17 | self_contained << 34).to_bytes(5, "little")
        payload = packed
    else:
        head = (len(payload) | self_contained << 17).to_bytes(3, "little")
    tail = crc32(payload)
    if bad_crc:
        tail = bytes([tail[0] ^ 0xFF]) + tail[1:]
    return head + crc24(head) + payload + tail


def segments(envelope, lz4, bad_crc=False):
    if len(envelope) <= SEGMENT_MAX:
        return segment(envelope, lz4, True, bad_crc)
    return b"".join(segment(envelope[i:i + SEGMENT_MAX], lz4, False, bad_crc)
                    for i in range(0, len(envelope), SEGMENT_MAX))


def segment_take(buf, lz4):
    """-> (payload, bytes used) or None when more bytes are needed."""
    n = 5 if lz4 else 3
    if len(buf) < n + 3:
        return None
    head = bytes(buf[:n])
    if crc24(head) != bytes(buf[n:n + 3]):
        raise CqlError(PROTOCOL_ERROR, "header CRC mismatch")
    bits = int.from_bytes(head, "little")
    length, raw = bits & 0x1FFFF, (bits >> 17 & 0x1FFFF) if lz4 else 0
    end = n + 3 + length
    if len(buf) < end + 4:
        return None
    payload = bytes(buf[n + 3:end])
    if crc32(payload) != bytes(buf[end:end + 4]):
        raise CqlError(PROTOCOL_ERROR, "payload CRC mismatch")
    return (lz4_decompress(payload, raw) if raw else payload), end + 4


# ---------------------------------------------------------------- tables

class Column:
    def __init__(self, name, type_, kind="regular", position=-1, order="none"):
        self.name, self.type, self.kind, self.position, self.order = name, type_, kind, position, order


class Table:
    """Rows are dicts of column -> cell bytes, kept in token and clustering order."""

    def __init__(self, ks, name, columns, key, clustering=(), static=(), udts=None, flags=("compound",)):
        self.ks, self.name, self.id, self.flags = ks, name, uuid.uuid5(uuid.NAMESPACE_DNS, ks + "." + name), list(flags)
        self.columns, self.estimates = {}, []
        key = [key] if isinstance(key, str) else list(key)
        orders = {}
        for c in [clustering] if isinstance(clustering, str) else list(clustering):
            base, _, direction = c.partition(" ")
            orders[base] = direction.lower() or "asc"
        for part in split_top(columns):
            quoted, plain, type_text = re.match(r'^(?:"([^"]+)"|(\S+))\s+(.*)$', part, re.S).groups()
            column = quoted or plain
            kind, position, order = "regular", -1, "none"
            if column in key:
                kind, position = "partition_key", key.index(column)
            elif column in orders:
                kind, position, order = "clustering", list(orders).index(column), orders[column]
            elif column in static:
                kind = "static"
            self.columns[column] = Column(column, parse_type(type_text, udts), kind, position, order)
        self.key = [self.columns[c] for c in key]
        self.clustering = [self.columns[c] for c in orders]
        self.rows, self.tokens, self.lock = [], [], threading.RLock()
        self.written_us = 1000  # when each cell was

    def put(self, rows):
        """Adds rows (tuples in column order, or dicts); a row of the same key is replaced."""
        with self.lock:
            seen = {self.row_key(r): r for r in self.rows}
            for row in rows:
                if not isinstance(row, dict):
                    row = dict(zip(self.columns, row))
                cells = {n: encode(c.type, row.get(n)) for n, c in self.columns.items()}
                cells["\0token"] = key_token([cells[c.name] for c in self.key])
                seen[self.row_key(cells)] = cells
            rows = list(seen.values())
            for c in reversed(self.clustering):
                rows.sort(key=lambda r, c=c: sort_value(c.type, r[c.name]), reverse=c.order == "desc")
            rows.sort(key=lambda r: (r["\0token"], [r[c.name] for c in self.key]))
            self.rows, self.tokens = rows, [r["\0token"] for r in rows]
        return self

    def delete(self, **where):
        with self.lock:
            cells = {n: encode(self.columns[n].type, v) for n, v in where.items()}
            self.rows = [r for r in self.rows if any(r[n] != v for n, v in cells.items())]
            self.tokens = [r["\0token"] for r in self.rows]

    def row_key(self, row):
        return tuple(row[c.name] for c in self.key + self.clustering)

    def add_column(self, name, type_text):
        self.columns[name] = Column(name, parse_type(type_text))
        for r in self.rows:
            r[name] = None

    def drop_column(self, name):
        """As a server does: statements that name it are forgotten by the ring, see Ring.forget()."""
        del self.columns[name]


# ---------------------------------------------------------------- CQL text

TOKEN = re.compile(r"""\s*(?:("(?:[^"]|"")*")|('(?:[^']|'')*')|([A-Za-z_][A-Za-z0-9_]*)
    |(-?\d[\dA-Za-z.+-]*)|(<=|>=|!=|[?:,.()*=<>;\[\]]))""", re.X)


class Parser:
    def __init__(self, cql):
        self.cql, self.words, at = cql, [], 0
        while at < len(cql.rstrip()):
            m = TOKEN.match(cql, at)
            if not m:
                raise CqlError(SYNTAX, "line 1:%d no viable alternative at input '%s'" % (at, cql[at:at + 1]))
            quoted, string, word, number, sign = m.groups()
            if quoted:
                self.words.append(("id", quoted[1:-1].replace('""', '"')))
            elif string:
                self.words.append(("str", string[1:-1].replace("''", "'")))
            elif word:
                self.words.append(("word", word))
            elif number:
                self.words.append(("num", number))
            else:
                self.words.append(("sign", sign))
            at = m.end()
        self.at = 0

    def peek(self, *texts):
        if self.at >= len(self.words):
            return False
        kind, text = self.words[self.at]
        return kind in ("word", "sign") and text.upper() in texts

    def accept(self, *texts):
        if self.peek(*texts):
            self.at += 1
            return True
        return False

    def expect(self, text):
        if not self.accept(text):
            self.fail()

    def fail(self):
        rest = self.words[self.at][1] if self.at < len(self.words) else "<EOF>"
        raise CqlError(SYNTAX, "line 1:0 no viable alternative at input '%s'" % rest)

    def next(self):
        if self.at >= len(self.words):
            self.fail()
        self.at += 1
        return self.words[self.at - 1]

    def ident(self):
        kind, text = self.next()
        if kind not in ("id", "word"):
            self.at -= 1
            self.fail()
        return text if kind == "id" else text.lower()

    def idents(self):
        self.expect("(")
        names = [self.ident()]
        while self.accept(","):
            names.append(self.ident())
        self.expect(")")
        return names


class Select:
    """A parsed SELECT, bound to its table."""

    def __init__(self, cql, find_table, now=time.time):
        self.now = now
        p = Parser(cql)
        p.expect("SELECT")
        p.accept("JSON")
        self.cql, self.markers = cql, []  # markers: (name, Type, key position or None)
        self.distinct = p.accept("DISTINCT")
        wanted = [self.selector(p)]
        while p.accept(","):
            wanted.append(self.selector(p))
        p.expect("FROM")
        ks, name = None, p.ident()
        if p.accept("."):
            ks, name = name, p.ident()
        self.table = find_table(ks, name)
        self.relations, self.limit, self.per_partition, self.filtering = [], None, None, False
        if p.accept("WHERE"):
            self.relation(p)
            while p.accept("AND"):
                self.relation(p)
        if p.accept("PER"):
            p.expect("PARTITION")
            p.expect("LIMIT")
            self.per_partition = self.term(p, "[per_partition_limit]", Type("int"))
        if p.accept("LIMIT"):
            self.limit = self.term(p, "[limit]", Type("int"))
        while p.at < len(p.words):
            if p.accept("ALLOW"):
                p.expect("FILTERING")
                self.filtering = True
            elif p.accept("BYPASS"):
                p.expect("CACHE")
            elif p.accept("USING"):
                p.next(), p.next()
            elif not p.accept(";"):
                p.fail()
        self.outputs = [o for w in wanted for o in self.bind(w)]
        self.check()

    def selector(self, p):
        if p.accept("*"):
            return ("*",)
        kind, text = p.words[p.at] if p.at < len(p.words) else ("", "")
        if kind == "word" and p.at + 1 < len(p.words) and p.words[p.at + 1] == ("sign", "("):
            p.at += 1
            if text.lower() == "count":
                p.at += 3
                return ("count",)
            if text.lower() == "tounixtimestamp":  # of now()
                p.at += 5
                return ("now",)
            sel = (text.lower(), p.idents())
        else:
            sel = ("column", p.ident())
        if p.accept("AS"):
            sel += (p.ident(),)
        return sel

    def column(self, name):
        if name not in self.table.columns:
            raise CqlError(INVALID, "Undefined column name %s in table %s.%s" % (name, self.table.ks, self.table.name))
        return self.table.columns[name]

    def bind(self, sel):
        """-> [(output name, Type, function of a row)]"""
        if sel[0] == "*":
            t = self.table
            rest = sorted((c for c in t.columns.values() if c not in t.key + t.clustering),
                          key=lambda c: (c.kind != "static", c.name))
            return [(c.name, c.type, lambda r, n=c.name: r[n]) for c in t.key + t.clustering + rest]
        if sel[0] == "count":
            return [("count", Type("bigint"), None)]
        if sel[0] == "now":
            return [("system.tounixtimestamp(system.now())", Type("timestamp"), lambda r: struct.pack(">q", int(self.now() * 1000)))]
        alias = sel[2] if len(sel) > 2 else None
        if sel[0] == "column":
            c = self.column(sel[1])
            return [(alias or c.name, c.type, lambda r: r[c.name])]
        columns = [self.column(n) for n in sel[1]]
        name = alias or "%s(%s)" % (sel[0], ", ".join(sel[1]))
        if sel[0] == "token":
            if columns != self.table.key:
                raise CqlError(INVALID, "Invalid number of arguments in call to function token")
            return [(alias or "system." + name, Type("bigint"), lambda r: struct.pack(">q", r["\0token"]))]
        if sel[0] == "writetime":
            return [(name, Type("bigint"), lambda r: r[columns[0].name] and struct.pack(">q", self.table.written_us))]
        if sel[0] == "ttl":
            return [(name, Type("int"), lambda r: None)]
        raise CqlError(INVALID, "Unknown function %s called" % sel[0])

    def term(self, p, name, type_, key=None):
        """-> function of the bound values that gives cell bytes"""
        if p.accept("?"):
            self.markers.append((name, type_, key))
            return lambda values, i=len(self.markers) - 1: values[i]
        kind, text = p.next()
        if kind == "word" and text.lower() in ("true", "false"):
            text = text.lower() == "true"
        elif kind == "num" and type_.name not in ("uuid", "timeuuid"):
            text = bytes.fromhex(text[2:]) if text.startswith("0x") else decimal.Decimal(text)
            if type_.name in ("int", "bigint", "smallint", "tinyint", "varint", "counter", "timestamp"):
                text = int(text)
        cell = encode(type_, text)
        return lambda values: cell

    def relation(self, p):
        if p.accept("TOKEN"):
            names = p.idents()
            if names != [c.name for c in self.table.key]:
                raise CqlError(INVALID, "The token function arguments must be in the partition key order: %s" % names)
            op = p.next()[1]
            self.relations.append(("token", op, self.term(p, "partition key token", Type("bigint"))))
            return
        if p.peek("("):
            columns = [self.column(n) for n in p.idents()]
            op = p.next()[1]
            p.expect("(")
            terms = []
            for i, c in enumerate(columns):
                if i:
                    p.expect(",")
                terms.append(self.term(p, c.name, c.type))
            p.expect(")")
            self.relations.append((columns, op, terms))
            return
        c = self.column(p.ident())
        if p.accept("IN"):
            if p.accept("("):
                terms = [self.term(p, c.name, c.type)]
                while p.accept(","):
                    terms.append(self.term(p, c.name, c.type))
                p.expect(")")
                self.relations.append((c, "IN", lambda v, terms=terms: [t(v) for t in terms]))
            else:
                one = self.term(p, "in(%s)" % c.name, Type("list", [c.type]))
                self.relations.append((c, "IN", lambda v, one=one: cell_list(one(v))))
            return
        op = p.next()[1]
        key = c.position if c.kind == "partition_key" and op == "=" else None
        self.relations.append((c, op, self.term(p, c.name, c.type, key)))

    def check(self):
        """What a server refuses without ALLOW FILTERING."""
        if self.filtering or not self.relations:
            return
        named = {r[0].name: r[1] for r in self.relations if isinstance(r[0], Column)}
        token = any(r[0] == "token" for r in self.relations)
        whole_key = all(named.get(c.name) in ("=", "IN") for c in self.table.key)
        free = [n for n in named if self.table.columns[n].kind in ("regular", "static")]
        if free or not (token or whole_key):
            raise CqlError(INVALID, "Cannot execute this query as it might involve data filtering and thus may have "
                           "unpredictable performance. If you want to execute this query despite the performance "
                           "unpredictability, use ALLOW FILTERING")

    def run(self, values):
        t = self.table
        with t.lock:
            lo, hi, tests = 0, len(t.rows), []
            for what, op, term in self.relations:
                if what == "token":
                    token = struct.unpack(">q", term(values))[0]
                    if op in (">", ">="):
                        lo = max(lo, (bisect.bisect_right if op == ">" else bisect.bisect_left)(t.tokens, token))
                    elif token != MIN_TOKEN:
                        hi = min(hi, (bisect.bisect_right if op == "<=" else bisect.bisect_left)(t.tokens, token))
                elif op == "IN":
                    wanted = set(term(values))
                    tests.append(lambda r, n=what.name, w=wanted: r[n] in w)
                elif isinstance(what, list):
                    tests.append(self.compare(what, op, [x(values) for x in term]))
                else:
                    tests.append(self.compare([what], op, [term(values)]))
            key = {r[0].name: r[2] for r in self.relations if isinstance(r[0], Column) and r[1] == "="}
            if all(c.name in key for c in t.key):
                token = key_token([key[c.name](values) for c in t.key])
                lo, hi = bisect.bisect_left(t.tokens, token), bisect.bisect_right(t.tokens, token)
            rows = [r for r in t.rows[lo:hi] if all(test(r) for test in tests)]
        if self.distinct or self.per_partition:
            most = 1 if self.distinct else struct.unpack(">i", self.per_partition(values))[0]
            count, kept = {}, []
            for r in rows:
                k = tuple(r[c.name] for c in t.key)
                count[k] = count.get(k, 0) + 1
                if count[k] <= most:
                    kept.append(r)
            rows = kept
        if self.limit:
            rows = rows[:struct.unpack(">i", self.limit(values))[0]]
        if self.outputs[0][2] is None:
            return [[struct.pack(">q", len(rows))]]
        return rows

    @staticmethod
    def compare(columns, op, cells):
        want = [sort_value(c.type, x) for c, x in zip(columns, cells)]
        if op == "=":
            return lambda r: all(r[c.name] == x for c, x in zip(columns, cells))
        test = {"<": lambda a: a < want, "<=": lambda a: a <= want, ">": lambda a: a > want, ">=": lambda a: a >= want}[op]
        return lambda r: test([sort_value(c.type, r[c.name]) for c in columns])


# ---------------------------------------------------------------- what a script may do

def error(code, text=None, **extra):
    """Answers with an error; extra: the code's own fields (cl, received, required, alive, blockfor, data_present)."""
    def act(conn, req):
        conn.answer(req, OP["ERROR"], error_body(conn, code, text or "scripted error", extra))
        return True
    return act


def close():
    """Closes the connection without an answer."""
    return lambda conn, req: conn.drop() or True


def reset():
    return lambda conn, req: conn.drop(rst=True) or True


def hang():
    """Never answers this request; the connection stays."""
    return lambda conn, req: True


def half():
    """Sends the first half of the right answer, then closes."""
    return lambda conn, req: req.mod.update(half=True)


def bad_crc():
    """Answers with a wrong payload CRC (v5)."""
    return lambda conn, req: req.mod.update(bad_crc=True)


def delay(seconds):
    """Answers later; answers to other requests may pass it."""
    return lambda conn, req: req.mod.update(delay=seconds)


def late(event):
    """Answers when the threading.Event is set; answers to other requests may pass it."""
    return lambda conn, req: req.mod.update(until=event)


def garbage(data=b"HTTP/1.1 400 Bad Request\r\n\r\n"):
    def act(conn, req):
        conn.raw(data)
        conn.drop()
        return True
    return act


def page(rows):
    """Cuts this page to so many rows (0: an empty page), with has-more, whatever was asked for."""
    return lambda conn, req: req.mod.update(page=rows)


def unprepared():
    """Answers UNPREPARED, and forgets the statement."""
    def act(conn, req):
        conn.node.prepared.pop(req.id, None)
    return act


def new_metadata():
    """The result's metadata id is another from here on (v5: flag 'metadata changed')."""
    def act(conn, req):
        conn.node.ring.salt += 1
    return act


def call(fn):
    """Calls fn(req) before the answer."""
    return lambda conn, req: fn(req) and False


def gate(event, timeout=60):
    """Holds the answer back until the threading.Event is set."""
    return lambda conn, req: (event.wait(timeout), False)[1]


def error_body(conn, code, text, x):
    body = struct.pack(">i", code) + w_string(text)
    cl = x.get("cl", 6)
    if code == UNAVAILABLE:
        body += struct.pack(">Hii", cl, x.get("required", 1), x.get("alive", 0))
    elif code == READ_TIMEOUT:
        body += struct.pack(">HiiB", cl, x.get("received", 0), x.get("blockfor", 1), x.get("data_present", 0))
    elif code == READ_FAILURE:
        body += struct.pack(">Hii", cl, x.get("received", 0), x.get("blockfor", 1))
        if conn.version >= 5:
            reasons = x.get("reasons", [(conn.node.address, 1)])
            body += struct.pack(">i", len(reasons))
            for address, reason in reasons:
                body += w_inetaddr(address) + struct.pack(">H", reason)
        else:
            body += struct.pack(">i", 1)
        body += struct.pack(">B", x.get("data_present", 0))
    elif code == UNPREPARED:
        body += w_short_bytes(x["id"])
    return body


class Rule:
    def __init__(self, op, match, do, times, skip, where):
        self.op, self.match, self.times, self.skip, self.where = op, match, times, skip, where
        self.do, self.hits = do if isinstance(do, list) else [do], 0

    def takes(self, req):
        if self.op not in (None, req.op) or (self.match and not re.search(self.match, req.cql or "")):
            return False
        if self.where and not self.where(req):
            return False
        self.hits += 1
        return self.hits > self.skip and (self.times is None or self.hits <= self.skip + self.times)


class Request:
    """One request as it came. values are cell bytes; trip counts round trips (see Ring.trips)."""

    def __init__(self, conn, op, stream, version, body):
        self.conn, self.node, self.op, self.stream = conn.number, conn.node, op, stream
        self.version, self.body, self.time = version, body, time.monotonic()
        self.cql = self.id = self.metadata_id = self.state = self.page_size = self.consistency = None
        self.values, self.flags, self.options, self.events, self.rows = [], 0, {}, [], None
        self.serial_consistency = self.now = None
        self.mod = {}
        self.trip = 0

    def __repr__(self):
        return "<%s %s conn=%d page=%s %s>" % (self.op, self.cql or "", self.conn, self.page_size, self.values)

    def read(self, conn):
        r, v = Reader(self.body), self.version
        if self.op == "STARTUP":
            self.options = r.string_map()
        elif self.op == "AUTH_RESPONSE":
            self.values = [r.bytes_()]
        elif self.op == "REGISTER":
            self.events = r.string_list()
        elif self.op == "PREPARE":
            self.cql = r.long_string()
        elif self.op == "QUERY":
            self.cql = r.long_string()
            self.parameters(r, v)
        elif self.op == "EXECUTE":
            self.id = r.short_bytes()
            if v >= 5:
                self.metadata_id = r.short_bytes()
            known = conn.node.prepared.get(self.id) or conn.node.ring.ever_prepared.get(self.id)
            self.cql = known.cql if known else None
            self.parameters(r, v)

    def parameters(self, r, v):
        self.consistency = r.num("H")
        f = self.flags = r.num("I" if v >= 5 else "B")
        if f & 0x01:
            for _ in range(r.num("H")):
                if f & 0x40:
                    r.string()
                self.values.append(r.bytes_())
        if f & 0x04:
            self.page_size = r.num("i")
        if f & 0x08:
            self.state = r.bytes_()
        if f & 0x10:
            self.serial_consistency = r.num("H")
        if f & 0x20:
            r.num("q")
        if f & 0x80:
            r.string()
        if f & 0x100:
            self.now = r.num("i")


# ---------------------------------------------------------------- connection

class Conn(threading.Thread):
    def __init__(self, node, sock, number):
        super().__init__(daemon=True)
        self.node, self.sock, self.number = node, sock, number
        self.version, self.framed, self.lz4, self.ready = 4, False, None, False
        self.events, self.lock, self.trip_done = [], threading.Lock(), 0

    def run(self):
        try:
            if self.node.ring.raw:
                self.node.ring.raw(self.sock)
                return
            if self.node.ring.tls:
                self.sock = self.node.ring.tls.wrap_socket(self.sock, server_side=True)
            self.loop()
        except (OSError, ssl.SSLError) as e:
            if isinstance(e, ssl.SSLError):
                self.node.ring.tls_errors.append(str(e))
        except CqlError as e:
            self.node.ring.faults.append(e.text)
            try:
                self.raw(self.envelope(0, OP["ERROR"], error_body(self, e.code, e.text, e.extra)))
            except OSError:
                pass
        finally:
            self.drop()
            if self in self.node.conns:
                self.node.conns.remove(self)

    def loop(self):
        wire, plain = bytearray(), bytearray()
        while True:
            sock = self.sock  # dropped by another thread: None
            data = sock and sock.recv(1 << 16)
            if not data:
                return
            if self.framed:
                wire += data
            else:
                plain += data
            while True:
                while self.framed and (got := segment_take(wire, self.lz4 is not None)):
                    plain += got[0]
                    del wire[:got[1]]
                if len(plain) < 9:
                    break
                version, flags, stream, op, length = struct.unpack(">BBhBi", plain[:9])
                if version & 0x80 or op not in OPS or length < 0 or length > 1 << 28:
                    raise CqlError(PROTOCOL_ERROR, "Invalid or unsupported protocol version (%d)" % (version & 0x7F))
                if len(plain) < 9 + length:
                    break
                body = bytes(plain[9:9 + length])
                del plain[:9 + length]
                was_framed = self.framed
                if not self.message(version, flags, stream, op, body):
                    return
                if self.framed and not was_framed:
                    wire, plain = plain, bytearray()

    def message(self, version, flags, stream, op, body):
        ring = self.node.ring
        if version not in ring.versions:
            newest = max(ring.versions)
            listed = ", ".join("%d/v%d" % (v, v) for v in sorted(ring.versions))
            text = "Invalid or unsupported protocol version (%d); supported versions are (%s)" % (version, listed)
            self.raw(struct.pack(">BBhBi", newest | 0x80, 0, stream, 0, len(text) + 6) + struct.pack(">i", 10) + w_string(text))
            ring.record(Request(self, OPS[op], stream, version, body))
            return False
        self.version = version
        if flags & 1 and version < 5:
            size = struct.unpack(">i", body[:4])[0]
            body = lz4_decompress(body[4:], size)
        req = Request(self, OPS[op], stream, version, body)
        try:
            req.read(self)
        except CqlError as e:
            ring.record(req)
            self.answer(req, OP["ERROR"], error_body(self, e.code, e.text, e.extra))
            return True
        ring.record(req)
        for rule in ring.matching(self.node, req):
            for act in rule.do:
                if act(self, req):
                    return self.sock is not None
        try:
            self.node.handle(self, req)
        except CqlError as e:
            self.answer(req, OP["ERROR"], error_body(self, e.code, e.text, e.extra))
        return self.sock is not None

    def envelope(self, stream, op, body, flags=0):
        if self.version < 5 and self.lz4 and self.ready:
            body, flags = struct.pack(">i", len(body)) + lz4_compress(body), flags | 1
        return struct.pack(">BBhBi", self.version | 0x80, flags, stream, op, len(body)) + body

    def answer(self, req, op, body):
        data = self.envelope(req.stream, op, body)
        if self.framed:
            data = segments(data, self.lz4 is not None, req.mod.get("bad_crc", False))
        wait, event = req.mod.get("delay", 0) + self.node.ring.latency, req.mod.get("until")
        if event:
            threading.Thread(target=lambda: (event.wait(60), self.send_answer(req, op, data)), daemon=True).start()
        elif wait:
            timer = threading.Timer(wait, self.send_answer, (req, op, data))
            timer.daemon = True
            timer.start()
        else:
            self.send_answer(req, op, data)

    def send_answer(self, req, op, data):
        ring = self.node.ring
        with ring.changed:
            ring.trips = max(ring.trips, req.trip)
            if op == OP["AUTH_SUCCESS"] or (op == OP["READY"] and req.op == "STARTUP"):
                ring.logged_in_trip = ring.logged_in_trip or req.trip
            ring.answers += 1
        try:
            if req.mod.get("half"):
                self.raw(data[:max(1, len(data) // 2)])
                self.drop()
            else:
                self.raw(data)
        except OSError:
            pass

    def raw(self, data):
        with self.lock:
            step = self.node.ring.dribble or len(data) or 1
            for at in range(0, len(data), step):
                if self.sock:
                    self.sock.sendall(data[at:at + step])

    def drop(self, rst=False):
        sock, self.sock = self.sock, None
        if not sock:
            return
        try:
            if rst:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        try:
            sock.close()
        except OSError:
            pass


# ---------------------------------------------------------------- node

class Node:
    def __init__(self, ring, index, address, tokens, dc, rack):
        self.ring, self.index, self.address, self.tokens, self.dc, self.rack = ring, index, address, tokens, dc, rack
        self.host_id = uuid.uuid5(uuid.NAMESPACE_DNS, "node%d" % index)
        self.prepared, self.conns, self.kept, self.listener, self.rules, self.accepted = {}, [], None, None, [], 0

    def on(self, op, match=None, do=None, times=1, skip=0, where=None):
        rule = Rule(op, match, do, times, skip, where)
        self.rules.append(rule)
        return rule

    @property
    def requests(self):
        return [r for r in self.ring.requests if r.node is self]

    def up(self):
        self.kept = self.kept or Port(self.address, self.ring.port)
        self.listener = self.kept.listen()
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            conn = Conn(self, sock, self.ring.next_conn())
            self.conns.append(conn)
            conn.start()

    def down(self):
        """Stops listening and cuts every connection; nobody else gets the port."""
        if self.listener:
            try:
                self.listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.listener.close()
            self.listener = None
        for conn in list(self.conns):
            conn.drop()

    # ---- messages

    def handle(self, conn, req):
        ring = self.ring
        if req.op == "OPTIONS":
            versions = ["%d/v%d" % (v, v) for v in sorted(ring.versions)] + ring.extra_versions
            conn.answer(req, OP["SUPPORTED"], struct.pack(">H", 3) + w_string("PROTOCOL_VERSIONS") + w_string_list(versions)
                        + w_string("COMPRESSION") + w_string_list(ring.compression)
                        + w_string("CQL_VERSION") + w_string_list(["3.4.7"]))
        elif req.op == "STARTUP":
            self.startup(conn, req)
        elif req.op == "AUTH_RESPONSE":
            token = (req.values[0] or b"").split(b"\0")
            if ring.auth and tuple(t.decode() for t in token[1:3]) != ring.auth:
                raise CqlError(BAD_CREDENTIALS, "Provided username %s and/or password are incorrect" % token[1].decode())
            conn.ready = True
            conn.answer(req, OP["AUTH_SUCCESS"], w_bytes(None))
        elif not conn.ready:
            raise CqlError(PROTOCOL_ERROR, "Unexpected message %s, expecting STARTUP or OPTIONS" % req.op)
        elif req.op == "REGISTER":
            conn.events = req.events
            conn.answer(req, OP["READY"], b"")
        elif req.op == "PREPARE":
            self.prepare(conn, req)
        elif req.op == "QUERY":
            if re.match(r"\s*USE\s", req.cql, re.I):
                ks = req.cql.split(None, 1)[1].strip(' ;"')
                conn.answer(req, OP["RESULT"], struct.pack(">i", 3) + w_string(ks))
            else:
                self.rows(conn, req, self.statement(req.cql))
        elif req.op == "EXECUTE":
            st = self.prepared.get(req.id)
            if not st:
                raise CqlError(UNPREPARED, "Prepared query with ID %s not found" % req.id.hex(), id=req.id)
            self.rows(conn, req, self.statement(st.cql))
        else:
            raise CqlError(PROTOCOL_ERROR, "unsupported message " + req.op)

    def startup(self, conn, req):
        ring = self.ring
        compression = req.options.get("COMPRESSION")
        if compression and compression not in ring.compression:
            raise CqlError(PROTOCOL_ERROR, "Unknown compression algorithm: " + compression)
        if compression and compression != "lz4":
            raise CqlError(PROTOCOL_ERROR, "this peer has no " + compression)
        if not req.options.get("CQL_VERSION", "").startswith("3."):
            raise CqlError(PROTOCOL_ERROR, "Missing value CQL_VERSION in STARTUP message")
        if ring.auth:
            conn.answer(req, OP["AUTHENTICATE"], w_string(ring.authenticator))
        else:
            conn.ready = True
            conn.answer(req, OP["READY"], b"")
        conn.lz4 = compression
        conn.framed = conn.version >= 5

    def statement(self, cql):
        return Select(cql, lambda ks, name: self.ring.find_table(self, ks, name), lambda: time.time() + self.ring.clock_ahead)

    def metadata(self, st, version):
        t = st.table
        return w_string(t.ks) + w_string(t.name) + b"".join(
            w_string(name) + option(type_, version) for name, type_, _ in st.outputs)

    def metadata_id(self, st):
        return hashlib.md5(self.metadata(st, 5) + str(self.ring.salt).encode()).digest()

    def prepare(self, conn, req):
        st = self.statement(req.cql)
        id_ = hashlib.md5(req.cql.encode()).digest()
        self.prepared[id_] = self.ring.ever_prepared[id_] = st
        t = st.table
        keys = [(pos, i) for i, (_, _, pos) in enumerate(st.markers) if pos is not None]
        pk = [i for _, i in sorted(keys)] if len(keys) == len(t.key) else []
        body = struct.pack(">i", 4) + w_short_bytes(id_)
        if conn.version >= 5:
            body += w_short_bytes(self.metadata_id(st))
        body += struct.pack(">iii", 1 if st.markers else 0, len(st.markers), len(pk))
        body += b"".join(struct.pack(">H", i) for i in pk)
        if st.markers:
            body += w_string(t.ks) + w_string(t.name) + b"".join(
                w_string(n) + option(ty, conn.version) for n, ty, _ in st.markers)
        body += struct.pack(">ii", 1, len(st.outputs)) + self.metadata(st, conn.version)
        conn.answer(req, OP["RESULT"], body)

    @staticmethod
    def row_id(st, row):
        return hashlib.md5(repr(st.table.row_key(row)).encode()).digest()[:8]

    def paging_state(self, st, row):
        """As a real server's: the place behind a row, not a number; good for other bounds of the same statement, too."""
        head = hashlib.md5(st.cql.encode()).digest()[:8]
        return head + (struct.pack(">q", row["\0token"]) + self.row_id(st, row) if isinstance(row, dict) else bytes(16))

    def position(self, st, rows, state):
        if len(state) != 24 or state[:8] != hashlib.md5(st.cql.encode()).digest()[:8]:
            raise CqlError(PROTOCOL_ERROR, "Invalid value for the paging state")
        if state[8:] == bytes(16) or (rows and not isinstance(rows[0], dict)):
            return 0
        token = struct.unpack(">q", state[8:16])[0]
        i = bisect.bisect_left(rows, token, key=lambda r: r["\0token"])
        while i < len(rows) and rows[i]["\0token"] == token:
            i += 1
            if self.row_id(st, rows[i - 1]) == state[16:]:
                return i
        return i

    def rows(self, conn, req, st):
        if len(req.values) != len(st.markers):
            raise CqlError(INVALID, "Invalid amount of bind variables")
        rows = st.run(req.values)
        start = self.position(st, rows, req.state) if req.state is not None else 0
        size = req.page_size if req.page_size and req.page_size > 0 else len(rows) or 1
        if self.ring.page_rows and req.page_size:
            size = min(size, self.ring.page_rows)
        end, forced = start + size, False
        if "page" in req.mod:
            end, forced = start + req.mod["page"], True
        part = rows[start:end]
        state = None
        if forced or end < len(rows) or (end == len(rows) and req.page_size and rows):
            if req.page_size or forced:
                state = self.paging_state(st, rows[min(end, len(rows)) - 1] if end and rows else None)
        req.rows = len(part)
        flags, head = 1, b""
        if state:
            flags |= 2
            head += w_bytes(state)
        changed = conn.version >= 5 and req.op == "EXECUTE" and req.metadata_id != self.metadata_id(st)
        if changed:
            flags |= 8
            head += w_short_bytes(self.metadata_id(st))
        if req.flags & 2 and not changed:
            flags = flags & ~1 | 4
        else:
            head += self.metadata(st, conn.version)
        body = bytearray(struct.pack(">iii", 2, flags, len(st.outputs)) + head + struct.pack(">i", len(part)))
        for r in part:
            for i, (_, _, get) in enumerate(st.outputs):
                body += w_bytes(get(r) if get else r[i])
        conn.answer(req, OP["RESULT"], bytes(body))


# ---------------------------------------------------------------- ring

class Ring:
    """
    versions     protocol versions that are final; extra_versions are only announced ("5/v5-beta")
    auth         (user, password), or None for no authentication
    tls          an ssl.SSLContext of a server
    latency      seconds added to every answer
    page_rows    no page has more rows than this, whatever is asked for
    raw          function(socket): this server is not Cassandra
    dribble      send answers in pieces of so many bytes
    """

    def __init__(self, nodes=1, versions=(4, 5), auth=None, tls=None, compression=("snappy", "lz4"), latency=0,
                 tokens=None, release="5.0.4", dcs=None, racks=None, raw=None, page_rows=None, dribble=None,
                 authenticator="org.apache.cassandra.auth.PasswordAuthenticator", extra_versions=("6/v6-beta",),
                 partitioner="org.apache.cassandra.dht.Murmur3Partitioner", vnodes=4, first_address=1):
        self.versions, self.auth, self.tls, self.compression = set(versions), auth, tls, list(compression)
        self.latency, self.release, self.raw, self.page_rows, self.dribble = latency, release, raw, page_rows, dribble
        self.authenticator, self.partitioner, self.extra_versions = authenticator, partitioner, list(extra_versions)
        self.schema_version, self.salt, self.conn_count, self.cluster = uuid.uuid4(), 0, 0, "Flow test"
        self.keyspaces, self.tables, self.types, self.views = {}, {}, {}, []
        self.clock_ahead = 0  # seconds
        self.ever_prepared, self.rules, self.requests, self.tls_errors, self.faults = {}, [], [], [], []
        self.changed, self.trips, self.answers, self.logged_in_trip, self.port = threading.Condition(), 0, 0, 0, 0
        step = 2**64 // (nodes * vnodes)
        self.nodes = []
        for n in range(nodes):
            own = tokens[n] if tokens else [MIN_TOKEN + 12345 + step * (v * nodes + n) for v in range(vnodes)]
            self.nodes.append(Node(self, n, "127.0.0.%d" % (first_address + n), own,
                                   dcs[n] if dcs else "dc1", racks[n] if racks else "rack1"))
        self.keyspace("system", cls="LocalStrategy")
        self.keyspace("system_schema", cls="LocalStrategy")

    # ---- description

    def keyspace(self, name, rf=1, cls="SimpleStrategy", **dcs):
        replication = {"class": "org.apache.cassandra.locator." + cls}
        if cls == "SimpleStrategy":
            replication["replication_factor"] = str(rf)
        replication.update({dc: str(n) for dc, n in dcs.items()})
        self.keyspaces[name] = replication
        return self

    def type(self, ks, name, **fields):
        udts = self.types.setdefault(ks, {})
        udts[name] = Type(name, [parse_type(t, udts) for t in fields.values()], list(fields), ks)
        return self

    def table(self, ks, name, columns, key, clustering=(), static=(), rows=(), **more):
        self.keyspaces.get(ks) or self.keyspace(ks)
        t = self.tables[ks, name] = Table(ks, name, columns, key, clustering, static, self.types.get(ks), **more)
        return t.put(rows)

    def forget(self, match):
        """Every node forgets the prepared statements that match."""
        for node in self.nodes:
            node.prepared = {i: st for i, st in node.prepared.items() if not re.search(match, st.cql)}
        self.schema_version = uuid.uuid4()

    def on(self, op, match=None, do=None, times=1, skip=0, where=None):
        """The next rule for requests of this opcode whose statement matches the pattern: see Rule."""
        rule = Rule(op, match, do, times, skip, where)
        self.rules.append(rule)
        return rule

    def matching(self, node, req):
        with self.changed:
            return [r for r in self.rules + node.rules if r.takes(req)]

    # ---- life

    def start(self):
        for _ in range(50):
            try:
                self.port = 0
                for node in self.nodes:
                    node.kept = Port(node.address, self.port)
                    self.port = node.kept.number
                break
            except OSError:  # somebody has it on another node's address
                pass
        else:
            raise OSError("no free port on all addresses")
        for node in self.nodes:
            node.up()
        return self

    def stop(self):
        for node in self.nodes:
            node.down()

    __enter__ = start

    def __exit__(self, *_):
        self.stop()

    @property
    def address(self):
        return self.nodes[0].address

    def next_conn(self):
        with self.changed:
            self.conn_count += 1
            return self.conn_count

    # ---- what was seen

    def record(self, req):
        """req.trip: 1 + the round trips that were complete when it came; meaningful with latency."""
        with self.changed:
            req.trip = self.trips + 1
            self.requests.append(req)
            self.changed.notify_all()

    def wait_for(self, predicate, timeout=60):
        """Waits until predicate(requests) is true."""
        with self.changed:
            if not self.changed.wait_for(lambda: predicate(self.requests), timeout):
                raise AssertionError("the peer did not see it within %s s: %r" % (timeout, self.requests[-5:]))

    def seen(self, op, match=None):
        return [r for r in list(self.requests) if r.op == op and (not match or re.search(match, r.cql or ""))]

    def pages(self, match):
        """The requests that asked for rows of a table: EXECUTE or QUERY."""
        return [r for r in list(self.requests) if r.op in ("EXECUTE", "QUERY") and re.search(match, r.cql or "")]

    def push(self, kind, *strings, inet=None):
        """An EVENT to every connection that registered for it."""
        body = w_string(kind) + b"".join(w_string(s) for s in strings)
        if inet:
            body += w_inetaddr(inet) + struct.pack(">i", self.port)
        sent = 0
        for node in self.nodes:
            for conn in list(node.conns):
                if kind in conn.events:
                    data = conn.envelope(-1, OP["EVENT"], body)
                    conn.raw(segments(data, conn.lz4 is not None) if conn.framed else data)
                    sent += 1
        return sent

    def owner(self, token):
        """The node whose range the token is in (first replica)."""
        ring = sorted((t, n.index) for n in self.nodes for t in n.tokens)
        i = bisect.bisect_left([t for t, _ in ring], token)
        return self.nodes[ring[i % len(ring)][1]]

    # ---- the system tables

    def find_table(self, node, ks, name):
        if ks not in self.keyspaces and ks not in ("system", "system_schema", "system_virtual_schema"):
            raise CqlError(INVALID, "keyspace %s does not exist" % ks if ks else
                           "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename")
        if (ks, name) in self.tables:
            return self.tables[ks, name]
        make = getattr(self, "make_" + name, None) if ks.startswith("system") else None
        modern = int(self.release.split(".")[0]) >= 4
        if not make or (not modern and (name == "peers_v2" or ks == "system_virtual_schema")):
            raise CqlError(INVALID, "table %s does not exist" % name)
        return make(node, ks)

    def make_local(self, node, ks):
        t = Table("system", "local", "key text, bootstrapped text, broadcast_address inet, broadcast_port int, cluster_name "
                  "text, cql_version text, data_center text, gossip_generation int, host_id uuid, listen_address inet, "
                  "listen_port int, native_protocol_version text, partitioner text, rack text, release_version text, "
                  "rpc_address inet, rpc_port int, schema_version uuid, tokens set<text>", "key")
        return t.put([dict(key="local", bootstrapped="COMPLETED", broadcast_address=node.address, broadcast_port=7000,
                           cluster_name=self.cluster, cql_version="3.4.7", data_center=node.dc, gossip_generation=1,
                           host_id=node.host_id, listen_address=node.address, listen_port=7000,
                           native_protocol_version=str(max(self.versions)), partitioner=self.partitioner, rack=node.rack,
                           release_version=self.release, rpc_address=node.address, rpc_port=self.port,
                           schema_version=self.schema_version, tokens=[str(x) for x in node.tokens])])

    def make_peers_v2(self, node, ks):
        t = Table("system", "peers_v2", "peer inet, peer_port int, data_center text, host_id uuid, native_address inet, "
                  "native_port int, preferred_ip inet, preferred_port int, rack text, release_version text, "
                  "schema_version uuid, tokens set<text>", "peer", "peer_port")
        return t.put([dict(peer=n.address, peer_port=7000, data_center=n.dc, host_id=n.host_id, native_address=n.address,
                           native_port=self.port, rack=n.rack, release_version=self.release,
                           schema_version=self.schema_version, tokens=[str(x) for x in n.tokens])
                      for n in self.nodes if n is not node])

    def make_peers(self, node, ks):
        t = Table("system", "peers", "peer inet, data_center text, host_id uuid, preferred_ip inet, rack text, "
                  "release_version text, rpc_address inet, schema_version uuid, tokens set<text>", "peer")
        return t.put([dict(peer=n.address, data_center=n.dc, host_id=n.host_id, rack=n.rack, release_version=self.release,
                           rpc_address=n.address, schema_version=self.schema_version, tokens=[str(x) for x in n.tokens])
                      for n in self.nodes if n is not node])

    def make_keyspaces(self, node, ks):
        t = Table(ks, "keyspaces", "keyspace_name text, durable_writes boolean, replication frozen<map<text, text>>",
                  "keyspace_name")
        if ks == "system_virtual_schema":
            return t
        return t.put([(name, True, r) for name, r in self.keyspaces.items()])

    def make_tables(self, node, ks):
        t = Table(ks, "tables", "keyspace_name text, table_name text, cdc boolean, comment text, compaction frozen<map<text, "
                  "text>>, default_time_to_live int, extensions frozen<map<text, blob>>, flags frozen<set<text>>, "
                  "gc_grace_seconds int, id uuid", "keyspace_name", "table_name")
        if ks == "system_virtual_schema":
            return t
        return t.put([(x.ks, x.name, False, "", {"class": "SizeTieredCompactionStrategy"}, 0, {}, x.flags, 864000, x.id)
                      for x in self.tables.values() if x not in self.views])

    def make_columns(self, node, ks):
        t = Table(ks, "columns", "keyspace_name text, table_name text, column_name text, clustering_order text, "
                  "column_name_bytes blob, kind text, position int, type text", "keyspace_name", ["table_name", "column_name"])
        if ks == "system_virtual_schema":
            return t
        return t.put([(x.ks, x.name, c.name, c.order, c.name.encode(), c.kind, c.position, c.type.text())
                      for x in self.tables.values() for c in x.columns.values()])

    def make_types(self, node, ks):
        t = Table(ks, "types", "keyspace_name text, type_name text, field_names frozen<list<text>>, "
                  "field_types frozen<list<text>>", "keyspace_name", "type_name")
        return t.put([(k, u.name, u.fields, [a.text() for a in u.args]) for k, us in self.types.items() for u in us.values()])

    def make_views(self, node, ks):
        t = Table(ks, "views", "keyspace_name text, view_name text, base_table_id uuid, base_table_name text, "
                  "include_all_columns boolean, where_clause text, id uuid", "keyspace_name", "view_name")
        return t.put([(v.ks, v.name, v.id, v.name, True, "", v.id) for v in self.views])

    def make_indexes(self, node, ks):
        return Table(ks, "indexes", "keyspace_name text, table_name text, index_name text, kind text, "
                     "options frozen<map<text, text>>", "keyspace_name", ["table_name", "index_name"])

    def make_dropped_columns(self, node, ks):
        return Table(ks, "dropped_columns", "keyspace_name text, table_name text, column_name text, dropped_time timestamp, "
                     "kind text, type text", "keyspace_name", ["table_name", "column_name"])

    def make_size_estimates(self, node, ks):
        t = Table("system", "size_estimates", "keyspace_name text, table_name text, range_start text, range_end text, "
                  "mean_partition_size bigint, partitions_count bigint", "keyspace_name",
                  ["table_name", "range_start", "range_end"])
        return t.put([(x.ks, x.name, str(a), str(b), mean, count) for x in self.tables.values() for a, b, mean, count in x.estimates])

    def make_triggers(self, node, ks):
        return Table(ks, "triggers", "keyspace_name text, table_name text, trigger_name text, options frozen<map<text, text>>",
                     "keyspace_name", ["table_name", "trigger_name"])

    def make_functions(self, node, ks):
        return Table(ks, "functions", "keyspace_name text, function_name text, argument_types frozen<list<text>>",
                     "keyspace_name", ["function_name", "argument_types"])

    def make_aggregates(self, node, ks):
        return Table(ks, "aggregates", "keyspace_name text, aggregate_name text, argument_types frozen<list<text>>",
                     "keyspace_name", ["aggregate_name", "argument_types"])
