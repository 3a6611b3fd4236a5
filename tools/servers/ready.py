#!/usr/bin/python3
"""Waits until a server answers: ready.py cassandra|elasticsearch HOST PORT PID SECONDS.

Cassandra is ready when its default user can log in (the port opens before that), Elasticsearch when its health is
yellow or green. Exit 1: the time is over; 2: the process has ended.
"""
import os
import socket
import struct
import sys
import time
import urllib.request


def cassandra(host, port):
    def call(opcode, body):
        sock.sendall(struct.pack(">BBhBi", 4, 0, 0, opcode, len(body)) + body)
        head = read(9)
        read(struct.unpack(">i", head[5:9])[0])
        return head[4]

    def read(size):
        data = b""
        while len(data) < size:
            part = sock.recv(size - len(data))
            if not part:
                raise OSError("closed")
            data += part
        return data

    with socket.create_connection((host, port), 2) as sock:
        sock.settimeout(5)
        authenticate = call(0x01, b"\0\1" + b"\0\x0bCQL_VERSION" + b"\0\x053.0.0")
        token = b"\0cassandra\0cassandra"
        return authenticate == 0x03 and call(0x0F, struct.pack(">i", len(token)) + token) == 0x10


def elasticsearch(host, port):
    url = f"http://{host}:{port}/_cluster/health?wait_for_status=yellow&timeout=1s"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
        return answer.status == 200


def main(kind, host, port, pid, seconds):
    probe = {"cassandra": cassandra, "elasticsearch": elasticsearch}[kind]
    deadline = time.monotonic() + float(seconds)
    while time.monotonic() < deadline:
        try:
            if probe(host, int(port)):
                return 0
        except (OSError, struct.error):
            pass
        if not os.path.exists(f"/proc/{pid}"):
            return 2
        time.sleep(0.1)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
