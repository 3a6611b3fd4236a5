"""The peers themselves: what they compute must be right, or the other tests mean nothing."""
import json
import pathlib
import socket

import peer_cql
import peer_http
import pytest

VECTORS = json.loads((pathlib.Path(__file__).resolve().parents[1] / "data" / "cql-vectors.json").read_text())


def test_murmur3_agrees_with_the_captured_tokens():
    for v in VECTORS["tokens"]:
        assert peer_cql.murmur3(bytes.fromhex(v["key"])) == v["token"], v


def test_checksums_agree_with_the_captured_ones():
    for v in VECTORS["crc24"]:
        assert peer_cql.crc24(bytes.fromhex(v["header"])).hex() == v["crc24_on_wire"]
    for v in VECTORS["crc32"]:
        assert peer_cql.crc32(bytes.fromhex(v["payload"])).hex() == v["crc32_on_wire"]


def test_segments_of_a_real_server_are_read():
    read = 0
    for v in VECTORS["v5_frames"]:
        for got in v["received"]:
            if "wire" in got and "lz4" in v["name"].lower() or "wire" in got and "small" in v["name"]:
                wire = bytes.fromhex(got["wire"])
                payload, used = peer_cql.segment_take(wire, "lz4" in v["name"].lower())
                assert used == len(wire) and payload[0] == 0x85
                read += 1
    assert read >= 2


def test_lz4_goes_there_and_back():
    for n in (0, 1, 14, 15, 16, 269, 270, 271, 5000):
        data = bytes(i * 7 & 255 for i in range(n))
        assert peer_cql.lz4_decompress(peer_cql.lz4_compress(data), n) == data


def test_token_ranges_follow_the_server():
    t = peer_cql.Ring().table("k", "t", "p int", "p", rows=[(i,) for i in range(100)])
    rows = lambda text, *v: len(peer_cql.Select(text, lambda k, n: t).run([peer_cql.encode(peer_cql.Type("bigint"), x) for x in v]))
    where = "SELECT p FROM k.t WHERE token(p) "
    assert rows(where + "> ?", -2**63) == rows(where + "<= ?", -2**63) == 100
    assert rows(where + "> ? AND token(p) <= ?", 5, 5) == rows(where + "> ? AND token(p) <= ?", 5, -5) == 0
    assert rows(where + "> ? AND token(p) <= ?", -2**63, 0) + rows(where + "> ? AND token(p) <= ?", 0, 2**63 - 1) == 100


def nobody_gets(port):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 60)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))


def test_a_server_that_is_down_keeps_its_port():
    with peer_http.SyncApi() as api:
        api.stop()
        nobody_gets(api.port)
        api.start()
        socket.create_connection(("127.0.0.1", api.port), 60).close()


def test_a_node_that_is_down_keeps_its_port():
    with peer_cql.Ring(nodes=2) as ring:
        ring.nodes[0].down()
        nobody_gets(ring.port)
        ring.nodes[0].up()
        socket.create_connection(("127.0.0.1", ring.port), 60).close()
