"""Runs: killed, interrupted, resumed, locked."""
import collections
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from flow import QUICK, Job, one_of, says, sunbird
from peer_cql import OVERLOADED, UNAUTHORIZED, call, error
from peer_http import Reply, SyncApi
from program import wait_for_text

IDS = ["id-%03d" % n for n in range(40)]


def at_least_once(api, ids, in_flight):
    """Every id was accepted; only ids of blocks that were in flight at a kill came twice."""
    sent = collections.Counter(i for b in api.blocks() for i in b)
    assert set(sent) == set(api.ids()) == set(ids), set(ids) - set(api.ids())
    twice = {i for i, n in sent.items() if n > 1}
    assert twice <= set(in_flight), "sent again though answered: %s" % sorted(twice - set(in_flight))


@pytest.mark.parametrize("number", [1, 2, 5, 10])
def test_killed_during_a_call(job, api, program, number):
    api.script(number, Reply(fault="hang"))
    p = job.start(ids=IDS, block=4)
    api.wait_for(lambda calls: len(calls) >= number)
    program.kill(p)
    flying = api.calls[-1].json["request"]["objectIds"]
    says(job.run(ids=IDS, block=4), "resum|goes on|continu", code=0)
    at_least_once(api, IDS, flying)


@pytest.mark.parametrize("workers", [3])
def test_killed_with_several_calls_in_flight(job, api, program, workers):
    hold = threading.Event()
    api.always = lambda req: hold.wait(60) and None if req.number > 4 else None
    p = job.start("--workers", workers, ids=IDS, block=4)
    api.wait_for(lambda calls: len(calls) >= 4 + workers)
    time.sleep(0.02)
    program.kill(p)
    flying = [i for c in api.calls[4 - workers:] for i in c.json["request"]["objectIds"]]
    hold.set()
    says(job.run("--workers", workers, ids=IDS, block=4), code=0)
    at_least_once(api, IDS, flying)


def test_killed_again_and_again(job, api, program):
    """Each time after a few more calls: the whole is still sent, and only blocks in flight repeat."""
    flying = []
    for _ in range(30):
        stop_at = len(api.calls) + 2
        api.scripts.clear()
        api.script(stop_at, Reply(fault="hang"))
        p = job.start(ids=IDS, block=4)
        while p.poll() is None and len(api.calls) < stop_at:
            time.sleep(0.002)
        if p.poll() is not None:
            assert program.finish(p).code == 0
            break
        program.kill(p)
        flying += api.calls[-1].json["request"]["objectIds"]
    else:
        raise AssertionError("no progress in thirty runs")
    at_least_once(api, IDS, flying)


@pytest.mark.parametrize("page", [1, 2, 6])
def test_killed_during_a_table_scan(program, api, make_ring, page):
    ring = sunbird(make_ring(page_rows=7), users=100)
    stop = threading.Event()
    seen = threading.Event()
    ring.on("EXECUTE", "token\\(", do=call(lambda r: (seen.set(), stop.wait(60))), times=None, skip=page - 1)
    ring.start()
    job = Job(program, ring, api)
    p = job.start("--scan-workers", 1, block=5)
    assert seen.wait(60)
    time.sleep(0.05)
    program.kill(p)
    stop.set()
    before = [i for b in api.blocks() for i in b]
    says(job.run("--scan-workers", 1, block=5), code=0)
    sent = collections.Counter(i for b in api.blocks() for i in b)
    assert set(sent) == {"user-%04d" % i for i in range(100)}
    assert sum(n - 1 for n in sent.values()) <= 5, "more than the block in flight came twice"
    assert len(set(before)) == len(before)


def test_killed_at_any_moment_of_a_scan(program, api, make_ring):
    ring = sunbird(make_ring(page_rows=9), users=200)
    ring.start()
    job = Job(program, ring, api)
    api.always = Reply(200, SyncApi.answer({"response": "SUCCESS"}), delay=0.002)
    kills = 0
    for n in range(60):
        p = job.start("--scan-workers", 2, block=5)
        try:
            p.wait(0.03 * 1.08 ** n)
        except Exception:
            program.kill(p)
            kills += 1
            if len(set(api.ids())) == 200:
                break  # perhaps it had ended its run, and was only on the way out
            continue
        r = program.finish(p)
        assert r.code == 0, r
        break
    else:
        raise AssertionError("no progress in sixty runs")
    sent = collections.Counter(i for b in api.blocks() for i in b)
    assert set(sent) == {"user-%04d" % i for i in range(200)}
    assert sum(k - 1 for k in sent.values()) <= 5 * kills


def test_the_distinct_course_ids_of_a_batch_scan_survive_a_kill(job, api, ring, program):
    ring.tables["sunbird_courses", "course_batch"].put([("do_%03d" % c, "b%d" % b, "n") for c in range(30) for b in range(4)])
    ring.page_rows = 3
    api.script(3, Reply(fault="hang"))
    p = job.start(table="course_batch", type="batch", block=4)
    api.wait_for(lambda calls: len(calls) >= 3)
    program.kill(p)
    flying = api.calls[-1].json["request"]["objectIds"]
    says(job.run(table="course_batch", type="batch", block=4), code=0)
    at_least_once(api, ["do_%03d" % c for c in range(30)], flying)


def test_standard_input_is_spooled_and_resumed(job, api, program):
    text = "".join(i + "\n" for i in IDS)
    api.script(3, Reply(fault="hang"))
    p = job.start(id_file="-", stdin=text, block=4)
    api.wait_for(lambda calls: len(calls) >= 3)
    program.kill(p)
    flying = api.calls[-1].json["request"]["objectIds"]
    says(job.run(id_file="-", stdin=text, block=4), code=0)
    at_least_once(api, IDS, flying)


def test_a_changed_file_is_an_error_that_names_fresh(job, api, program):
    api.script(2, Reply(fault="hang"))
    p = job.start(ids=IDS, block=4)
    api.wait_for(lambda calls: len(calls) >= 2)
    program.kill(p)
    before = len(api.calls)
    changed = IDS[:-1] + ["id-999"]
    says(job.run(ids=changed, block=4), r"ids\.csv", "changed", "--fresh", code=2)
    assert len(api.calls) == before
    says(job.run("--fresh", ids=changed, block=4), code=0)
    assert [i for c in api.calls[before:] for i in c.json["request"]["objectIds"]] == changed


def test_fresh_starts_over(job, api, program):
    api.script(3, Reply(fault="hang"))
    p = job.start(ids=IDS, block=4)
    api.wait_for(lambda calls: len(calls) >= 3)
    program.kill(p)
    before = len(api.calls)
    says(job.run("--fresh", ids=IDS, block=4), code=0)
    assert [i for c in api.calls[before:] for i in c.json["request"]["objectIds"]] == IDS


def test_block_size_and_workers_may_differ_on_resume(job, api, program):
    api.script(3, Reply(fault="hang"))
    p = job.start(ids=IDS, block=4)
    api.wait_for(lambda calls: len(calls) >= 3)
    program.kill(p)
    flying = api.calls[-1].json["request"]["objectIds"]
    says(job.run("--workers", 2, ids=IDS, block=10, pause=1), "resum|goes on|continu", code=0)
    at_least_once(api, IDS, flying)


def test_another_object_type_is_another_run(job, api, program):
    api.script(3, Reply(fault="hang"))
    p = job.start(ids=IDS, block=4)
    api.wait_for(lambda calls: len(calls) >= 3)
    program.kill(p)
    before = len(api.calls)
    says(job.run(ids=IDS, block=4, type="organisation", table="organisation"), code=0)
    assert sorted(i for c in api.calls[before:] for i in c.json["request"]["objectIds"]) == IDS


def test_a_finished_run_is_not_continued(job, api):
    says(job.run(ids=IDS), code=0)
    says(job.run(ids=IDS), code=0)
    assert api.ids() == IDS + IDS


def test_a_run_that_ended_with_failures_is_not_continued(job, api):
    api.script(1, api.error(400))
    says(job.run(ids=IDS, block=20), code=1)
    says(job.run(ids=IDS, block=20), code=0)
    assert api.blocks()[2:] == [IDS[:20], IDS[20:]]


def test_a_dry_run_neither_resumes_nor_is_resumed(job, api, program):
    api.script(2, Reply(fault="hang"))
    p = job.start(ids=IDS, block=4)
    api.wait_for(lambda calls: len(calls) >= 2)
    program.kill(p)
    says(job.run(ids=IDS, dry_run="true"), code=0)
    assert (program.cwd / "syncIds.csv").read_text().split() == IDS
    flying = api.calls[-1].json["request"]["objectIds"]
    says(job.run(ids=IDS, block=4), "resum|goes on|continu", code=0)
    at_least_once(api, IDS, flying)


# ---- signals

def test_interrupt_finishes_what_is_in_flight_and_exits_130(job, api, program):
    release = threading.Event()
    api.script(3, lambda req: release.wait(60) and None)
    p = job.start(ids=IDS, block=4)
    api.wait_for(lambda calls: len(calls) >= 3)
    p.send_signal(signal.SIGINT)
    wait_for_text(p, "once more stops now")
    release.set()
    r = says(program.finish(p), "same command|again|resum", code=130)
    assert len(api.calls) == 3, r
    says(job.run(ids=IDS, block=4), code=0)
    at_least_once(api, IDS, [])


def test_interrupt_during_a_pause_does_not_wait_for_its_end(job, api, program):
    p = job.start(ids=IDS, block=4, pause=20000)
    api.wait_for(lambda calls: calls and calls[0].end)
    time.sleep(0.05)
    at = time.monotonic()
    p.send_signal(signal.SIGINT)
    assert program.finish(p).code == 130 and time.monotonic() - at < 15


def test_interrupt_twice_stops_now(job, api, program):
    api.script(2, Reply(fault="hang"))
    p = job.start(ids=IDS, block=4)
    api.wait_for(lambda calls: len(calls) >= 2)
    p.send_signal(signal.SIGINT)
    wait_for_text(p, "once more stops now")
    at = time.monotonic()
    p.send_signal(signal.SIGINT)
    assert program.finish(p).code == 130 and time.monotonic() - at < 15
    flying = api.calls[-1].json["request"]["objectIds"]
    says(job.run(ids=IDS, block=4), code=0)
    at_least_once(api, IDS, flying)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGHUP])
def test_another_signal_is_an_interrupt(job, api, program, sig):
    p = job.start(ids=IDS, block=4, pause=20000)
    api.wait_for(lambda calls: calls and calls[0].end)
    p.send_signal(sig)
    assert program.finish(p).code == 130


def test_interrupt_while_waiting_to_retry(job, api, program):
    api.always = Reply(503, headers={"Retry-After": "60"})
    p = job.start(ids=IDS, block=4)
    api.wait_for(lambda calls: calls and calls[0].end)
    time.sleep(0.1)
    p.send_signal(signal.SIGINT)
    assert program.finish(p, 25).code == 130


# ---- locks and the journal

def test_the_same_run_twice_at_once_names_the_pid(job, api, program):
    api.script(2, Reply(fault="hang"))
    p = job.start(ids=IDS, block=4)
    api.wait_for(lambda calls: len(calls) >= 2)
    says(job.run(ids=IDS, block=4), r"\b%d\b" % p.pid, code=2)
    assert len(api.calls) == 2
    program.kill(p)


def test_another_run_at_the_same_time_is_fine(job, api, program):
    api.script(2, Reply(fault="hang"))
    p = job.start(ids=IDS, block=4)
    api.wait_for(lambda calls: len(calls) >= 2)
    program.file("other.csv", "x1\nx2\n")
    says(job.run(id_file="other.csv"), code=0)
    assert "x1" in api.ids()
    program.kill(p)


def test_a_lock_of_a_dead_process_is_no_lock(job, api, program):
    api.script(1, Reply(fault="hang"))
    p = job.start(ids=IDS, block=4)
    api.wait_for(lambda calls: calls)
    program.kill(p)
    says(job.run(ids=IDS, block=4), code=0)


def test_a_corrupt_journal_is_named(job, api, program):
    program.state.mkdir()
    (program.state / "journal.db").write_bytes(b"this is no database, but it is long enough" * 100)
    says(job.run(ids=IDS), r"journal\.db", "not a database|corrupt|damaged|malformed", code=4)
    assert not api.calls


def test_a_journal_of_a_newer_version_is_refused(job, api, program):
    import sqlite3
    says(job.run(ids=["a"]), code=0)
    db = sqlite3.connect(program.state / "journal.db")
    db.execute("PRAGMA user_version = 9999")
    db.close()
    r = says(job.run(ids=["b"]), r"journal\.db", "newer|version")
    assert r.code in (2, 4) and api.ids() == ["a"]


def test_a_state_folder_that_cannot_be_made(job, api, program):
    program.file("plain", "x")
    program.common = ["--state-dir", str(program.cwd / "plain" / "state")]
    r = says(job.run(ids=["a"]), "plain")
    assert r.code in (2, 4) and not api.calls


def test_a_log_folder_that_is_a_file(job, api, program):
    f = program.file("plain", "x")
    args = job.args(ids=["a"])
    args[args.index("--log-dir") + 1] = str(f)
    r = says(program.run(*args), "plain")
    assert r.code in (2, 4) and not api.calls


def test_a_full_disk_in_the_log_folder_stops_resumable(job, api, program):
    small = program.cwd / "small"
    small.mkdir()
    if os.geteuid() or os.system("mount -t tmpfs -o size=12k none '%s' 2>/dev/null" % small):
        pytest.skip("no right to mount")
    try:
        many = ["id-%03d" % n for n in range(200)]
        args = job.args(ids=many, block=1)
        args[args.index("--log-dir") + 1] = str(small)
        r = says(program.run(*args), re.escape(str(small)), "No space left", code=4)
        sent = len(api.calls)
        assert 0 < sent < len(many), r
    finally:
        os.system("umount '%s'" % small)
    says(job.run(ids=many, block=1), code=0)
    assert set(api.ids()) == set(many) and len(api.ids()) <= len(many) + 1


# ---- the screen

def test_off_a_terminal_there_are_no_control_characters(job):
    r = says(job.run(ids=IDS), code=0)
    assert "\x1b" not in r.err + r.out and "\r" not in r.err + r.out


def test_json_log_lines_are_json(job, api):
    import json
    api.script(1, Reply(503))
    r = says(job.run("--log-format", "json", ids=IDS), code=0)
    lines = [line for line in r.err.splitlines() if line.startswith("{")]
    assert lines and all("event" in json.loads(line) for line in lines)


def test_runs_list_knows_the_run(job, program):
    says(job.run(ids=IDS), code=0)
    r = program.run("runs")
    assert r.code == 0 and "sync" in r.out and re.search(r"finished|done|complete", r.out, re.I), r


def test_the_run_says_that_it_resumes_before_it_calls(job, api, program):
    api.script(2, Reply(fault="hang"))
    p = job.start(ids=IDS, block=4)
    api.wait_for(lambda calls: len(calls) >= 2)
    program.kill(p)
    api.script(3, Reply(fault="hang"))
    p = job.start(ids=IDS, block=4)
    wait_for_text(p, "(?i)resum|goes on|continu")
    program.kill(p)


def test_a_killed_dry_run_leaves_nothing_half_behind(program, api, make_ring):
    ring = sunbird(make_ring(page_rows=9), users=200)
    ring.start()
    job = Job(program, ring, api)
    stop, seen = threading.Event(), threading.Event()
    ring.on("EXECUTE", "token\\(", do=call(lambda r: (seen.set(), stop.wait(60))), times=None, skip=8)
    p = job.start(dry_run="true")
    assert seen.wait(60)
    program.kill(p)
    stop.set()
    ring.rules.clear()
    says(job.run(dry_run="true"), code=0)
    assert sorted((program.cwd / "syncIds.csv").read_text().split()) == ["user-%04d" % i for i in range(200)]


def test_sync_ids_that_cannot_be_written(job, program):
    (program.cwd / "syncIds.csv").mkdir()
    r = says(job.run(dry_run="true"), r"syncIds\.csv")
    assert r.code in (2, 4)


def test_old_runs_are_forgotten(job, program):
    says(job.run(ids=["a"]), code=0)
    says(job.run("--keep-runs", "0s", ids=["b"]), code=0)
    time.sleep(0.01)
    r = program.run("runs")
    assert len(re.findall(r"\d{8}-\d{6}-\w+", r.out)) == 1, r


def test_a_journal_that_is_busy_is_waited_for(job, api, program):
    """Another process holds the database's write lock for a moment."""
    import sqlite3
    says(job.run(ids=["a"]), code=0)
    db = sqlite3.connect(program.state / "journal.db", isolation_level=None, check_same_thread=False)
    db.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lambda: (db.execute("ROLLBACK"), db.close())).start()
    says(job.run(ids=["b"]), code=0)
    assert api.ids() == ["a", "b"]


def killed_at_call(job, api, program, number, *flags, **params):
    """Kills the run while its call of this number hangs; returns the ids in flight."""
    api.script(number, Reply(fault="hang"))
    p = job.start(*flags, **params)
    api.wait_for(lambda calls: len(calls) >= number)
    program.kill(p)
    out = []
    for e in api.calls[-1].json["request"]["objectIds"]:
        out += e["userId"] if isinstance(e, dict) else [e]
    return out


def test_ids_of_another_column_survive_a_kill(job, api, ring, program):
    ring.tables["sunbird_courses", "course_batch"].put([("do_%03d" % c, "b%03d" % c, "n") for c in range(60)])
    args = {"ids": ["b%03d" % c for c in range(0, 60, 2)], "table": "course_batch", "type": "batch", "block": 4}
    flying = killed_at_call(job, api, program, 3, "--id-column", "batchid", **args)
    says(job.run("--id-column", "batchid", **args), code=0)
    at_least_once(api, ["do_%03d" % c for c in range(0, 60, 2)], flying)


def test_objects_per_block_survive_a_kill(job, api, ring, program):
    ring.tables["sunbird_courses", "user_enrolments"].put([("u%03d" % u, "c%d" % k, "b", True) for u in range(50) for k in range(3)])
    args = {"table": "user_enrolments", "type": "user_course", "block": 7}
    flying = killed_at_call(job, api, program, 3, **args)
    says(job.run(**args), code=0)
    sent = collections.Counter(api.ids())
    assert set(sent) == {"u%03d" % u for u in range(50)} and {u for u, n in sent.items() if n > 1} <= set(flying)


def test_awaited_calls_survive_a_kill(job, api, program):
    flying = killed_at_call(job, api, program, 3, "--await", ids=IDS, block=4)
    says(job.run("--await", ids=IDS, block=4), code=0)
    at_least_once(api, IDS, flying)


def test_a_ring_that_changed_meanwhile(program, api, make_ring):
    """Killed on a ring of one node, gone on with on one of three, with other splits."""
    before = sunbird(make_ring(page_rows=7), users=300)
    before.start()
    job = Job(program, before, api)
    flying = killed_at_call(job, api, program, 12, "--scan-workers", 3, block=5)
    before.stop()
    after = sunbird(make_ring(nodes=3, page_rows=11, vnodes=5), users=300)
    after.port = before.port
    for n in after.nodes:
        n.up()
    says(job.run("--scan-workers", 1, block=5), "resum|goes on|continu", code=0)
    at_least_once(api, ["user-%04d" % i for i in range(300)], flying)


def test_a_budget_spent_by_the_scan_is_resumed(program, api, make_ring):
    ring = sunbird(make_ring(page_rows=7), users=200)
    ring.on("EXECUTE", "token\\(", do=error(OVERLOADED, "too busy"), times=None, skip=6)
    ring.start()
    job = Job(program, ring, api)
    says(job.run("--retry-budget", "300ms", block=5), "too busy", code=3)
    ring.rules.clear()
    says(job.run(block=5), "resum|goes on|continu", code=0)
    at_least_once(api, ["user-%04d" % i for i in range(200)], [])


def test_a_full_disk_under_the_journal_stops_resumable(job, api, program):
    small = program.cwd / "small"
    small.mkdir()
    if os.geteuid() or os.system("mount -t tmpfs -o size=256k none '%s' 2>/dev/null" % small):
        pytest.skip("no right to mount")
    many = ["%0200d" % n for n in range(4000)]
    try:
        program.common = ["--state-dir", str(small / "state")]
        r = job.run(ids=many, block=100)
        if r.code:
            says(r, r"journal\.db|small", "full|No space", code=4)
        else:
            assert api.ids() == many
    finally:
        os.system("umount '%s'" % small)


def test_a_table_that_grows_between_two_runs(job, api, ring, program):
    """What was added behind the mark is sent too; nothing that was answered is sent again."""
    ring.tables["sunbird", "user"].put([("old-%03d" % i, "n", "c") for i in range(100)])
    flying = killed_at_call(job, api, program, 4, block=5)
    before = set(api.ids())
    ring.tables["sunbird", "user"].put([("new-%03d" % i, "n", "c") for i in range(100)])
    says(job.run(block=5), code=0)
    sent = collections.Counter(i for b in api.blocks() for i in b)
    assert all(n == 1 or i in flying for i, n in sent.items())
    assert {"old-%03d" % i for i in range(100)} <= set(sent) and before <= set(sent)


# ---- long: many moments

@pytest.mark.long
@pytest.mark.parametrize("seed", range(12))
def test_killed_at_random_moments_with_several_workers(program, api, make_ring, seed):
    import random
    rnd = random.Random(seed)
    ring = sunbird(make_ring(page_rows=rnd.choice([3, 9, 40])), users=400)
    ring.start()
    job = Job(program, ring, api)
    block, workers = rnd.choice([1, 5, 32]), rnd.choice([1, 4])
    from_file = seed % 2
    ids = ["user-%04d" % i for i in range(400)]
    args = {"ids": ids} if from_file else {}
    kills, limit = 0, 0.02
    while kills < 200:  # on a slow machine the last one may be left to end
        p = job.start("--workers", workers, "--scan-workers", rnd.choice([1, 3]), block=block, **args)
        try:
            p.wait(rnd.uniform(0.005, limit))
        except Exception:
            program.kill(p)
            kills += 1
            limit += 0.002
            if set(api.ids()) == set(ids):
                break
            continue
        assert program.finish(p).code == 0
        break
    else:
        assert program.finish(job.start("--workers", workers, block=block, **args)).code == 0
    sent = collections.Counter(i for b in api.blocks() for i in b)
    assert set(api.ids()) == set(ids)
    assert sum(n - 1 for n in sent.values()) <= kills * workers * block


def test_a_dry_run_may_read_the_list_that_it_writes(job, program):
    says(job.run(dry_run="true"), code=0)
    before = (program.cwd / "syncIds.csv").read_text()
    assert len(before.split()) == 10
    says(job.run(dry_run="true", id_file="syncIds.csv"), code=0)
    assert (program.cwd / "syncIds.csv").read_text() == before


def test_a_dry_run_that_stops_leaves_the_old_list(job, api, ring, program):
    (program.cwd / "syncIds.csv").write_text("old\n")
    ring.on("EXECUTE", "token\\(", do=error(UNAUTHORIZED, "no permission"), times=None)
    r = says(job.run(*QUICK, dry_run="true"), r"syncIds\.csv is not written")
    assert r.code == 2
    assert (program.cwd / "syncIds.csv").read_text() == "old\n"
    assert not (program.cwd / "syncIds.csv.part").exists()


BAR = re.compile(r"([\d,]+)/([\d,]+) ids [^\r\n]*? ETA ([\d.]+ m?s)")


def bars(text):
    return [(int(d.replace(",", "")), int(t.replace(",", ""))) for d, t, _ in BAR.findall(text)]


def test_the_total_is_right_after_a_resume_and_with_duplicates(job, api, program):
    ids = ["u%04d" % (i // 2) for i in range(400)]
    api.script(11, Reply(fault="hang"))
    p = job.start(ids=ids, block=10)
    api.wait_for(lambda calls: len(calls) == 11)
    program.kill(p)
    r = says(job.run("--progress", "bar", ids=ids, block=10, pause=60), code=0)
    assert bars(r.err) and all(d <= t == 200 for d, t in bars(r.err)), r.err


def test_the_estimate_does_not_grow_during_a_pause(job, api, program):
    def pauses():
        r = job.run("--progress", "bar", ids=["a", "b", "c"], block=1, pause=1000)
        etas = [float(e.split()[0]) * (0.001 if "ms" in e else 1) for _, _, e in BAR.findall(r.err)]
        return None if len(etas) > 6 and max(etas) < 2.3 else r.err
    one_of(3, pauses)


@pytest.mark.parametrize("kind, table", [("user", "user"), ("user_course", "user_enrolments")])
@pytest.mark.parametrize("block, flags", [(3, ()), (20, ("--sync-api-max-body", "1KiB"))])
def test_smaller_limits_hold_for_what_was_packed_before(job, api, program, kind, table, block, flags):
    ids = ["%03d-%s" % (i, "x" * 90) for i in range(90)]
    api.script(2, Reply(401))
    says(job.run(ids=ids, block=20, type=kind, table=table), code=3)
    r = says(job.run(*flags, ids=ids, block=block, type=kind, table=table), r"accepted +90\b", code=0)
    later = api.calls[2:]
    assert max(len(c.body) for c in later) <= 1024
    sizes = [len(b[0]["userId"]) if kind == "user_course" else len(b) for b in api.blocks()[2:]]
    assert 0 < min(sizes) and max(sizes) <= block, r
    assert collections.Counter(api.ids()) == collections.Counter(ids)


def test_a_block_being_filled_survives_smaller_limits(program, api, make_ring):
    ring = sunbird(make_ring(page_rows=7), users=100)
    ring.start()
    job = Job(program, ring, api)
    stop, seen = threading.Event(), threading.Event()
    ring.on("EXECUTE", "token\\(", do=call(lambda r: (seen.set(), stop.wait(60))), times=None, skip=8)
    api.script(2, Reply(fault="hang"))
    p = job.start(block=10)
    assert seen.wait(60)
    api.wait_for(lambda calls: len(calls) == 2)
    program.kill(p)
    stop.set()
    ring.rules.clear()
    says(job.run(block=4), code=0)
    assert set(api.ids()) == {"user-%04d" % i for i in range(100)} and len(api.ids()) == 100
    assert max(len(b) for b in api.blocks()[2:]) <= 4


def test_a_summary_that_cannot_be_written_says_so(job):
    with open("/dev/full", "w") as full:
        r = subprocess.run(job.program.command(*job.args(ids=["a"])), cwd=job.program.cwd, env=job.program.env, stdout=full,
                           stderr=subprocess.PIPE, text=True, timeout=30)
    assert r.returncode == 4 and "standard output: could not be written" in r.stderr, r
