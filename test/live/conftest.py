"""Fixtures over the real servers: started when they don't run, left as they were found."""
import pathlib
import re
import uuid

import pytest
import servers
from proxy import Proxy


@pytest.fixture(scope="session", autouse=True)
def _servers():
    started = servers.ensure("cassandra", "elasticsearch")
    yield
    servers.stop(*started)


@pytest.fixture(scope="session")
def cassandra():
    """Where Cassandra listens: .host, .port"""
    return servers.address("cassandra")


@pytest.fixture(scope="session")
def elastic():
    """Elasticsearch: servers.Elastic"""
    return servers.elastic()


@pytest.fixture(scope="session")
def db():
    """One session of the Python driver for all tests; no keyspace is set."""
    session = servers.session()
    yield session
    session.cluster.shutdown()


@pytest.fixture(scope="module")
def keyspace(request, db):
    """The name of a keyspace that this test module has for itself."""
    module = re.sub(r"\W", "_", request.module.__name__).lower()[-24:]
    name = f"t_{module}_{uuid.uuid4().hex[:6]}"
    servers.create_keyspace(db, name)
    yield name
    db.execute(f"DROP KEYSPACE IF EXISTS {name}", timeout=60)


@pytest.fixture
def index(request, elastic):
    """The name of an index that does not exist yet; deleted afterwards, with all that begin with it."""
    name = f"t_{re.sub(r'[^a-z0-9]', '_', request.node.name.lower())[:40]}_{uuid.uuid4().hex[:6]}"
    yield name
    elastic.delete(name + "*")


@pytest.fixture
def program(tmp_path):
    """The program under test, its home and working folder in tmp_path: servers.Program"""
    return servers.Program(tmp_path)


@pytest.fixture(scope="session")
def password_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("secret") / "password"
    path.write_text(servers.setting("PASSWORD") + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def cassandra_args(cassandra, password_file):
    """Flags that log in to Cassandra."""
    return ["--cassandra-hosts", cassandra.host, "--cassandra-port", cassandra.port,
            "--cassandra-username", servers.setting("USER"), "--cassandra-password-file", password_file]


@pytest.fixture(scope="session")
def tls():
    """tls("ca.pem"): a file of the test authority."""
    return lambda name: pathlib.Path(servers.tls(name))


class Between:
    """Fault proxies (proxy.Proxy) before both servers; .cassandra_args and .elastic_args lead the program through them."""

    def __init__(self, cassandra, elastic_url, login):
        self.cassandra = Proxy(cassandra.host, cassandra.port)
        self.elastic = Proxy(*elastic_url.split("//")[1].split(":"))
        # A node is found again by the address that it advertises: that must lead to the proxy, too.
        self.cassandra_args = [*login, "--cassandra-hosts", "127.0.0.1", "--cassandra-port", self.cassandra.port,
                               "--address-map", f"{cassandra}=127.0.0.1:{self.cassandra.port}"]
        self.elastic_args = ["--elastic-url", f"http://127.0.0.1:{self.elastic.port}"]

    def stop(self):
        self.cassandra.stop()
        self.elastic.stop()


@pytest.fixture
def between(cassandra, elastic, password_file):
    b = Between(cassandra, elastic.url, ["--cassandra-username", servers.setting("USER"), "--cassandra-password-file", password_file])
    yield b
    b.stop()
