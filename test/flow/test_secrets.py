"""A secret is never printed, logged, journalled, or left in the process title."""
import pytest

from flow import KEY, PASSWORD, QUICK, cass, says
from peer_http import Reply
from program import command_line


def nowhere(program, result, *secrets):
    for s in secrets:
        assert not program.places_of(s, result.out, result.err), (s, program.places_of(s, result.out, result.err))


@pytest.mark.parametrize("fault", [None, 400, 401, 503])
def test_key_and_password_are_nowhere(job, api, ring, program, fault):
    ring.auth = ("cassandra", PASSWORD)
    if fault:
        api.script(1, Reply(fault, {"echo": "Bearer " + KEY}) if fault == 400 else Reply(fault))
    r = job.run(*QUICK, "--log-level", "debug", username="cassandra", password=PASSWORD)
    if fault == 400:  # what the server echoes is logged as it came, but for the key
        assert r.code == 1
    nowhere(program, r, KEY, PASSWORD)


def test_wrong_password_is_not_shown(job, ring, program):
    ring.auth = ("cassandra", "another")
    r = says(job.run(username="cassandra", password=PASSWORD), code=3)
    nowhere(program, r, PASSWORD)


def test_secrets_leave_the_command_line(job, api, ring, program):
    ring.auth = ("cassandra", PASSWORD)
    api.script(1, Reply(fault="hang"))
    p = job.start(username="cassandra", password=PASSWORD)
    api.wait_for(lambda calls: calls)
    shown = command_line(p.pid)
    assert KEY.encode() not in shown and PASSWORD.encode() not in shown, shown
    program.kill(p)
    assert not program.places_of(KEY) and not program.places_of(PASSWORD)


def test_secrets_leave_the_command_line_before_the_first_connection(job, ring, program):
    from peer_cql import hang
    ring.on("STARTUP", do=hang(), times=None)
    p = job.start()
    ring.wait_for(lambda rs: any(r.op == "STARTUP" for r in rs))
    assert KEY.encode() not in command_line(p.pid)
    program.kill(p)


def test_secrets_from_files(job, api, ring, program):
    ring.auth = ("cassandra", PASSWORD)
    program.file("key", KEY + "\n")
    program.file("password", PASSWORD + "\n")
    r = says(job.run("--sync-api-key-file", "key", "--cassandra-password-file", "password", username="cassandra", key=None), code=0)
    assert api.calls[0].header("Authorization") == "Bearer " + KEY
    (program.cwd / "key").unlink()
    (program.cwd / "password").unlink()
    nowhere(program, r, KEY, PASSWORD)


def test_secrets_from_the_environment(job, api, ring, program):
    ring.auth = ("cassandra", PASSWORD)
    r = says(job.run(username="cassandra", key=None, env={"CASS2ES_SYNC_API_KEY": KEY, "CASS2ES_CASSANDRA_PASSWORD": PASSWORD}), code=0)
    assert api.calls[0].header("Authorization") == "Bearer " + KEY
    nowhere(program, r, KEY, PASSWORD)


def test_secret_file_that_is_missing(job, program):
    says(job.run("--sync-api-key-file", "nosuch", key=None), "nosuch", "No such file", code=2)


def test_print_config_hides_secrets(program, ring):
    r = program.run("check", "--print-config", *cass(ring), env={"CASS2ES_SYNC_API_KEY": KEY, "CASS2ES_CASSANDRA_PASSWORD": PASSWORD})
    assert r.code in (0, 2)
    nowhere(program, r, KEY, PASSWORD)


def test_key_in_an_endpoint_url_is_not_shown(job, api, program):
    r = job.run(ids=["a"], key=None, endpoint=api.endpoint.replace("http://", "http://user:%s@" % PASSWORD))
    nowhere(program, r, PASSWORD)
