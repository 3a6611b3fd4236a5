"""How serve speaks to Elasticsearch: log-in, certificates, packed bodies, the paths of version 6."""
import gzip

import peer_http
import pytest
from flow import PASSWORD
from peer_http import Reply
from serving import Serve, batch, batches, cassandra, elastic, indices, serve  # noqa: F401


def test_bearer(serve, cassandra, elastic, program):  # noqa: F811
    batches(cassandra, ("c1", "b1"))
    serve.start("--elastic-bearer-file", program.file("token", PASSWORD + "\n"))
    assert serve.sync("batch", ["c1"])["esSyncResponse"] == {"c1": True}
    assert serve.docs("batch") == {"b1": batch("c1", "b1")}
    assert {c.header("Authorization") for c in elastic.calls} == {"Bearer " + PASSWORD}


def test_bearer_that_is_refused(serve, elastic, program):  # noqa: F811
    elastic.always = Reply(401, {"error": {"type": "security_exception", "reason": "unable to authenticate"}, "status": 401})
    text = serve.fails("--elastic-bearer", PASSWORD, code=3)
    assert "401" in text
    assert elastic.calls[0].header("Authorization") == "Bearer " + PASSWORD
    assert not program.places_of(PASSWORD, text)


@pytest.mark.parametrize("mode,packed", [("gzip", True), ("off", False), ("auto", False)])
def test_compress(serve, cassandra, elastic, mode, packed):  # noqa: F811
    """A link within the machine is not slow."""
    names = ["%d " % i * 2000 for i in range(3)]
    for i, name in enumerate(names):
        batches(cassandra, ("c%d" % i, "b%d" % i), name=name)
    serve.start("--compress", mode)
    assert serve.sync("batch", ["c0", "c1", "c2"])["esSyncResponse"] == {"c0": True, "c1": True, "c2": True}
    assert serve.docs("batch") == {"b%d" % i: batch("c%d" % i, "b%d" % i, name) for i, name in enumerate(names)}
    bulks = [c for c in elastic.calls if c.path.endswith("/_bulk")]
    assert bulks and {c.header("Content-Encoding") for c in bulks} == {"gzip" if packed else None}
    for c in bulks if packed else []:
        assert len(c.body) < len(gzip.decompress(c.body)) / 2


def test_client_certificate(program, cassandra, certs):  # noqa: F811
    batches(cassandra, ("c1", "b1"))
    with indices(peer_http.Elastic(tls=certs.server_context(client=True))) as elastic:  # noqa: F811
        s = Serve(program, cassandra, elastic)
        try:
            without = s.begin("--elastic-ca-file", certs.ca).wait(60)
            # The server's word for it may come after it has hung up.
            assert without.code == 3 and elastic.url in without.err and not elastic.calls
            s.start("--elastic-ca-file", certs.ca, "--elastic-cert-file", certs.pem("client"), "--elastic-key-file", certs.key("client"))
            assert s.sync("batch", ["c1"])["esSyncResponse"] == {"c1": True}
        finally:
            s.end()


def test_elasticsearch_6(serve, cassandra, elastic):  # noqa: F811
    """Every worker knows, also those that did not ask."""
    elastic.version = "6.8.23"
    batches(cassandra, *[("c%d" % i, "b%d" % i) for i in range(40)])
    serve.start()
    ids = ["c%d" % i for i in range(40)]
    for i in range(0, 40, 5):
        assert set(serve.sync("batch", ids[i:i + 5])["esSyncResponse"].values()) == {True}
    paths = {c.path for c in elastic.calls if c.path.endswith(("_bulk", "_mget"))}
    assert paths == {"/course-batch/_doc/_bulk", "/course-batch/_doc/_mget"}
    assert len(serve.docs("batch")) == 40


@pytest.mark.parametrize("version", ["6.7.2", "5.6.16", "9.1.0"])
def test_a_version_that_is_not_supported(serve, elastic, version):  # noqa: F811
    elastic.version = version
    text = serve.fails(code=2)
    assert "is Elasticsearch %s, which is not supported; Elasticsearch 6.8, 7 and 8 are, and OpenSearch 2 and 3" % version in text
