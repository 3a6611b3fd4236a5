"""SIGKILL at any moment, and the same command again: the index equals the table, and the books balance."""
import random
import subprocess
import time

import pytest
from direct_live import counts_of, documents, make_index, make_table, what_to_sync

ROWS = 3000
MODES = ("read_time", "sequence")


@pytest.fixture(scope="module")
def table(db, keyspace):
    return make_table(db, f"{keyspace}.kill", ROWS)


@pytest.fixture(scope="module")
def usual_ms(table, elastic, cassandra_args, tmp_path_factory):
    """How long it takes when nobody interferes."""
    import servers
    took = {}
    for mode in MODES:
        folder, index = tmp_path_factory.mktemp(mode), f"t_kill_usual_{mode}"
        make_index(elastic, index)
        begin = time.monotonic()
        result = servers.Program(folder).run(*what_to_sync(folder, table, index, mode), *cassandra_args, "--elastic-url", elastic.url, "--json")
        took[mode] = (time.monotonic() - begin) * 1000
        counts_of(result)
        elastic.delete(index)
    return took


@pytest.mark.parametrize("seed", [*range(1, 21), *[pytest.param(s, marks=pytest.mark.long) for s in range(21, 221)]])
def test_killed_at_random_moments(program, elastic, index, table, cassandra_args, usual_ms, tmp_path, seed):
    """One to four kills, 5 ms to as long as it takes after the start; each seed has its moments."""
    r = random.Random(seed)
    mode = MODES[seed % 2]
    make_index(elastic, index, number_of_shards=r.choice([1, 3]))
    command = [*what_to_sync(tmp_path, table, index, mode), "--workers", r.choice([1, 2, 8]), "--memory", "8MiB", "--json",
               "--progress", "none", *cassandra_args, "--elastic-url", elastic.url]
    said = [f"seed {seed}, {mode}"]
    for _ in range(r.randint(1, 4)):
        ms = r.uniform(5, usual_ms[mode])
        with program.start(*command) as running:
            try:
                result = running.wait(ms / 1000)
                said.append(f"ended within {ms:.0f} ms")
                break
            except subprocess.TimeoutExpired:
                result = running.kill()
                said.append(f"killed after {ms:.0f} ms, {elastic.count(index)} documents there")
    else:
        result = program.run(*command)
    print("; ".join(said))
    c = counts_of(result)
    assert c["rows"] == c["documents"] == ROWS and c["failed"] == 0, (c, said)
    assert elastic.docs(index, 5000) == documents(ROWS), said
