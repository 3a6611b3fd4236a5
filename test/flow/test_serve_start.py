"""serve: what keeps it from starting, said at once and plainly."""
import re
import socket

import pytest
from peer_http import Reply
from port import Port
from serving import Serve, cassandra, elastic, indices, serve, tables  # noqa: F401
from flow import PASSWORD

BATCH = """object: batch
source: {keyspace: sunbird_courses, table: course_batch}
target: {index: course-batch, id: "{batchid}"}
"""


def test_index_that_is_missing(serve, elastic):  # noqa: F811
    del elastic.indices["location"]
    text = serve.fails(code=2)
    assert 'no index or alias "location"' in text and "Create it" in text, text
    assert "location" not in elastic.indices, "never created silently"


def test_wrong_credentials(serve, elastic):  # noqa: F811
    elastic.always = Reply(401, {"error": {"type": "security_exception", "reason": "unable to authenticate user [ann]"}, "status": 401})
    text = serve.fails("--elastic-username", "ann", "--elastic-password", PASSWORD, code=3)
    assert "401" in text and PASSWORD not in text, text
    assert elastic.calls[0].header("Authorization").startswith("Basic ")


def test_wrong_api_key(serve, elastic, program):  # noqa: F811
    elastic.always = Reply(403, {"error": {"type": "security_exception", "reason": "no"}, "status": 403})
    text = serve.fails("--elastic-api-key-file", program.file("key", PASSWORD + "\n"), code=3)
    assert "403" in text and PASSWORD not in text
    assert elastic.calls[0].header("Authorization") == "ApiKey " + PASSWORD


def test_elasticsearch_is_not_there(serve, elastic):  # noqa: F811
    elastic.stop()
    text = serve.fails(code=3)
    assert "127.0.0.1:%d" % elastic.port in text and "connect" in text, text


def test_one_of_two_addresses_is_enough(serve, elastic):  # noqa: F811
    with Port() as nobody:
        dead = "http://127.0.0.1:%d" % nobody.number
        serve.start(elastic_url="%s,%s" % (dead, elastic.url))
    assert serve.ready().status == 200


def test_something_else_than_elasticsearch(serve, elastic):  # noqa: F811
    elastic.always = Reply(200, "<html>hello</html>", content_type="text/html")
    text = serve.fails(code=2)
    assert re.search(r"not .*Elasticsearch|Elasticsearch.* answer", text), text


def test_cassandra_is_not_there(serve, cassandra):  # noqa: F811
    cassandra.stop()
    text = serve.fails("--retry-budget", "300ms", code=3)
    assert "127.0.0.1:%d" % cassandra.port in text, text


def test_wrong_password_of_cassandra(serve, make_ring, program):  # noqa: F811
    ring = tables(make_ring(auth=("ann", "right")))
    ring.start()
    serve.ring = ring
    text = serve.fails("--cassandra-username", "ann", "--cassandra-password", PASSWORD, code=3)
    assert re.search("log|credential|password", text) and PASSWORD not in text, text


def test_a_port_that_is_taken(serve):  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as s:
        at = "127.0.0.1:%d" % s.getsockname()[1]
        text = serve.fails("--listen", at, code=2)
    assert at in text and "in use" in text, text


@pytest.mark.parametrize("more,where,words", [
    ("steps:\n  - join: {table: user_roles}\n", "5:5", "join"),
    ("steps:\n  - copy: {x: nothing}\n", "5:", 'no field "nothing"'),
    ("stepz: []\n", "4:1", 'unknown key "stepz"; did you mean "steps"'),
    ("nulls: sometimes\n", "4:8", "sometimes"),
    ("versioning: [sequence\n", "5:1", ""),
    ("versioning: sequins\n", "4:13", "sequins"),
    ("rename: {file: nowhere.yaml}\n", "4:", "nowhere.yaml"),
], ids=["step", "field", "key", "value", "yaml", "versioning", "file"])
def test_mistakes_in_a_mapping(serve, program, more, where, words):  # noqa: F811
    """File, line and column, and what it is."""
    path = program.file("my.yaml", BATCH + more)
    text = serve.fails(mappings=[path], code=2)
    assert re.search(re.escape("%s:%s" % (path, where)), text) and words in text, text


@pytest.mark.parametrize("text,words", [
    (BATCH.replace("course_batch", "course_bach"), "course_bach"),
    (BATCH.replace("sunbird_courses", "moonbird"), "moonbird"),
    (BATCH.replace("{batchid}", "{batchnumber}"), "batchnumber"),
    ("", "empty"),
], ids=["table", "keyspace", "id", "empty"])
def test_a_mapping_that_does_not_fit_the_schema(serve, program, text, words):  # noqa: F811
    said = serve.fails(mappings=[program.file("my.yaml", text)], code=2)
    assert words in said and "my.yaml" in said, said


def test_a_profile_that_is_not_there(serve):  # noqa: F811
    text = serve.fails(mappings=["sunbird/batsh"], code=2)
    assert "there is no profile sunbird/batsh in" in text and "did you mean sunbird/batch?" in text, text


def test_a_type_where_there_are_none(serve, program):  # noqa: F811
    """Said once, by the mapping that names one."""
    mapping = program.file("typed.yaml", "object: place\nsource: {keyspace: sunbird, table: location}\ntarget: {index: location, type: place}\n")
    serve.start(mappings=("sunbird/batch", mapping))
    lines = [line for line in serve.stop().err.splitlines() if "event=type_ignored" in line]
    assert len(lines) == 1 and "type=place" in lines[0] and "typed.yaml" in lines[0], lines


def test_the_same_type_twice(serve, program):  # noqa: F811
    text = serve.fails(mappings=["sunbird/batch", program.file("my.yaml", BATCH)], code=2)
    assert "my.yaml:1:9" in text and "object type batch" in text, text


def test_no_secret_is_left_anywhere(serve, program, cassandra, elastic):  # noqa: F811
    serve.start("--elastic-username", "ann", "--elastic-password", PASSWORD, "--cassandra-username", "u", "--cassandra-password", PASSWORD,
                "--log-level", "debug", "--grace", "1s")
    with open("/proc/%d/cmdline" % serve.server.pid, "rb") as f:
        assert PASSWORD.encode() not in f.read()
    serve.call("location", ["a"])
    serve.idle()
    elastic.stop()
    serve.call("location", ["b"])
    result = serve.stop(code=130)
    assert program.places_of(PASSWORD, result.out, result.err) == []
