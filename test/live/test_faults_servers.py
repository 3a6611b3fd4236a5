"""Servers that go away and come back under a direct sync: no document is lost, the run goes on by itself."""
import re
import subprocess
import threading
import time
import uuid

import pytest
import servers
from direct_live import counts_of, documents, make_index, make_table, what_to_sync

RING = ["ring1", "ring2", "ring3"]
ROWS = 12000


class Watch:
    """Looks at the index every 200 ms while a program runs: .longest_s without a new document, once the first was there."""

    def __init__(self, elastic, index, running):
        self.elastic, self.index, self.running, self.longest_s, self.count, self.at = elastic, index, running, 0.0, 0, None

    def step(self):
        time.sleep(0.2)
        now = time.monotonic()
        try:
            count = self.elastic.count(self.index)
        except OSError:
            return
        if count > self.count or self.at is None:
            if self.count and self.at:
                self.longest_s = max(self.longest_s, now - self.at)
            self.count, self.at = count, now

    def until(self, documents, seconds=60):
        end = time.monotonic() + seconds
        while self.count < documents and self.running.process.poll() is None:
            assert time.monotonic() < end, f"{self.count} documents after {seconds} s\n{self.running.err()[-3000:]}"
            self.step()

    def to_the_end(self, seconds=300):
        end = time.monotonic() + seconds
        while self.running.process.poll() is None:
            assert time.monotonic() < end, self.running.err()[-4000:]
            self.step()
        return self.running.wait()


# --- Cassandra ---------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def ring():
    """Three nodes; tables `three` (RF 3) and `one` (RF 1). A node that a test stopped is started again."""
    started = servers.ensure(*RING)
    db = servers.ring_session()
    names = {}
    for name, replicas in (("three", 3), ("one", 1)):
        keyspace = f"t_faults_{name}_{uuid.uuid4().hex[:6]}"
        servers.create_keyspace(db, keyspace, replicas)
        names[name] = make_table(db, f"{keyspace}.rows", ROWS, consistency=5)  # ALL
    yield names
    servers.ensure(*RING)
    for name in names.values():
        db.execute(f"DROP KEYSPACE {name.split('.')[0]}", timeout=60)
    db.cluster.shutdown()
    servers.stop(*started)


@pytest.fixture
def ring_args(password_file):
    at = servers.address("ring1")
    return ["--cassandra-hosts", f"{at.host},{servers.address('ring3').host}", "--cassandra-port", at.port, "--cassandra-username",
            servers.setting("USER"), "--cassandra-password-file", password_file]


@pytest.mark.long
@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_a_replica_goes_and_comes_back(ring, ring_args, program, elastic, index, tmp_path, mode):
    """RF 3: nobody waits for it."""
    make_index(elastic, index)
    command = [*what_to_sync(tmp_path, ring["three"], index, mode), *ring_args, "--elastic-url", elastic.url, "--json", "--max-docs-per-s", 150,
               "--workers", 4]
    with program.start(*command) as running:
        watch = Watch(elastic, index, running)
        watch.until(500)
        away = threading.Thread(target=lambda: (servers.stop("ring2"), servers.start_again("ring2")))
        away.start()
        result = watch.to_the_end()
        still_away = away.is_alive()
        away.join()
    c = counts_of(result)
    assert c["rows"] == ROWS and c["failed"] == 0 and c["unread_ranges"] == 0
    assert elastic.docs(index, 5000) == documents(ROWS)
    assert watch.longest_s < 8, (watch.longest_s, result.err[-3000:])
    print(f"longest pause {watch.longest_s:.1f} s; the node was {'still away' if still_away else 'back'} at the end")


@pytest.mark.long
@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_the_only_replica_goes_and_comes_back(ring, ring_args, program, elastic, index, tmp_path, mode):
    """RF 1: what it holds is waited for; then the run goes on by itself."""
    make_index(elastic, index)
    command = [*what_to_sync(tmp_path, ring["one"], index, mode), *ring_args, "--elastic-url", elastic.url, "--json", "--max-docs-per-s", 2000,
               "--workers", 4]
    with program.start(*command) as running:
        watch = Watch(elastic, index, running)
        watch.until(1000)
        servers.stop("ring2")
        running.expect("scan_retry|mget_retry|read_retry|unavailable", 60)
        servers.start_again("ring2")
        result = watch.to_the_end()
    c = counts_of(result)
    assert c["rows"] == ROWS and c["failed"] == 0 and c["unread_ranges"] == 0
    assert elastic.docs(index, 5000) == documents(ROWS)


@pytest.mark.long
def test_the_only_replica_stays_away_for_longer_than_the_budget(ring, ring_args, program, elastic, index, tmp_path):
    make_index(elastic, index)
    command = [*what_to_sync(tmp_path, ring["one"], index, "read_time"), *ring_args, "--elastic-url", elastic.url, "--max-docs-per-s", 2000]
    with program.start(*command, "--retry-budget", "3s") as running:
        Watch(elastic, index, running).until(1000)
        servers.stop("ring2")
        result = running.wait(120)
    try:
        assert result.code == 3 and "gave up" in result.err and "run the same command again" in result.out, result
        with program.start(*command, "--retry-budget", "3s") as running:
            result = running.wait(120)  # it tells the same again
        assert result.code == 3, result
    finally:
        servers.start_again("ring2")
    c = counts_of(program.run(*command, "--json", timeout=120))
    assert c["rows"] == ROWS and elastic.docs(index, 5000) == documents(ROWS)


# --- Elasticsearch -----------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def table(db, keyspace):
    return make_table(db, f"{keyspace}.faults", ROWS)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_elasticsearch_is_restarted(program, table, cassandra_args, tmp_path, index, mode):
    """Its memory of deletes is gone with it, and its primary terms are others; nothing is lost, nothing is written twice wrongly."""
    started = servers.ensure("elasticsearch7")
    elastic = servers.elastic("elasticsearch7")
    try:
        make_index(elastic, index)
        command = [*what_to_sync(tmp_path, table, index, mode), *cassandra_args, "--elastic-url", elastic.url, "--json", "--max-docs-per-s", 2000,
                   "--workers", 4]
        with program.start(*command) as running:
            watch = Watch(elastic, index, running)
            watch.until(1000)
            servers.stop("elasticsearch7")
            time.sleep(1)
            servers.start_again("elasticsearch7")
            result = watch.to_the_end()
        c = counts_of(result)
        assert c["rows"] == ROWS and c["failed"] == 0, c
        assert elastic.docs(index, 5000) == documents(ROWS)
        assert "retry" in result.err
    finally:
        elastic.delete(index)
        servers.stop(*started)


OTHERS = [pytest.param(i, marks=pytest.mark.long) for i in ("elasticsearch8", "opensearch2", "opensearch3")]


@pytest.mark.parametrize("mode", ["read_time", "sequence"])
@pytest.mark.parametrize("instance", ["elasticsearch", *OTHERS])
def test_a_full_disk_blocks_the_index(program, table, cassandra_args, tmp_path, index, instance, mode):
    """What the server does at the flood stage, set and taken away under the run: it pauses, and no document fails."""
    started = servers.ensure(instance)
    elastic = servers.elastic(instance)
    block = f"/{index}/_settings"
    try:
        make_index(elastic, index)
        command = [*what_to_sync(tmp_path, table, index, mode), *cassandra_args, "--elastic-url", elastic.url, "--json", "--max-docs-per-s", 1500,
                   "--workers", 4]
        with program.start(*command) as running:
            Watch(elastic, index, running).until(1000)
            elastic.ok("PUT", block, {"index.blocks.read_only_allow_delete": True})
            running.expect("event=paused", 30)
            time.sleep(1)  # what the index had taken before is through
            before = elastic.count(index)
            time.sleep(2)
            assert elastic.count(index) == before < ROWS
            elastic.ok("PUT", block, {"index.blocks.read_only_allow_delete": None})
            result = Watch(elastic, index, running).to_the_end()
        c = counts_of(result)
        assert c["rows"] == ROWS and c["failed"] == 0, c
        assert elastic.docs(index, 5000) == documents(ROWS)
        # Either text: Elasticsearch 7.17 has the second one.
        why = "(read-only / allow delete|read-only-allow-delete)"
        assert len(re.findall(rf'level=warn event=paused .*why="no writing: .*{why}', result.err)) == 1, result.err
        assert len(re.findall("level=warn event=goes_on", result.err)) == 1 and "bulk_retry" not in result.err, result.err
    finally:
        elastic.delete(index)
        servers.stop(*started)


def test_a_block_outlasts_the_budget(program, table, cassandra_args, tmp_path, elastic, index):
    make_index(elastic, index)
    command = [*what_to_sync(tmp_path, table, index, "read_time"), *cassandra_args, "--elastic-url", elastic.url]
    with program.start(*command, "--max-docs-per-s", 1500, "--retry-budget", "2s") as running:
        Watch(elastic, index, running).until(1000)
        elastic.ok("PUT", f"/{index}/_settings", {"index.blocks.read_only_allow_delete": True})
        result = running.wait(60)
    assert result.code == 3 and "event=paused" in result.err and "gave up" in result.err and "run the same command again" in result.out, result
    elastic.ok("PUT", f"/{index}/_settings", {"index.blocks.read_only_allow_delete": None})
    c = counts_of(program.run(*command, "--json", timeout=120))
    assert c["rows"] == ROWS and c["failed"] == 0 and elastic.docs(index, 5000) == documents(ROWS)


@pytest.mark.long
def test_elasticsearch_stays_away(program, table, cassandra_args, tmp_path, index):
    started = servers.ensure("elasticsearch7")
    elastic = servers.elastic("elasticsearch7")
    try:
        make_index(elastic, index)
        command = [*what_to_sync(tmp_path, table, index, "read_time"), *cassandra_args, "--elastic-url", elastic.url, "--max-docs-per-s", 2000]
        with program.start(*command, "--retry-budget", "2s") as running:
            Watch(elastic, index, running).until(1000)
            servers.stop("elasticsearch7")
            result = running.wait(60)
        assert result.code == 3 and elastic.url in result.err and "run the same command again" in result.out, result
        servers.start_again("elasticsearch7")
        c = counts_of(program.run(*command, "--json", timeout=120))
        assert c["rows"] == ROWS
        assert elastic.docs(index, 5000) == documents(ROWS)
    finally:
        servers.ensure("elasticsearch7")
        elastic.delete(index)
        servers.stop(*started)
