"""A scan under `versioning: sequence`, against the real servers: others write the table and the index meanwhile, and at the end the index
is what the table is. Tables of one row, some rows, and many rows per partition, the last in mixed order."""
import random
import subprocess
import threading

import pytest
from direct_live import counts_of, what_to_sync
from test_serve_documents import Proxy

SHAPES = {"flat": (2000, 1), "some": (400, 5), "wide": (3, 700)}


class Table:
    """p text, a int, b text, v text; the key is p, or (p, a DESC, b ASC). `rows` is what is in it."""

    def __init__(self, db, name, partitions, of_each):
        self.name, self.flat, self.db, self.rows = name, of_each == 1, db, {}
        key = "p" if self.flat else "p, a, b"
        order = "" if self.flat else " WITH CLUSTERING ORDER BY (a DESC, b ASC)"
        self.columns = key.split(", ")
        types = {"p": "text", "a": "int", "b": "text"}
        db.execute(f"CREATE TABLE {name} ({', '.join(f'{c} {types[c]}' for c in self.columns)}, v text, PRIMARY KEY ({key})){order}", timeout=60)
        marks = ", ".join("?" for _ in self.columns)
        self.insert = db.prepare(f"INSERT INTO {name} ({key}, v) VALUES ({marks}, ?)")
        self.remove = db.prepare(f"DELETE FROM {name} WHERE " + " AND ".join(f"{c} = ?" for c in self.columns))
        self.of_each, self.keys = of_each, [self.key(i, j) for i in range(partitions) for j in range(of_each)]

    def key(self, i, j):
        return (f"p{i}", j // 7, f"b{j % 7}")[:len(self.columns)]

    def fill(self):
        """As in the beginning."""
        for key in set(self.rows) - set(self.keys):
            self.db.execute(self.remove, key)
        for first in range(0, len(self.keys), 200):
            for f in [self.db.execute_async(self.insert, [*key, "1"]) for key in self.keys[first:first + 200]]:
                f.result()
        self.rows = {key: "1" for key in self.keys}

    def put(self, key, v):
        self.db.execute(self.insert, [*key, v])
        self.rows[key] = v

    def delete(self, key):
        self.db.execute(self.remove, key)
        self.rows.pop(key, None)

    def id(self, key):
        return ":".join(str(part) for part in key)

    def document(self, key):
        return {**dict(zip(self.columns, key)), "v": self.rows[key]}

    def documents(self):
        return {self.id(key): self.document(key) for key in self.rows}


@pytest.fixture(scope="module", params=SHAPES)
def table(request, db, keyspace):
    return Table(db, f"{keyspace}.{request.param}", *SHAPES[request.param])


@pytest.fixture
def filled(table, elastic, index):
    table.fill()
    elastic.create(index, settings={"number_of_shards": 2})
    return table


@pytest.fixture
def co_writer(filled, elastic, index):
    """Writes a row, then its document, without any version: as an application does."""
    def write(key, v):
        if v is None:
            filled.delete(key)
            elastic.call("DELETE", f"/{index}/_doc/{filled.id(key)}")
        else:
            filled.put(key, v)
            elastic.ok("PUT", f"/{index}/_doc/{filled.id(key)}", filled.document(key))
    return write


def run(program, table, index, url, folder, cassandra_args, *more):
    return program.run(*what_to_sync(folder, table.name, index, "sequence"), *cassandra_args, "--elastic-url", url, "--json", "--workers", 2, *more,
                       timeout=120)


def test_others_between_the_steps_of_a_page(program, filled, co_writer, elastic, index, tmp_path, cassandra_args):
    """Behind the look: rows go and come. Behind the reads: both stores change. Behind the creates: rows go."""
    middle = len(filled.keys) // 2
    keys = filled.keys[middle:middle + 100] if not filled.flat else random.Random(1).sample(filled.keys, 100)

    def other(step, n):
        if (step, n) == ("_mget", 1):
            for key in keys[:10]:
                filled.delete(key)
            for key in keys[10:20]:
                co_writer(key, "2")
        elif (step, n) == ("_bulk", 1):
            for key in keys[20:30]:
                co_writer(key, "3")
            for key in keys[30:40]:
                co_writer(key, None)
        elif step == "_bulk" and n == 2:
            for key in keys[40:50]:
                co_writer(key, "4")
            for key in keys[50:60]:
                co_writer(key, None)
    proxy = Proxy(elastic.url, other).start()
    try:
        c = counts_of(run(program, filled, index, proxy.url, tmp_path, cassandra_args))
    finally:
        proxy.stop()
    assert elastic.docs(index, 5000) == filled.documents()
    assert c["failed"] == 0
    c = counts_of(run(program, filled, index, elastic.url, tmp_path, cassandra_args))
    assert c["rows"] == c["unchanged"] == len(filled.rows)


@pytest.mark.parametrize("seed", [1, 2] + [pytest.param(s, marks=pytest.mark.long) for s in range(3, 13)])
def test_others_at_any_time(program, filled, co_writer, elastic, index, tmp_path, cassandra_args, seed):
    r, stop = random.Random(seed), threading.Event()
    for key in r.sample(filled.keys, len(filled.keys) // 2):
        elastic.ok("PUT", f"/{index}/_doc/{filled.id(key)}", filled.document(key)) if r.random() < 0.1 else None

    def write():
        while not stop.is_set():
            if r.random() < 0.3:
                key = filled.key(r.randrange(400), r.randrange(2 * filled.of_each))
            else:
                key = r.choice(filled.keys)
            co_writer(key, None if r.random() < 0.3 else str(r.randrange(1000)))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for again in range(3):
            c = counts_of(run(program, filled, index, elastic.url, tmp_path, cassandra_args, "--fresh"))
            assert c["failed"] == 0, c
    finally:
        stop.set()
        writer.join()
    assert elastic.docs(index, 5000) == filled.documents()


@pytest.mark.parametrize("seed", [1, 2, 3] + [pytest.param(s, marks=pytest.mark.long) for s in range(4, 24)])
def test_killed_and_resumed(program, filled, elastic, index, tmp_path, cassandra_args, seed):
    r = random.Random(seed)
    command = [*what_to_sync(tmp_path, filled.name, index, "sequence"), *cassandra_args, "--elastic-url", elastic.url, "--json",
               "--workers", r.choice([1, 2, 4]), "--memory", "8MiB", "--progress", "none"]
    for _ in range(3):
        with program.start(*command) as running:
            try:
                result = running.wait(r.uniform(0.02, 0.8))
                break
            except subprocess.TimeoutExpired:
                running.kill()
    else:
        result = program.run(*command)
    c = counts_of(result)
    assert c["rows"] == c["documents"] == len(filled.rows) and c["failed"] == 0, c
    assert elastic.docs(index, 5000) == filled.documents()
