"""runs, failures, check, help: what is printed, for people and for programs."""
import json
import re
import subprocess

import pytest

from flow import KEY, cass, rows_of, says
from peer_http import SyncApi
from program import BIN, ROOT


@pytest.fixture
def one_failed(job, api):
    """A run with one failed block."""
    api.script(1, api.error(400, "UOS_0072"))
    says(job.run(ids=["a", "b"], block=1), code=1)


# ---- runs

def test_no_runs_yet(program):
    r = says(program.run("runs"), "no runs", code=0)
    assert r.err == "" and not program.state.exists()  # looking makes no folder
    assert program.run("runs", "list", "--json").out == ""
    says(program.run("runs", "show"), "no runs", code=2)
    says(program.run("failures"), "no runs", code=2)


def test_a_run_is_listed_and_shown(program, one_failed):
    line = program.run("runs", "list").out.splitlines()[1]
    name, command, state, code = line.split()[:4]
    assert (command, state, code) == ("sync", "finished", "1")
    r = says(program.run("runs", "show", name), "finished, exit 1", r"sync_api.key +\*\*\*", r"sync_api.block_size +1\b", "summary:", code=0)
    assert KEY not in r.out and r.out == program.run("runs", "show").out


def test_runs_as_json(program, one_failed):
    run, = rows_of(program.run("runs", "--json").out)
    assert run["state"] == "finished" and run["exit_code"] == 1 and run["command"] == "sync" and run["pid"] == 0
    assert run["params"]["sync_api.key"] == "***" and run["params"]["sync_api.block_size"] == 1
    assert run["summary"]["failed"] == 1 and re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", run["started"])
    assert rows_of(program.run("runs", "show", run["id"], "--json").out) == [run]


def test_runs_newest_first(job, program):
    for block in (3, 4):
        says(job.run(ids=["a"], block=block), code=0)
    assert [r["params"]["sync_api.block_size"] for r in rows_of(program.run("runs", "--json").out)] == [4, 3]


def test_failures_by_reason_and_one_by_one(program, one_failed):
    says(program.run("failures"), r"^ +1 +http_400 .*UOS_0072", code=0)
    cause, = rows_of(program.run("failures", "list", "--json").out)
    assert cause["reason"] == "http_400" and cause["count"] == 1
    shown, = rows_of(program.run("failures", "show", cause["run"], "--json").out)
    assert shown["key"].strip('"') == "a" and shown["reason"] == "http_400"
    assert re.match(r'"?a"?\thttp_400\t', program.run("failures", "show").out)


@pytest.mark.parametrize("args,text", [(["runs", "shwo"], "shwo: list or show is expected"), (["runs", "show", "20990101-000000-0000"], "no run 20990101-000000-0000"),
                                       (["runs", "list", "x"], "runs show"), (["runs", "show", "a", "b"], "unexpected argument b"),
                                       (["failures", "show", "20990101-000000-0000"], "no run 20990101-000000-0000"),
                                       (["runs", "--table", "x"], "--table is no option of runs")])
def test_what_runs_does_not_take(program, one_failed, args, text):
    says(program.run(*args), re.escape(text), code=2)


# ---- check

def test_print_config_tells_where_from(program):
    f = program.file("c.yaml", "cassandra:\n  hosts: [a, b]\n  username: bob\n")
    r = program.run("check", "--print-config", "--config", f, "--block-size", 7, "--context_param", "dry_run=false",
                    env={"CASS2ES_LOCAL_DC": "dc1"})
    says(r, r"^cassandra.hosts +a,b +# .*c\.yaml:2:\d+$", r"^cassandra.username +bob +# .*c\.yaml:3:13$", r"^sync_api.block_size +7 +# --block-size$",
         r"^sync.dry_run +false +# --context_param dry_run$", r"^cassandra.local_dc +dc1 +# CASS2ES_LOCAL_DC$", r"^cassandra.port +9042 +# default$", code=0)
    rows = {o["name"]: o for o in json.loads(program.run("check", "--print-config", "--json", "--block-size", 7).out)}
    assert rows["sync_api.block_size"] == {"name": "sync_api.block_size", "value": 7, "from": "--block-size"}


def test_check_alone_has_nothing_to_do(program):
    says(program.run("check"), "--print-config", code=2)


# ---- help, and the frame

def test_help_of_help(program):
    program.common = []
    overview = says(program.run("help"), "sync", "runs", "failures", code=0).out
    assert program.run("--help").out == overview
    assert program.run("help", "runs").out == program.run("runs", "--help").out
    says(program.run("help", "snyc"), "unknown command snyc", code=2)


def test_help_comes_before_every_complaint(program):
    program.common = []
    says(program.run("sync", "--nosuch", "--help"), "usage: cass2es sync", code=0)


def test_every_option_has_its_place_in_the_reference(program):
    program.common = []
    text = (ROOT / "doc/reference/options.md").read_text()
    flags = set(re.findall(r"^  --(?:\[no-\])?([a-z_-]+)", program.run("sync", "--help").out + program.run("check", "--help").out, re.M))
    assert len(flags) > 50
    assert not [f for f in flags - {"help"} if not re.search(r"`--(\[no-\])?%s\b" % f, text)]


def test_standard_output_that_is_full(program):
    with open("/dev/full", "w") as full:
        r = subprocess.run([str(BIN), "check", "--print-config"], stdout=full, stderr=subprocess.PIPE, env=program.env, timeout=30)
    assert r.returncode == 4 and b"No space left" in r.stderr


def test_errors_as_json(program, ring, job):
    r = job.run("--log-format", "json", ids=["a"], endpoint="ftp://x")
    event = json.loads(r.err.splitlines()[-1])
    assert r.code == 2 and event["event"] == "command_failed" and event["kind"] == "user" and "endpoint" in event["error"]
