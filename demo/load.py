#!/usr/bin/python3
"""Makes Sunbird's keyspaces and fills them with the demo's rows; what they held before is gone.

    load.py [--host 127.0.0.1] [--port 19042] [--user cassandra] [--password-file FILE] [--batches N] [--users N] …

As a module: load(session, {"batches": 100}) returns {table: rows written}.
"""
import argparse
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "test/lib")]

import data  # noqa: E402


def statements(text):
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [part.strip() for part in "\n".join(lines).split(";") if part.strip()]


def schema(session):
    for statement in statements((HERE / "schema.cql").read_text()):
        session.execute(statement, timeout=60)


def insert(session, table, columns, rows, concurrency=120):
    """Writes rows by a prepared statement, many at once; returns how many. A null is written as unset."""
    from cassandra.concurrent import execute_concurrent_with_args
    from cassandra.query import UNSET_VALUE
    prepared = session.prepare(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})")
    written = 0

    def values():
        nonlocal written
        for row in rows:
            written += 1
            yield [UNSET_VALUE if value is None or value == [] or value == {} else value for value in row]

    execute_concurrent_with_args(session, prepared, values(), concurrency=concurrency, raise_on_first_error=True)
    return written


def load(session, sizes=None, only=None, say=lambda line: None):
    """Schema and rows. `only`: names of tables; the others stay empty."""
    schema(session)
    counts = {}
    for table, columns, rows in data.tables(sizes):
        session.execute(f"TRUNCATE {table}", timeout=60)
        if only is None or table in only:
            begin = time.monotonic()
            counts[table] = insert(session, table, columns, rows)
            say(f"{table:<34} {counts[table]:>6} rows in {time.monotonic() - begin:.1f} s")
    return counts


def main():
    import servers
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--user")
    parser.add_argument("--password-file")
    for name, size in data.SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size, help=f"how many (default {size})")
    args = parser.parse_args()
    at = servers.address("cassandra")
    at = servers.Address(args.host or at.host, args.port or at.port)
    password = pathlib.Path(args.password_file).read_text().strip() if args.password_file else None
    cluster = servers.cluster(at, args.user, password)
    try:
        load(cluster.connect(), {name: getattr(args, name) for name in data.SIZES}, say=print)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
