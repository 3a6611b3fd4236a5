"""Wrong input: the message says what and where, and names the nearest thing that is right."""
import pytest

from flow import KEY, cass, says
from peer_http import Reply


def nothing_happened(api, ring):
    assert not api.calls


@pytest.mark.parametrize("wrong,right", [("sunbird_sync_blok_size", "sunbird_sync_block_size"), ("sunbird_casandra_server", "sunbird_cassandra_server"),
                                         ("dryrun", "dry_run"), ("sunbird_sync_idfile", "sunbird_sync_id_file")])
def test_unknown_context_param(job, api, ring, wrong, right):
    says(job.run("--context_param", wrong + "=1", ids=["a"]), wrong, r"\b%s\b" % right, code=2)
    nothing_happened(api, ring)


@pytest.mark.parametrize("wrong,right", [("--worker", "--workers"), ("--log-dri", "--log-dir"), ("--freshh", "--fresh")])
def test_unknown_flag(job, api, ring, wrong, right):
    says(job.run(wrong, "x", ids=["a"]), wrong + r"\b", right, code=2)
    nothing_happened(api, ring)


@pytest.mark.parametrize("wrong,right", [("snyc", "sync"), ("failure", "failures"), ("serv", "serve")])
def test_unknown_command(program, wrong, right):
    program.common = []
    says(program.run(wrong), wrong, r"\b%s\b" % right, code=2)


def test_unknown_environment_variable_is_named(job):
    r = job.run(ids=["a"], env={"CASS2ES_SYNC_API_KEYY": "x"})
    says(r, "CASS2ES_SYNC_API_KEYY")
    assert r.code in (0, 2)


def test_no_command(program):
    program.common = []
    r = program.run("--help")
    assert r.code == 0 and "sync" in r.out
    assert program.run().code == 2


@pytest.mark.parametrize("command", ["sync", "serve", "failures", "runs", "check"])
def test_help_of_a_command(program, command):
    program.common = []
    r = program.run(command, "--help")
    assert r.code == 0 and len(r.out) > 300 and "--state-dir" in r.out


def test_version(program):
    program.common = []
    r = program.run("--version")
    assert r.code == 0 and "cass2es" in r.out


@pytest.mark.parametrize("missing,says_", [("server", "sunbird_cassandra_server|cassandra-hosts"), ("endpoint", "sunbird_sync_api_endpoint|--endpoint"),
                                           ("type", "sunbird_sync_object_type|object-type")])
def test_missing_parameter(job, api, ring, missing, says_):
    says(job.run(**{missing: None}), says_, code=2)
    nothing_happened(api, ring)


def test_neither_table_nor_id_file(job, api, ring):
    says(job.run(table=None), "sunbird_cassandra_table|table", "id_file|id-file", code=2)
    nothing_happened(api, ring)


@pytest.mark.parametrize("name,value", [("port", "abc"), ("port", "0"), ("port", "65536"), ("port", "-1"), ("port", "9042x"), ("block", "ten"), ("block", "0"), ("block", "-5"),
                                        ("block", "1.5"), ("block", "99999999999999999999"), ("pause", "-1"), ("pause", "soon"), ("dry_run", "maybe")])
def test_a_value_that_is_no_number_or_out_of_range(job, api, ring, name, value):
    r = says(job.run(ids=["a"], **{name: value}), job.LONG[name], code=2)
    assert value in r.err, r
    nothing_happened(api, ring)


def test_context_param_without_a_value(program):
    says(program.run("sync", "--context_param", "dry_run"), "dry_run", "name=value|=", code=2)


@pytest.mark.parametrize("value", ["TRUE", "True", "yes", "1"])
def test_dry_run_spellings(job, api, value):
    r = job.run(ids=["a"], dry_run=value)
    assert r.code in (0, 2) and not api.calls, r


def test_unknown_table_names_the_nearest(job, api, ring):
    says(job.run(table="usre", keyspace="sunbird"), "usre", r"\buser\b", code=2)
    nothing_happened(api, ring)


def test_unknown_table_in_no_keyspace(job, api, ring):
    says(job.run(table="course_batches", type="batch"), "course_batches", r"\bcourse_batch\b|sunbird", code=2)
    nothing_happened(api, ring)


def test_unknown_keyspace_names_the_nearest(job, api, ring):
    says(job.run(keyspace="sunbrid"), "sunbrid", r"\bsunbird\b", code=2)
    nothing_happened(api, ring)


def test_unknown_table_for_a_file(program, ring):
    says(program.run("sync", "sunbird.usre", "--to", "-", *cass(ring)), "usre", r"\buser\b", code=2)


def test_table_without_a_keyspace_for_a_file(program, ring):
    r = program.run("sync", "user", "--to", "-", *cass(ring))
    assert r.code in (0, 2)


@pytest.mark.parametrize("endpoint", ["", "http://", "ftp://host/x", "http://host:99999/x", "http://ho st/", "{{domain}}/api/data/v1/index/sync"])
def test_an_endpoint_that_is_no_url(job, api, ring, endpoint):
    r = says(job.run("--retry-budget", "200ms", ids=["a"], endpoint=endpoint), "endpoint")
    assert r.code == 2, r


@pytest.mark.parametrize("form", ["objekt"])
def test_id_form_that_is_none(job, api, ring, form):
    says(job.run("--id-form", form, ids=["a"]), "id-form", "object-per-block", code=2)
    nothing_happened(api, ring)


def test_config_file_errors_have_line_and_column(job, api, ring, program):
    f = program.file("c.yaml", "cassandra:\n  hosts: [127.0.0.1]\n  prot: 9042\n")
    says(job.run("--config", f, ids=["a"]), r"c\.yaml:3:3", "prot", r"\bport\b", code=2)
    nothing_happened(api, ring)


def test_config_file_with_a_wrong_value(job, api, ring, program):
    f = program.file("c.yaml", "cassandra:\n  port: many\n")
    says(job.run("--config", f, ids=["a"]), r"c\.yaml:2:9", "many", code=2)


def test_config_file_that_is_no_yaml(job, program):
    f = program.file("c.yaml", "cassandra: [\n")
    says(job.run("--config", f, ids=["a"]), r"c\.yaml:\d+", code=2)


def test_config_file_that_is_missing(job):
    says(job.run("--config", "nosuch.yaml", ids=["a"]), r"nosuch\.yaml", "No such file", code=2)


def test_flags_beat_the_environment_beats_the_file(program, ring, api):
    program.file("ids.csv", "a\nb\nc\nd\n")
    f = program.file("c.yaml", "cassandra:\n  hosts: [%s]\n  port: %d\n" % (ring.address, ring.port))
    env = {"CASS2ES_CASSANDRA_PORT": "1", "CASS2ES_SYNC_API_KEY": KEY}
    r = program.run("sync", "--config", f, "--cassandra-port", ring.port, "--endpoint", api.endpoint, "--object-type", "user",
                    "--table", "user", "--pause", "0", "--id-file", "ids.csv", "--log-dir", program.logs, env=env)
    assert r.code == 0 and api.ids() == list("abcd"), r


def test_flags_beat_context_params(job, api):
    says(job.run("--block-size", "2", ids=["a", "b", "c"], block=1), code=0)
    assert api.blocks() == [["a", "b"], ["c"]]


def test_id_file_that_is_a_folder(job, api, program):
    (program.cwd / "folder").mkdir()
    says(job.run(id_file="folder"), "folder", code=2)
    assert not api.calls


def test_binary_id_file(job, api):
    r = job.run(ids=bytes(range(256)) * 20)
    assert r.code in (1, 2), r


def test_one_endless_line(job, api):
    says(job.run(ids=b"x" * (4 << 20) + b"\nok\n", block=1), code=1)
    assert api.ids() == ["ok"]
    says(job.program.run("failures", "show"), r"\bbad_id\b", r"\bline 1\b")


def test_quote_that_is_never_closed(job, api):
    r = says(job.run(ids='a\n"b\nc\nd\n'), r"line 2\b|:2\b|quote")
    assert r.code in (1, 2), r


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_the_status_of_the_api_is_named(job, api, status):
    from peer_http import Reply
    api.always = Reply(status, {"params": {"errmsg": "because of reasons"}})
    r = job.run("--retry-budget", "200ms", ids=["a"])
    if status in (400, 500):
        assert r.code == 1 and "because of reasons" in job.program.log("Failure"), r
        r = job.program.run("failures", "list")
        says(r, r"\bhttp_%d\b" % status, "HTTP %d" % status)
    else:
        says(r, "HTTP %d" % status, code=3)


@pytest.mark.parametrize("wrong, near", [("usr", "user"), ("User", "user"), ("organization", "organisation")])
def test_unknown_object_type_is_warned_about(job, wrong, near):
    says(job.run(ids=["a"], type=wrong), "event=object_type_unknown type=%s .*did_you_mean=%s" % (wrong, near), code=0)


def test_the_cause_of_a_retry_is_said(job, api):
    api.script(1, Reply(503, "down for maintenance"))
    says(job.run(ids=["a"]), "event=call_retry .*error=.*503", code=0)


def test_a_failed_id_cannot_speak_to_the_terminal(job, api):
    api.script(1, api.error(400))
    r = says(job.run(ids=["\x1b[2Jx" + "y" * 5000]), r"http_400: .*y\.\.\.: HTTP 400", code=1)
    assert "\x1b" not in r.out + r.err and len(r.out) < 2000


@pytest.mark.parametrize("kind, form, useless", [
    ("user", "object-per-block", True), ("organisation", "object-per-block", True), ("user_course", "string", True),
    ("user", "string", False), ("batch", "string", False), ("user_course", "object-per-block", False)])
def test_an_id_form_that_the_server_accepts_and_forgets_is_warned_about(job, kind, form, useless):
    r = says(job.run("--id-form", form, ids=["a"], type=kind, table=None), code=0)
    assert ("event=id_form_useless" in r.err) == useless, r
