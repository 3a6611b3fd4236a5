"""What is asked before a run begins: asked again where the server is just busy, for some seconds."""
import pytest

from flow import cass, says
from peer_cql import OVERLOADED, error, reset


def fails(elastic, number, status, times=1):
    """The answers to the requests from `number` on."""
    elastic.script(number, [elastic.problem(status, "busy_exception", "later")] * times)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_busy_elasticsearch(direct, number, status):
    fails(direct.elastic, number, status)
    c = direct.ok(versioning="sequence")
    assert c["indexed"] == 60 and len(direct.elastic.calls) > number
    direct.same()


@pytest.mark.parametrize("what", ["system.local", "system_schema.tables"])
def test_a_busy_cassandra(direct, what):
    direct.ring.nodes[0].on("QUERY", what, error(OVERLOADED, "too many requests"))
    r = says(direct.run(json_=False), "event=start_retry", code=0)
    assert "OVERLOADED" in r.err.upper() or "overloaded" in r.err, r
    direct.same()


def test_one_that_closes_in_the_middle(direct):
    direct.ring.nodes[0].on("STARTUP", None, reset())
    direct.ok()
    direct.same()


def test_there_is_an_end(direct):
    fails(direct.elastic, 1, 503, 100)
    r = says(direct.run(), "gave up after", "503", code=3)
    assert 2.5 < r.seconds < 25 and len(direct.elastic.calls) > 3, r
    assert not direct.program.run("runs", "--json").out.strip(), "a run was begun"


def test_a_budget_of_nothing_asks_once(direct):
    fails(direct.elastic, 1, 503, 100)
    says(direct.run("--retry-budget", "0"), "503", code=3)
    assert len(direct.elastic.calls) == 1


def test_what_cannot_pass_is_said_at_once(direct):
    fails(direct.elastic, 1, 401, 100)
    says(direct.run(), "401|log-in|busy_exception", code=3)
    assert len(direct.elastic.calls) == 1
    direct.ring.auth = ("u", "p")
    says(direct.program.run("sync", "shop.items", "--to", "-", *cass(direct.ring), "--cassandra-username", "u", "--cassandra-password", "wrong"), code=3)
    assert len(direct.ring.seen("AUTH_RESPONSE")) == 1
