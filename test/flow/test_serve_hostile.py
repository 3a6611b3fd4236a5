"""serve: clients that mean harm, or know no better: the right status, no crash, nothing lost of what others want."""
import json
import re
import socket
import threading
import time

import pytest
from program import BIN
from serving import PATHS, cassandra, elastic, location, locations, request_of, serve  # noqa: F401

HEAD = b"Host: x\r\nContent-Type: application/json\r\n"
BODY = json.dumps(request_of("location", ["l"])).encode()
SANITIZED = re.search(rb"__[at]san_init", BIN.read_bytes())


def raw(serve, *pieces, timeout=60):  # noqa: F811
    """What came until the server closed."""
    got = b""
    with socket.create_connection(("127.0.0.1", serve.port), timeout=timeout) as s:
        try:
            for piece in pieces:
                s.sendall(piece)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was told enough
        try:
            while piece := s.recv(65536):
                got += piece
        except ConnectionResetError:
            pass
    return got


def request(line=b"POST /v1/data/sync HTTP/1.1", *headers, body=BODY, length=None):
    head = b"\r\n".join([line, *headers, b"Content-Length: %d" % (len(body) if length is None else length)])
    return head + b"\r\n" + HEAD + b"Connection: close\r\n\r\n" + body


def chunked(body):
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


POST = b"POST /v1/data/sync HTTP/1.1\r\n" + HEAD
REQUESTS = {
    # Headers
    "many_headers": (b"GET /health/live HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5000)) + b"\r\n", 431),
    "long_line": (b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "nul_in_path": (request(b"POST /v1/data/sync%00x HTTP/1.1"), 404),
    "escaped_path": (request(b"POST /v1/data/%73ync HTTP/1.1"), 200),
    "up_and_down": (request(b"POST /v1/data/../data/sync HTTP/1.1"), 404),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n", None),
    "http_0.9": (b"GET /health/live\r\n\r\n", 400),
    "http_1.0": (b"POST /v1/data/sync HTTP/1.0\r\n" + HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY, 200),
    "http_2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    # Methods
    "head": (b"HEAD /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
    "head_of_a_call": (b"HEAD /v1/data/sync HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "options": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "trace": (b"TRACE /v1/data/sync HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "connect": (b"CONNECT a:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "unknown": (request(b"SYNC /v1/data/sync HTTP/1.1"), 404),
    "put": (request(b"PUT /v1/data/sync HTTP/1.1"), 404),
    # Where does the body end? What a proxy and we could see otherwise is refused.
    "two_lengths": (request(POST[:-2].split(b"\r\n")[0], b"Content-Length: 3"), 400),
    "length_and_chunked": (request(POST.split(b"\r\n")[0], b"Transfer-Encoding: chunked", body=chunked(BODY)), 400),
    "two_codings": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunked(BODY), 400),
    "other_coding": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked(BODY), 400),
    "blank_before_colon": (POST + b"Transfer-Encoding : chunked\r\n\r\n" + chunked(BODY), 400),
    "negative_length": (request(length=-5), 400),
    "endless_length": (POST + b"Content-Length: 99999999999999999999999999\r\n\r\n", 413),
    "chunk_too_large": (POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nabc", 413),
    "negative_chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc", 400),
    # Bodies
    "nul": (request(body=b"\0" + BODY), 400),
    "nul_in_a_name": (request(body=BODY.replace(b'"location"', b'"location\\u0000"')), 400),
    "half_a_surrogate": (request(body=BODY.replace(b'"l"', b'"\xed\xa0\x80"')), 400),
    "deep_ids": (request(body=BODY.replace(b'"l"', b"[" * 150 + b"]" * 150)), 200),
    "deeper_ids": (request(body=BODY.replace(b'"l"', b"[" * 100000 + b"]" * 100000)), 400),
    "blanks": (request(body=b" " * 1000000), 500),
    "two_bodies": (request(body=BODY + BODY), 400),
    "no_object": (request(body=b"7"), 500),
    "repeated_keys": (request(body=BODY.replace(b'"objectType": ', b'"objectType": "batch", "objectType": ')), 200),
    "long_number": (request(body=BODY.replace(b'"l"', b"9" * 500000 + b", 1e999999999")), 200),
    "gzip": (request(POST.split(b"\r\n")[0], b"Content-Encoding: gzip", body=b"\x1f\x8b\x08" + b"\0" * 40), 400),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request(serve, cassandra, elastic, name):  # noqa: F811
    """And another client is served, as if nothing had been."""
    locations(cassandra, "l", "other")
    serve.start()
    data, status = REQUESTS[name]
    got = raw(serve, data)
    assert re.match(rb"HTTP/1.1 (\d+) ", got)[1] == b"%d" % status if status else got == b"", got[:300]
    assert status == 200 or b'"response":"SUCCESS"' not in got, "nothing of it is taken"
    assert not name.startswith("head") or got.endswith(b"\r\n\r\n"), "no body"
    assert serve.sync("location", ["other"])["esSyncResponse"] == {"other": True}
    assert serve.stop().code == 0


def test_what_comes_behind_a_body_that_has_no_plain_end(serve, cassandra):  # noqa: F811
    """The classic: to a proxy the second request is the first one's body."""
    locations(cassandra, "l")
    serve.start()
    inner = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    for head in (b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n" % (5 + len(inner)),
                 b"Content-Length: %d\r\nContent-Length: 0\r\n\r\n" % len(inner)):
        got = raw(serve, POST + head + inner)
        assert got.startswith(b"HTTP/1.1 400 ") and got.count(b"HTTP/1.1 ") == 1 and b"cass2es_" not in got, got[:500]


def test_pipelined(serve, cassandra):  # noqa: F811
    """Each is answered, in order; those behind a broken one are not."""
    locations(cassandra, "l")
    serve.start()
    one = request().replace(b"Connection: close\r\n", b"")
    got = raw(serve, one * 300, b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
    assert got.count(b'"SUCCESS"') == 600 and got.count(b"HTTP/1.1 404 ") == 1
    assert raw(serve, one, b"rubbish\r\n\r\n", one).count(b'"response":"SUCCESS"') == 1
    assert serve.idle()["calls_taken_total"] == 301


def test_a_body_without_end(serve):  # noqa: F811
    """Chunk after chunk: it is cut in time, and takes no memory."""
    serve.start("--serve-max-body", "64KiB", "--serve-client-timeout", "2s")
    before = serve.server.peak_kib()
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", serve.port), timeout=60) as s:
        s.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):
            while time.monotonic() < begin + 15:
                s.sendall(chunk)
                time.sleep(0.01)
    assert time.monotonic() - begin < 10
    if not SANITIZED:
        assert serve.server.peak_kib() - before < 4 << 10, "64 KiB, and what a connection takes"
    serve.until(lambda: serve.metrics()["connections"] == 1)


def test_an_answer_that_nobody_takes(serve, cassandra):  # noqa: F811
    """A client that asks and never reads is cut, too."""
    serve.start("--serve-client-timeout", "1s")
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(0.5)
        s.connect(("127.0.0.1", serve.port))
        try:
            for _ in range(5000):
                s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        except OSError:
            pass
        serve.until(lambda: serve.metrics()["connections_cut_total"] >= 1 and serve.metrics()["connections"] == 1)


def test_ids_without_number(serve, cassandra):  # noqa: F811
    """As many as the queue takes, at once, twice: the second call hears 429; lists of a filter are bounded as well."""
    most = 20000 if SANITIZED else 100000  # what is many for a sanitizer takes half a minute
    ids = ["x%d" % n for n in range(most)]
    serve.start("--serve-threads", 1, "--serve-queue-ids", most)
    statuses = []
    calls = [threading.Thread(target=lambda: statuses.append(serve.call("location", ids).status)) for _ in range(3)]
    for c in calls:
        c.start()
    for c in calls:
        c.join()
    assert sorted(statuses) == [200, 429, 429]
    serve.until(lambda: serve.metrics()["queue_ids"] == 0, 100)
    assert serve.metrics()["ids_missing_total"] == most
    result = serve.sync("location", [{"id": ids}, {"id": ["x"] * most}, "y" * 1000000, {"n" * 100000: 1}])
    assert set(result["esSyncResponse"].values()) == {False}
    assert serve.sync("location", ["z"])["esSyncResponse"] == {"z": False}
    if not SANITIZED:
        assert serve.server.peak_kib() < 200 << 10
