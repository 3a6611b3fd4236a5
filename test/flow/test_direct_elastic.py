"""How direct sync speaks to Elasticsearch: every kind of log-in, over TLS; what is refused is told, and no secret with it."""
import base64

import peer_http
import pytest
from direct import Direct
from flow import PASSWORD
from peer_http import Reply

BASIC = "Basic " + base64.b64encode(f"syncer:{PASSWORD}".encode()).decode()
KINDS = {"basic": (["--elastic-username", "syncer", "--elastic-password"], BASIC),
         "api_key": (["--elastic-api-key"], "ApiKey " + PASSWORD),
         "bearer": (["--elastic-bearer"], "Bearer " + PASSWORD)}


@pytest.fixture
def secure(program, make_ring, certs):
    """An index behind TLS."""
    e = peer_http.Elastic(tls=certs.server_context())
    yield Direct(program, make_ring(page_rows=10), e)
    e.stop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("mode", ["read_time", "sequence"])
def test_every_log_in(secure, certs, program, kind, as_file, mode):
    flags, header = KINDS[kind]
    secret = [*flags[:-1], flags[-1] + "-file", program.file("secret", PASSWORD + "\n")] if as_file else [*flags, PASSWORD]
    secure.ok("--elastic-ca-file", certs.ca, *secret, versioning=mode)
    secure.same()
    assert {c.header("Authorization") for c in secure.elastic.calls} == {header}


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_in_that_is_refused(secure, certs, program, kind):
    flags, header = KINDS[kind]
    secure.elastic.always = Reply(401, {"error": {"type": "security_exception", "reason": "unable to authenticate"}, "status": 401})
    result = secure.run("--elastic-ca-file", certs.ca, *flags, PASSWORD, "--retry-budget", "400ms")
    assert result.code == 3 and "401" in result.err and secure.elastic.calls[0].header("Authorization") == header, result
    assert not secure.bulks() and not program.places_of(PASSWORD, result.err + result.out)


def test_a_server_that_nobody_vouches_for(secure):
    result = secure.run("--retry-budget", "400ms")
    assert result.code == 3 and "certificate" in result.err and not secure.elastic.calls, result
