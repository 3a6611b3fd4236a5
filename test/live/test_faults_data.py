"""What is wrong with the data, the disk or the table itself: the rest goes on, and the word is clear."""
import os
import re
import resource
import signal
import subprocess

import pytest
from direct_live import counts_of, documents, make_index, make_table, what_to_sync

ROWS = 3000
TOMBSTONES = 101_000  # a read that meets more than 100,000 is refused (tombstone_failure_threshold)
MODES = ["read_time", "sequence"]


@pytest.fixture(scope="module")
def table(db, keyspace):
    return make_table(db, f"{keyspace}.good", ROWS)


@pytest.fixture
def sync(program, elastic, index, cassandra_args, tmp_path):
    """sync(table, *flags, versioning=..., code=...): counts; sync.args(...): the command."""
    def args(table, *flags, versioning="read_time"):
        return [*what_to_sync(tmp_path, table, index, versioning), *cassandra_args, "--elastic-url", elastic.url, "--json", *flags]

    def run(table, *flags, versioning="read_time", code=0):
        run.result = program.run(*args(table, *flags, versioning=versioning), timeout=110)
        return counts_of(run.result, code)
    run.args = args
    return run


# --- tombstones --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def graves(db, keyspace):
    """A table of 40 partitions of 50 rows; partition 7 begins with more tombstones than a server reads."""
    from cassandra.query import BatchStatement, BatchType
    name = make_table(db, f"{keyspace}.graves", 2000, per_partition=50)
    db.execute(f"ALTER TABLE {name} WITH gc_grace_seconds = 864000", timeout=60)
    delete = db.prepare(f"DELETE FROM {name} WHERE p = 7 AND c = ?")
    for first in range(-TOMBSTONES, 0, 2000):
        batch = BatchStatement(BatchType.UNLOGGED)
        for c in range(first, min(first + 2000, 0)):
            batch.add(delete, (c,))
        db.execute(batch, timeout=60)
    return name


@pytest.mark.parametrize("mode", MODES)
def test_tombstones_in_the_way(program, sync, graves, elastic, index, mode):
    """The range is cut down to the one partition that can't be read; all others are there, but for the rest of the one before it, where
    a page ended inside that: it is told, too."""
    make_index(elastic, index)
    c = sync(graves, versioning=mode, code=1)
    want, docs = documents(2000, per_partition=50), elastic.docs(index, 5000)
    missing = {d["p"] for i, d in want.items() if i not in docs}
    assert all(want[i] == d for i, d in docs.items()) and len(docs) == c["rows"] == c["indexed"] and c["failed"] == 0, c
    assert 7 in missing and len(missing) == c["unread_ranges"] <= 2, (missing, c)
    assert "range_split" in sync.result.err
    listed = program.run("failures", "list", c["run"]).out
    assert re.search(r"unread_range", listed) and re.search("tombstone|READ_FAILURE|read failure", listed, re.I), listed


# --- one field is refused ----------------------------------------------------------------------------

@pytest.mark.parametrize("mode", MODES)
def test_a_field_is_refused(program, db, keyspace, sync, elastic, index, mode):
    """Those documents fail, their older ones stay and the summary says so; the others are written."""
    name = f"{keyspace}.refused_{mode}"
    db.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, v text)", timeout=60)
    insert = db.prepare(f"INSERT INTO {name} (id, v) VALUES (?, ?)")
    for i in range(300):
        db.execute(insert, (i, str(i)))
    elastic.create(index, {"properties": {"id": {"type": "integer"}, "v": {"type": "integer"}}}, {"gc_deletes": "1h"})
    assert sync(name, versioning=mode)["indexed"] == 300
    for i in range(300):
        db.execute(insert, (i, "no number" if i % 20 == 0 else str(i + 1000)))
    result = program.run(*[a for a in sync.args(name, versioning=mode) if a != "--json"])
    assert result.code == 1 and re.search(r"failed +15\b", result.out), result
    assert "older version, if any, is still in the index" in result.out and re.search(r"mapper_parsing_exception.*\[v\]", result.out), result.out
    assert "no number" not in result.out + result.err  # values are nobody's business
    assert elastic.docs(index) == {str(i): {"id": i, "v": str(i if i % 20 == 0 else i + 1000)} for i in range(300)}
    c = sync(name, versioning=mode, code=1)
    assert (c["rows"], c["failed"], c["indexed"] + c["unchanged"]) == (300, 15, 285)


# --- the journal's disk ------------------------------------------------------------------------------

def test_the_journals_disk_is_full(program, sync, table, elastic, index, tmp_path):
    """A file system of its own, filled while the run goes: exit 4 with its name; with room again, the same command goes on."""
    if os.geteuid() != 0:
        pytest.skip("needs root for a file system of its own; the limit of file sizes below does not")
    state = tmp_path / "small"
    state.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", state], capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        make_index(elastic, index)
        with program.start(*sync.args(table, "--state-dir", state, "--max-docs-per-s", 400, "--workers", 2)) as running:
            running.expect("event=start")
            with open(state / "ballast", "wb", buffering=0) as f:
                try:
                    while True:
                        f.write(bytes(4096))
                except OSError:
                    pass
            result = running.wait()
        assert result.code == 4, result
        assert str(state) in result.err and re.search("full|no space", result.err, re.I), result.err
        (state / "ballast").unlink()
        c = sync(table, "--state-dir", state, "--max-docs-per-s", 20000, "--workers", 2)
        assert c["rows"] == ROWS and c["failed"] == 0
        assert "event=resume" in sync.result.err
        assert elastic.docs(index, 5000) == documents(ROWS)
    finally:
        subprocess.run(["umount", "-l", state], check=True)


def test_a_file_may_not_grow(program, sync, table, elastic, index, tmp_path):
    """The same for everybody: a limit on the size of files (ulimit -f)."""
    make_index(elastic, index)
    state = tmp_path / "state"

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
    command = [program.path, *map(str, sync.args(table, "--state-dir", state, "--workers", 2))]
    done = subprocess.run(command, env=program.environment(), cwd=tmp_path, preexec_fn=limit, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4, (done.returncode, done.stdout, done.stderr)
    assert str(state) in done.stderr
    c = sync(table, "--state-dir", state, "--workers", 2)
    assert c["rows"] == ROWS and elastic.docs(index, 5000) == documents(ROWS)


# --- columns -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", MODES)
def test_a_column_is_added(program, db, keyspace, sync, elastic, index, mode):
    name = make_table(db, f"{keyspace}.added_{mode}", 1500)
    make_index(elastic, index)
    with program.start(*sync.args(name, "--max-docs-per-s", 500, "--workers", 2, versioning=mode)) as running:
        running.expect("event=start")
        while not elastic.count(index):
            pass
        db.execute(f"ALTER TABLE {name} ADD more text", timeout=60)
        db.execute(f"UPDATE {name} SET more = 'x' WHERE p = 1 AND c = 1")
        result = running.wait()
    c = counts_of(result)
    assert c["rows"] == 1500 and re.search("event=column_added column=more", result.err), result
    assert elastic.docs(index, 5000) == documents(1500)
    assert sync(name, versioning=mode)["rows"] == 1500
    assert elastic.get(index, "1:1")["_source"]["more"] == "x"


@pytest.mark.parametrize("mode", MODES)
def test_a_column_is_dropped(program, db, keyspace, sync, elastic, index, mode):
    """All documents are made anew without it, also those that were there."""
    name = make_table(db, f"{keyspace}.dropped_{mode}", 1500)
    make_index(elastic, index)
    with program.start(*sync.args(name, "--max-docs-per-s", 500, "--workers", 2, versioning=mode)) as running:
        running.expect("event=start")
        while not elastic.count(index):
            pass
        db.execute(f"ALTER TABLE {name} DROP text", timeout=60)
        result = running.wait()
    c = counts_of(result)
    assert re.search("event=column_dropped column=text", result.err), result
    assert c["rows"] == 1500
    assert elastic.docs(index, 5000) == {i: {k: v for k, v in d.items() if k != "text"} for i, d in documents(1500).items()}


def test_rows_come_and_go_under_the_run(program, db, keyspace, sync, elastic, index):
    """What was there from before the run's begin to after its end is in the index; what was deleted before its begin is not."""
    name = make_table(db, f"{keyspace}.moving", 2000)
    make_index(elastic, index)
    delete, insert = db.prepare(f"DELETE FROM {name} WHERE p = ? AND c = ?"), db.prepare(f"INSERT INTO {name} (p, c, n, text) VALUES (?, ?, ?, ?)")
    with program.start(*sync.args(name, "--max-docs-per-s", 1000, "--workers", 2)) as running:
        running.expect("event=start")
        n = 0
        while running.process.poll() is None and n < 3000:
            db.execute(delete, (n % 200, 5))
            db.execute(insert, (n % 200, 20 + n // 200, n, "new"))
            n += 1
        result = running.wait()
    c = counts_of(result)
    assert c["failed"] == 0
    docs = elastic.docs(index, 5000)
    assert {i: d for i, d in docs.items() if int(i.split(":")[1]) < 20 and not i.endswith(":5")} == \
        {i: d for i, d in documents(2000).items() if not i.endswith(":5")}
    assert all(id_ == f"{d['p']}:{d['c']}" for id_, d in docs.items())
