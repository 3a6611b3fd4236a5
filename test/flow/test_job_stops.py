"""What an answer of the API does to the run: fail the block, be tried again, or stop."""
import json
import re
import time

import pytest

from flow import KEY, QUICK, one_of, says
from peer_http import Reply, SyncApi, html
from port import Port
from program import log_entries

OK = SyncApi.answer({"response": "SUCCESS"})


# ---- at once

@pytest.mark.parametrize("status,word", [(401, "key|unauthori"), (403, "key|forbidden|right|allow"), (404, "endpoint|path|not found")])
def test_refusals_stop_at_once(job, api, program, status, word):
    api.always = Reply(status, {"message": "no"})
    r = says(job.run(ids=["a", "b", "c"], block=1), str(status), word, code=3)
    assert len(api.calls) == 1
    assert len(log_entries(program.log("Failure"))) == 1 and not program.log("Success"), r


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_stops_at_once_and_is_not_followed(job, api, program, status):
    with SyncApi() as other:
        api.always = Reply(status, headers={"Location": other.endpoint})
        says(job.run(ids=["a", "b"], block=1), str(status), re.escape(other.endpoint), code=3)
        assert len(api.calls) == 1 and not other.calls
    assert len(log_entries(program.log("Failure"))) == 1


def test_a_stop_in_the_middle_can_be_resumed(job, api):
    api.script(3, Reply(401))
    r = says(job.run(ids=["i%d" % n for n in range(6)], block=1), code=3)
    assert re.search("same command|again|resum", r.out + r.err, re.I)
    says(job.run(ids=["i%d" % n for n in range(6)], block=1), "resum|goes on|continu", code=0)
    assert sorted(api.ids(only=200)) == ["i%d" % n for n in range(6)]


# ---- the block fails, the run goes on

@pytest.mark.parametrize("status", [400, 413, 500])
def test_a_refused_block_fails_and_the_rest_goes_on(job, api, program, status):
    api.script(2, api.error(status))
    says(job.run(ids=["a", "b", "c"], block=1), r"\b1\b.*failed|failed\W+1\b", code=1)
    assert [c.status for c in api.calls] == [200, status, 200]
    assert len(log_entries(program.log("Failure"))) == 1


def test_a_response_code_other_than_ok_fails_the_block(job, api, program):
    api.script(1, Reply(200, SyncApi.answer({}, "CLIENT_ERROR", "UOS_0072")))
    says(job.run(ids=["a", "b"], block=1), code=1)
    assert len(log_entries(program.log("Failure"))) == 1 and len(log_entries(program.log("Success"))) == 1


@pytest.mark.parametrize("reply", [html(200), Reply(200, ""), Reply(200, "[]"), Reply(200, "{}"), Reply(200, "not json")],
                         ids=["html", "empty", "array", "no responseCode", "text"])
def test_an_answer_that_is_not_the_apis_is_no_success(job, api, program, reply):
    api.script(1, reply)
    r = job.run(ids=["a", "b"], block=1)
    assert r.code in (1, 3), r
    assert not any('"a"' in q for _, q, _ in log_entries(program.log("Success") or ""))
    assert any('"a"' in q for _, q, _ in log_entries(program.log("Failure")))


def test_unknown_status_fails_the_block(job, api):
    api.script(1, Reply(418, "{}"))
    says(job.run(ids=["a", "b"], block=1), "418|failed", code=1)
    assert api.ids() == ["b"]


def test_the_failures_are_listed_by_reason(job, api, program):
    api.script(1, api.error(400, "UOS_0072"))
    says(job.run(ids=["a", "b"], block=1), code=1)
    r = program.run("failures", "list")
    assert r.code == 0 and '400' in r.out and re.search(r"\ba\b", program.run("failures", "show").out + r.out), r


# ---- tried again

@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_status_that_may_pass_is_tried_again(job, api, program, status):
    api.script(1, [Reply(status), Reply(status)])
    says(job.run(ids=["a", "b"], block=1), code=0)
    assert api.blocks() == [["a"], ["a"], ["a"], ["b"]]
    assert len(log_entries(program.log("Success"))) == 2


@pytest.mark.parametrize("fault", ["close", "reset"])
def test_a_lost_connection_is_tried_again(job, api, fault):
    api.script(1, Reply(fault=fault))
    says(job.run(ids=["a", "b"], block=1), code=0)
    assert api.ids() == ["a", "b"]


def test_a_truncated_answer_is_tried_again(job, api):
    api.script(1, Reply(200, OK, cut=10))
    says(job.run(ids=["a"]), code=0)
    assert api.blocks() == [["a"], ["a"]]


def test_a_hanging_server_times_out_and_is_tried_again(job, api):
    def hangs():
        del api.calls[:]
        api.script(1, Reply(fault="hang"))
        r = says(job.run("--request-timeout", "1s", ids=["a"]), code=0)
        assert len(api.calls) >= 2
        return None if api.blocks() == [["a"], ["a"]] and r.seconds < 5 else (api.calls, r)
    one_of(3, hangs)


def test_a_slow_answer_within_the_time_out_is_fine(job, api):
    api.script(1, Reply(200, OK, slow=0.001))
    says(job.run("--request-timeout", "60s", ids=["a"]), code=0)
    assert len(api.calls) == 1


def test_an_endless_answer_is_cut_off(job, api):
    api.script(1, Reply(200, "{", endless=True))
    r = job.run("--request-timeout", "60s", ids=["a", "b"], block=1)
    assert r.code == 1 and api.ids()[-1] == "b", r


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_status_that_stays_ends_the_run_when_the_budget_is_spent(job, api, program, status):
    api.always = Reply(status)
    r = says(job.run(*QUICK, ids=["a", "b"], block=1), str(status), "tried|budget", code=3)
    assert len(api.calls) >= 2 and {str(b) for b in api.blocks()} == {"['a']"}
    assert len(log_entries(program.log("Failure"))) == 1 and r.seconds < 25
    api.always = None
    says(job.run(ids=["a", "b"], block=1), code=0)
    assert sorted(set(api.ids())) == ["a", "b"]


def test_no_server_at_all(job):
    with Port() as port:
        says(job.run(*QUICK, ids=["a"], endpoint="http://127.0.0.1:%d/sync" % port.number), "127.0.0.1", "connect|refused", code=3)


def test_a_host_that_does_not_exist(job):
    says(job.run(*QUICK, ids=["a"], endpoint="http://no-such-host.invalid/sync"), r"no-such-host\.invalid", code=3)


def test_retry_after_in_seconds_is_honoured(job, api):
    api.script(1, Reply(429, headers={"Retry-After": "1"}))
    says(job.run(ids=["a"]), code=0)
    assert 1.0 <= api.calls[1].start - api.calls[0].answered < 20


def test_retry_after_as_a_date_is_honoured(job, api):
    def later(req):
        at = time.gmtime(time.time() + 2)
        return Reply(503, headers={"Retry-After": time.strftime("%a, %d %b %Y %H:%M:%S GMT", at)})
    api.script(1, later)
    says(job.run(ids=["a"]), code=0)
    assert 0.9 <= api.calls[1].start - api.calls[0].answered < 20


def test_a_retry_after_beyond_the_budget_stops(job, api):
    api.always = Reply(429, headers={"Retry-After": "3600"})
    r = says(job.run("--retry-budget", "1s", ids=["a"]), "429", code=3)
    assert r.seconds < 25


def test_back_off_grows(job, api):
    api.script(1, [Reply(503)] * 4)
    says(job.run(ids=["a"]), code=0)
    gaps = [b.start - a.answered for a, b in zip(api.calls, api.calls[1:])]
    assert all(gap >= least for gap, least in zip(gaps, (0.045, 0.095, 0.195, 0.395), strict=True)), gaps


def test_the_key_is_not_in_a_connection_error(job):
    r = job.run(*QUICK, ids=["a"], endpoint="http://127.0.0.1:1/sync")
    assert r.code == 3 and KEY not in r.out + r.err


# ---- --await

def test_await_asks_for_the_result(job, api):
    says(job.run("--await", ids=["a", "b"]), "confirmed", code=0)
    assert api.calls[0].body == (b'{"params":{},"request":{"objectType":"user","operationFor":"es","objectIds":["a","b"],'
                                 b'"operationType":"sync"}}') or api.calls[0].json["request"]["operationType"] == "sync"


def test_await_counts_ids_that_are_not_true_as_failed(job, api, program):
    api.absent = {"b"}
    says(job.run("--await", ids=["a", "b", "c"]), code=1)
    r = program.run("failures", "show")
    assert re.search(r"\bb\b", r.out) and not re.search(r"^\W*a\b", r.out, re.M), r


def test_await_takes_an_id_that_is_left_out_as_failed(job, api):
    api.absent = {"o2"}
    says(job.run("--await", ids=["o1", "o2"], type="organisation", table="organisation"), r"1 (id )?failed|failed\W+1", code=1)


def test_await_of_a_server_that_does_not_await(job, api):
    says(job.run("--await", ids=["a", "b"], type="batch", table="course_batch"), "accepted", "not await|does not", code=0)


def test_await_time_out_of_the_server_sends_the_block_once_more(job, api):
    api.script(1, Reply(500, api.answer({}, "SERVER_ERROR", "UOS_ESSYNCnull")))
    says(job.run("--await", ids=["a", "b"]), code=0)
    first, second = (c.json["request"] for c in api.calls)
    assert first["operationType"] == "sync" and "operationType" not in second
    assert first["objectIds"] == second["objectIds"] == ["a", "b"]


def test_the_failure_log_of_await_reads_back_only_what_failed(job, api, program):
    api.absent = {"b"}
    says(job.run("--await", ids=["a", "b", "c"]), code=1)
    log, = program.logs.glob("SyncFailure_*.log")
    api.absent = set()
    before = len(api.calls)
    says(job.run("--await", id_file=log), code=0)
    assert "b" in json.dumps([c.json for c in api.calls[before:]])


# ---- connections, books

def test_a_server_that_closes_after_each_answer(job, api, program):
    api.always = lambda req: Reply(200, OK, fault="close_after")
    r = says(job.run(ids=["a", "b", "c"], block=1), code=0)
    assert list(dict.fromkeys(api.ids())) == ["a", "b", "c"] and api.conn_count >= 3, r


def test_a_server_that_says_connection_close(job, api):
    api.always = lambda req: Reply(200, OK, headers={"Connection": "close"}, fault="close_after")
    says(job.run(ids=["a", "b"], block=1), code=0)
    assert api.blocks() == [["a"], ["b"]]


def test_retries_of_several_workers_keep_the_number_in_flight(job, api):
    api.always = lambda req: Reply(503 if req.number % 3 == 0 else 200, OK, delay=0.01)
    says(job.run("--workers", 3, ids=["i%d" % n for n in range(30)], block=2), code=0)
    assert sorted(api.ids()) == sorted("i%d" % n for n in range(30)) and api.most_in_flight <= 3


@pytest.mark.parametrize("awaits", [False, True])
def test_the_books_balance(job, api, ring, awaits):
    """ids = duplicate + bad + missing + accepted + confirmed + failed."""
    api.absent = {"u3"}
    api.script(2, api.error(400))
    lines = ["u%d" % n for n in range(6)] + ["u5", "", "\"unclosed"] + ["u7"]
    r = job.run("--json", *(["--await"] if awaits else []), ids="\n".join(lines[:8]) + "\n" + "b\xff\n".encode("latin-1").decode("latin-1"), block=2)
    s = json.loads(r.out)
    parts = ["duplicate", "bad", "missing", "accepted", "confirmed", "failed"]
    assert s["ids"] == sum(s[p] for p in parts) and r.code == 1 == s["exit_code"], r
    assert s["duplicate"] == 1 and s["failed"] >= 2 and (s["confirmed"] if awaits else s["accepted"]) >= 2, r


def test_three_hundred_blocks_over_one_connection(job, api):
    says(job.run(ids=["i%d" % n for n in range(300)], block=1), code=0)
    assert api.conn_count == 1 and len(api.calls) == 300


def test_a_key_with_line_breaks_is_refused(job, api):
    r = job.run(ids=["a"], key="abc\r\nX-Evil: 1")
    assert r.code == 2 and not api.calls and "X-Evil" not in r.err, r
