"""The servers themselves: what all other live tests take for granted."""
import socket
import ssl

import pytest
import servers


def test_cassandra_is_the_version_of_the_table(db):
    assert db.execute("SELECT release_version FROM system.local").one()[0] == "5.0.4"


def test_keyspace_is_empty_and_usable(db, keyspace):
    db.execute(f"CREATE TABLE {keyspace}.t (id text PRIMARY KEY, v int)")
    db.execute(f"INSERT INTO {keyspace}.t (id, v) VALUES ('a', 1)")
    assert [tuple(row) for row in db.execute(f"SELECT * FROM {keyspace}.t")] == [("a", 1)]


def test_a_wrong_password_is_refused():
    from cassandra.cluster import NoHostAvailable
    with servers.cluster(password="wrong") as cluster, pytest.raises(NoHostAvailable, match="Provided username"):
        cluster.connect()


def test_tls_is_offered_by_our_authority_only(cassandra, tls):
    with socket.create_connection((cassandra.host, cassandra.port), 10) as raw:
        context = ssl.create_default_context(cafile=tls("ca.pem"))
        with context.wrap_socket(raw, server_hostname="cassandra.test") as secure:
            assert secure.version() in ("TLSv1.2", "TLSv1.3")
    with socket.create_connection((cassandra.host, cassandra.port), 10) as raw:
        context = ssl.create_default_context(cafile=tls("other-ca.pem"))
        with pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(raw, server_hostname="cassandra.test")


def test_elasticsearch_counts_what_is_written(elastic, index):
    elastic.create(index)
    elastic.ok("POST", f"/{index}/_bulk", lines=[{"index": {"_id": "a b"}}, {"x": 1}, {"index": {"_id": "c"}}, {"x": 2}])
    assert elastic.count(index) == 2
    assert elastic.get(index, "a b")["_source"] == {"x": 1}
    assert elastic.docs(index) == {"a b": {"x": 1}, "c": {"x": 2}}
