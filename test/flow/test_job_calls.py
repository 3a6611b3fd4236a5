"""The job's calls: body, headers, blocks, pauses, endpoints, logs, dry run."""
import json
import re

import pytest

from flow import KEY, QUICK, Job, one_of, says
from peer_http import Reply, SyncApi
from program import log_entries


def test_body_and_headers_are_those_of_the_original(job, api):
    says(job.run(ids=["id1", "id2"]), code=0)
    call, = api.calls
    assert call.body == b'{"params":{},"request":{"objectType":"user","operationFor":"es","objectIds":["id1","id2"]}}'
    assert (call.method, call.target) == ("POST", "/v1/data/sync")
    assert call.header("Content-Type") == "application/json"
    assert call.header("Authorization") == "Bearer " + KEY
    assert call.header("Expect") is None and call.header("Content-Length") == str(len(call.body))


def test_without_a_key_no_authorization_is_sent(job, api):
    says(job.run(ids=["id1"], key=None), code=0)
    assert api.calls[0].header("Authorization") is None


def test_blocks_are_full_but_the_last_and_share_one_connection(job, api):
    says(job.run(ids=["i%d" % n for n in range(8)], block=3), code=0)
    assert api.blocks() == [["i0", "i1", "i2"], ["i3", "i4", "i5"], ["i6", "i7"]]
    assert api.conn_count == 1


def test_default_block_is_100(job, api):
    says(job.run(ids=["i%d" % n for n in range(101)]), code=0)
    assert [len(b) for b in api.blocks()] == [100, 1]


def test_the_pause_lies_between_the_end_of_a_call_and_the_next(job, api):
    api.always = Reply(delay=0.05, body=SyncApi.answer({"response": "SUCCESS"}))

    def pause():
        del api.calls[:]
        r = says(job.run(ids=["a", "b"], block=1, pause=1500), code=0)
        gap, = [b.start - a.answered for a, b in zip(api.calls, api.calls[1:])]
        assert gap >= 1.495
        return None if r.seconds < 3 else (gap, r)  # none before the first, none after the last
    one_of(3, pause)


def test_no_pause_when_it_is_zero(job, api):
    says(job.run(ids=["i%d" % n for n in range(20)], block=1, pause=0), code=0)
    assert api.calls[-1].start - api.calls[0].start < 25  # not the 95 s of the default


def test_workers_is_the_number_of_calls_in_flight(job, api):
    api.always = Reply(delay=0.1, body=SyncApi.answer({"response": "SUCCESS"}))
    says(job.run("--workers", 3, ids=["i%d" % n for n in range(9)], block=1), code=0)
    assert api.most_in_flight == 3 and sorted(api.ids()) == ["i%d" % n for n in range(9)]


def test_one_call_in_flight_by_default(job, api):
    api.always = Reply(delay=0.03, body=SyncApi.answer({"response": "SUCCESS"}))
    says(job.run(ids=["i%d" % n for n in range(5)], block=1), code=0)
    assert api.most_in_flight == 1


def test_ids_are_escaped_as_json(job, api):
    ids = ['q"uote', "back\\slash", "tab\tbed", "ü☃😀", "sl/ash"]
    says(job.run(ids="".join(json.dumps(i) + "\n" for i in ids)), code=0)
    assert api.blocks() == [ids]


def test_no_body_is_larger_than_the_gateway_takes(job, api):
    ids = ["%0500d" % n for n in range(5000)]
    says(job.run(ids=ids, block=5000), code=0)
    assert api.ids() == ids
    assert max(len(c.body) for c in api.calls) <= 1000000 and len(api.calls) > 2


def test_endpoint_with_a_path_prefix(job, api):
    api.path = "/prefix/api/data/v1/index/sync"
    says(job.run(ids=["a"]), code=0)
    assert api.calls[0].target == api.path


def test_endpoint_without_scheme_means_https(program, ring, certs):
    with SyncApi(tls=certs.server_context()) as api:
        job = Job(program, ring, api)
        says(job.run("--ca-file", certs.ca, ids=["a"], endpoint="localhost:%d/v1/data/sync" % api.port), code=0)
        assert api.ids() == ["a"]


def test_certificate_of_an_unknown_ca_is_refused(program, ring, certs):
    with SyncApi(tls=certs.server_context()) as api:
        r = Job(program, ring, api).run(*QUICK, ids=["a"], endpoint="https://localhost:%d/v1/data/sync" % api.port)
        says(r, "certificate")
        assert r.code == 3
        assert not api.calls


def test_certificate_for_another_name_is_refused(program, ring, certs):
    with SyncApi(tls=certs.server_context("other")) as api:
        r = Job(program, ring, api).run("--ca-file", certs.ca, *QUICK, ids=["a"], endpoint="https://localhost:%d/v1/data/sync" % api.port)
        says(r, "certificate|host name|subject name")
        assert r.code == 3
        assert not api.calls


def test_a_key_over_plain_http_is_warned_about(program, ring):
    with SyncApi() as proxy:
        job = Job(program, ring, proxy)
        r = job.run(ids=["a"], endpoint="http://sync.example.org/v1/data/sync", env={"http_proxy": proxy.url})
        says(r, "warn", r"(http|encrypt).*key|key.*(http|encrypt)", code=0)
        assert KEY not in r.out + r.err


def test_no_warning_without_a_key(program, ring):
    with SyncApi() as proxy:
        job = Job(program, ring, proxy)
        r = job.run(ids=["a"], key=None, endpoint="http://sync.example.org/v1/data/sync", env={"http_proxy": proxy.url})
        assert r.code == 0 and not re.search(r"warn", r.err, re.I), r


def test_proxy_variable_is_followed(program, ring):
    with SyncApi() as proxy:
        job = Job(program, ring, proxy)
        says(job.run(ids=["a"], endpoint="http://sync.example.org/v1/data/sync", env={"http_proxy": proxy.url}), code=0)
        assert proxy.calls[0].target == "http://sync.example.org/v1/data/sync"


def test_success_log_has_the_original_form(job, api, program):
    r = says(job.run(ids=["a", "b", "c"], block=2), code=0)
    entries = log_entries(program.log("Success"))
    assert [(n, q) for n, q, _ in entries] == [(1, api.calls[0].body.decode()), (2, api.calls[1].body.decode())]
    assert json.loads(entries[0][2])["result"] == {"response": "SUCCESS"}
    assert not program.log("Failure")
    assert re.search(r"SyncSuccess_\d{13}\.log", r.out + r.err)


def test_failure_log_has_the_original_form_and_counts_over_both(job, api, program):
    api.script(2, api.error(400, "BAD"))
    r = says(job.run(ids=["a", "b", "c"], block=1), code=1)
    assert [n for n, _, _ in log_entries(program.log("Success"))] == [1, 3]
    (n, q, a), = log_entries(program.log("Failure"))
    assert (n, q) == (2, api.calls[1].body.decode()) and json.loads(a)["params"]["err"] == "BAD"
    assert re.search(r"SyncFailure_\d{13}\.log", r.out + r.err)


def test_answer_with_line_breaks_stays_one_entry(job, api, program):
    api.script(1, Reply(400, "line one\nRequest No : 7\nline three\n"))
    says(job.run(ids=["a", "b"], block=1), code=1)
    text = program.log("Failure")
    assert len(re.findall(r"^Request No : ", text, re.M)) == 1, text


def test_logs_go_to_the_working_folder_by_default(job, program):
    args = job.args(ids=["a"])
    at = args.index("--log-dir")
    says(program.run(*args[:at], *args[at + 2:]), code=0)
    assert list(program.cwd.glob("SyncSuccess_*.log"))


def test_the_summary_says_accepted_and_names_the_counts(job):
    says(job.run(ids=["a", "b", "a-3"], block=2), r"\b3\b.*accepted|accepted.*\b3\b", code=0)


# ---- dry run

def test_dry_run_is_the_default_and_makes_no_call(job, api, program):
    r = says(job.run(ids=["id1", "id2", "id3"], block=2, pause=60000, dry_run=None), "dry run", r"would be 2 calls", code=0)
    assert not api.calls and r.seconds < 25
    assert (program.cwd / "syncIds.csv").read_bytes() == b"id1\nid2\nid3\n"


def test_dry_run_says_how_long_the_pauses_alone_take(job):
    says(job.run(ids=["i%d" % n for n in range(1000)], block=100, pause=None, dry_run=None), r"would be 10 calls", r"pauses between them alone take 45 s", code=0)


def test_dry_run_of_a_table_writes_its_ids(job, api, program):
    says(job.run(dry_run="true"), code=0)
    assert sorted((program.cwd / "syncIds.csv").read_text().splitlines()) == ["user-%04d" % i for i in range(10)]
    assert not api.calls


def test_dry_run_needs_no_endpoint(job):
    says(job.run(endpoint=None, key=None, dry_run=None), code=0)


def test_sync_ids_of_a_dry_run_are_read_back(job, api, program):
    says(job.run(dry_run="true"), code=0)
    says(job.run(id_file="syncIds.csv"), code=0)
    assert sorted(api.ids()) == ["user-%04d" % i for i in range(10)]


def test_a_real_run_leaves_no_sync_ids_behind(job, program):
    says(job.run(), code=0)
    assert not (program.cwd / "syncIds.csv").exists()


def test_strange_ids_survive_sync_ids_csv(job, api, ring, program):
    ids = ['with,comma', 'with "quotes"', "ünïcode", " blank in front", "do course/ü 1"]
    ring.tables["sunbird", "user"].put([(i, "n", "c") for i in ids])
    says(job.run(dry_run="true"), code=0)
    says(job.run(id_file="syncIds.csv"), code=0)
    assert sorted(api.ids()) == sorted(ids + ["user-%04d" % i for i in range(10)])


def test_dry_run_is_off_without_context_params(program, ring, api):
    program.file("ids.csv", "a\n")
    env = {"CASS2ES_SYNC_API_KEY": KEY}
    r = program.run("sync", "--cassandra-hosts", ring.address, "--cassandra-port", ring.port, "--endpoint", api.endpoint,
                    "--object-type", "user", "--table", "user", "--id-file", "ids.csv", "--pause", "0", "--log-dir", program.logs, env=env)
    says(r, code=0)
    assert api.ids() == ["a"]


def test_last_of_a_repeated_parameter_wins(job, api):
    says(job.run("--context_param", "sunbird_sync_object_type=organisation", ids=["a"]), code=0)
    assert api.calls[0].json["request"]["objectType"] == "organisation"


@pytest.mark.parametrize("empty", ["", '""', "'\"\"'", "''"])
def test_empty_user_and_password_in_every_spelling(job, api, ring, empty):
    ring.auth = None
    says(job.run(username=empty, password=empty), code=0)
    assert len(api.ids()) == 10 and not ring.seen("AUTH_RESPONSE")
