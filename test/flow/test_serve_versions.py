"""serve with mappings that write with versions, between scripted peers; the same against real servers: test/live/test_order.py."""
import time

import peer_http
import pytest
from serving import cassandra, elastic, location, locations, on_step, serve  # noqa: F401

HOUR_US = 3600 * 1000000


@pytest.fixture
def mapping(tmp_path):
    """A mapping of the location table, in the mode asked for."""
    def write(versioning, name="location.yaml"):
        path = tmp_path / name
        path.write_text("object: location\nsource: {keyspace: sunbird, table: location}\ntarget: {index: location}\n"
                        "versioning: %s\n" % versioning)
        return path
    return write


def start(serve, path):  # noqa: F811
    return serve.start(mappings=(path,))


def document(id_, name="n"):
    return {"id": id_, "name": "%s %s" % (name, id_), "code": "c", "type": "block"}


def names(serve):  # noqa: F811
    return {i: d["name"] for i, d in serve.docs("location").items()}


def test_documents_carry_the_time_of_reading(serve, cassandra, elastic, mapping):  # noqa: F811
    locations(cassandra, "l1", "l2")
    start(serve, mapping("read_time"))
    begin = time.time_ns() // 1000
    assert serve.sync("location", ["l1", "l2", "nobody"])["esSyncResponse"] == {"l1": True, "l2": True, "nobody": False}
    assert names(serve) == {"l1": "n l1", "l2": "n l2"}
    assert all(begin <= d["_version"] <= time.time_ns() // 1000 for d in elastic.indices["location"].values())
    assert serve.metrics()["documents_indexed_total"] == 2


@pytest.mark.parametrize("fault", [peer_http.Reply(503), peer_http.Reply(429), peer_http.Reply(fault="close")])
def test_what_may_have_been_written_is_read_again(serve, cassandra, elastic, mapping, fault):  # noqa: F811
    """Fails when a body is sent again: the row has changed meanwhile."""
    locations(cassandra, "l1")
    bodies = []

    def hook(step, n, request):
        if step != "_bulk":
            return None
        bodies.append(request.body)
        if n == 1:
            locations(cassandra, "l1", name="newer")
            return fault
        return None
    on_step(elastic, hook)
    start(serve, mapping("read_time"))
    assert serve.sync("location", ["l1"])["esSyncResponse"] == {"l1": True}
    assert names(serve) == {"l1": "newer l1"}
    assert len(bodies) == 2 and bodies[0] != bodies[1]
    assert serve.metrics()["documents_indexed_total"] == 1, "counted once"


def test_created_under_another_term(serve, cassandra, elastic, mapping):  # noqa: F811
    """Fails without the check: a document whose row and version are gone would come back."""
    locations(cassandra, "l1", "l2")

    def hook(step, n, request):
        if step == "_bulk" and n == 1:
            cassandra.tables["sunbird", "location"].delete(id="l1")
            elastic.terms["location"] += 1
        return None
    on_step(elastic, hook)
    start(serve, mapping("read_time"))
    assert serve.sync("location", ["l1", "l2"])["esSyncResponse"] == {"l1": False, "l2": True}
    assert set(names(serve)) == {"l2"}


def test_foreign_version(serve, cassandra, elastic, mapping):  # noqa: F811
    locations(cassandra, "l1")
    with elastic.lock:
        elastic.write("location", "index", {"_id": "l1", "version": time.time_ns() // 1000 + HOUR_US, "version_type": "external"}, {"name": "x"})
    start(serve, mapping("read_time"))
    assert serve.sync("location", ["l1"])["esSyncResponse"] == {"l1": False}
    assert names(serve) == {"l1": "x"}
    assert serve.metrics()["documents_failed_total"] == 1


def test_a_conflict_is_read_once_more(serve, cassandra, elastic, mapping):  # noqa: F811
    locations(cassandra, "l1")

    def other(step, n, request):
        if step == "_bulk" and n <= 2:
            elastic.write("location", "index", {"_id": "l1", "version": time.time_ns() // 1000, "version_type": "external"}, {"name": "later"})
        return None
    on_step(elastic, other)
    start(serve, mapping("read_time"))
    assert serve.sync("location", ["l1"])["esSyncResponse"] == {"l1": True}
    metrics = serve.metrics()
    assert (metrics["documents_stale_total"], metrics["documents_indexed_total"]) == (1, 0)
    assert serve.sync("location", ["l1"])["esSyncResponse"] == {"l1": True}
    assert names(serve) == {"l1": "n l1"}


def test_none_writes_as_it_comes(serve, cassandra, elastic, mapping):  # noqa: F811
    locations(cassandra, "l1")
    start(serve, mapping("none"))
    for _ in range(2):
        assert serve.sync("location", ["l1"])["esSyncResponse"] == {"l1": True}
    assert elastic.indices["location"]["l1"]["_version"] == 2


def test_preserve_needs_a_look(serve, mapping):  # noqa: F811
    path = mapping("read_time")
    path.write_text(path.read_text() + "preserve: [own]\n")
    assert "preserve needs versioning: sequence" in serve.fails(mappings=(path,), code=2)
