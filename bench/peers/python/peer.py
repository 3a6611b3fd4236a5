#!/usr/bin/python3
"""The Python peer: every row of a table as a document into Elasticsearch.

    peer.py HOST:PORT USER PASSWORD KEYSPACE.TABLE URL INDEX WORKERS DOCS_PER_BULK

The driver with its C extensions, rows as tuples, elasticsearch-py's streaming_bulk. One interpreter uses one core, so
the ranges are shared out among processes, one a core; each has WORKERS / cores threads, so that waiting for the one
server overlaps working for the other.
"""
import multiprocessing
import os
import queue
import sys
import threading
import time
import warnings
from collections.abc import Mapping

warnings.filterwarnings("ignore")
from cassandra.auth import PlainTextAuthProvider  # noqa: E402
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile  # noqa: E402
from cassandra.query import tuple_factory  # noqa: E402
from elasticsearch import Elasticsearch, JSONSerializer, helpers  # noqa: E402


class Serializer(JSONSerializer):
    def default(self, data):
        if isinstance(data, Mapping):  # the driver's own: a dict with keys of any type
            return {str(k): v for k, v in data.items()}
        return super().default(data)


def connect(args):
    host, port = args[0].rsplit(":", 1)
    profile = ExecutionProfile(row_factory=tuple_factory, request_timeout=60)
    cluster = Cluster([host], port=int(port), auth_provider=PlainTextAuthProvider(args[1], args[2]),
                      execution_profiles={EXEC_PROFILE_DEFAULT: profile})
    return cluster, cluster.connect()


def find_ranges(session):
    """The ranges between the ring's tokens, each in four parts."""
    ends = {-2**63, 2**63 - 1}
    for text in ("SELECT tokens FROM system.local", "SELECT tokens FROM system.peers"):
        for (tokens,) in session.execute(text):
            ends.update(int(t) for t in tokens or ())
    ends = sorted(ends)
    for a, b in zip(ends, ends[1:]):
        step = (b - a) // 4
        marks = [a + i * step for i in range(4)] + [b]
        yield from zip(marks, marks[1:])


def actions(session, select, names, key, index, todo):
    while True:
        try:
            ends = todo.get(timeout=1)
        except queue.Empty:
            return
        if ends is None:
            return
        asked = int(time.time() * 1e6)
        result = session.execute(select, ends)
        while True:
            rows = result.current_rows
            version = asked
            for row in rows:
                yield {"_index": index, "_id": str(row[key]), "version": version, "version_type": "external_gte",
                       "_source": {n: v for n, v in zip(names, row) if v is not None}}
            if not result.has_more_pages:
                break
            asked = int(time.time() * 1e6)
            result.fetch_next_page()


def work(args, todo, counts):
    cluster, session = connect(args)
    keyspace, table = args[3].split(".")
    meta = cluster.metadata.keyspaces[keyspace].tables[table]
    keys = ", ".join(c.name for c in meta.partition_key)
    select = session.prepare(f"SELECT * FROM {args[3]} WHERE token({keys}) > ? AND token({keys}) <= ?")
    select.fetch_size = docs = int(args[7])
    names = [c[2] for c in select.result_metadata]
    key = names.index(meta.partition_key[0].name)
    threads = max(1, int(args[6]) // len(os.sched_getaffinity(0)))
    client = Elasticsearch([args[4]], serializer=Serializer(), maxsize=threads, timeout=60)
    done = [0] * threads
    failed = []

    def run(n):
        try:
            send(n)
        except Exception as e:  # the process ends with it, not the thread alone
            failed.append(e)

    def send(n):
        for ok, item in helpers.streaming_bulk(client, actions(session, select, names, key, args[5], todo), chunk_size=docs,
                                               filter_path="errors,items.*.status"):
            if not ok:
                raise RuntimeError(item)
            done[n] += 1

    all_threads = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for t in all_threads:
        t.start()
    for t in all_threads:
        t.join()
    if failed:
        raise failed[0]
    counts.put(sum(done))
    cluster.shutdown()


def main():
    args = sys.argv[1:]
    if len(args) != 8:
        sys.exit(__doc__)
    cluster, session = connect(args)
    ranges = list(find_ranges(session))
    cluster.shutdown()
    todo, counts = multiprocessing.Queue(), multiprocessing.Queue()
    processes = [multiprocessing.Process(target=work, args=(args, todo, counts)) for _ in os.sched_getaffinity(0)]
    for r in ranges + [None] * int(args[6]) * 2:
        todo.put(r)
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    if any(p.exitcode for p in processes):
        os._exit(1)
    print("documents", sum(counts.get() for _ in processes), file=sys.stderr)
    todo.cancel_join_thread()


if __name__ == "__main__":
    main()
