"""serve: what it answers, over HTTP: the recorded calls of both originals, routes, dialects, what is refused."""
import json
import socket

import pytest
import servers
from serving import PATHS, USER, Serve, batch, batches, cassandra, elastic, location, locations, request_of, serve  # noqa: F401

CALLS = json.loads((servers.ROOT / "test/data/sync-calls.json").read_text())
JSON = {"Content-Type": "application/json"}
ENROLMENT = "object: user_course\nsource: {table: user_enrolments}\ntarget: {index: course-batch, id: \"{batchid}_{userid}\"}\n"
ORGANISATION = "object: organisation\nsource: {table: organisation}\ntarget: {index: location, id: \"{id}\"}\n"


@pytest.fixture
def both(serve, cassandra, program):  # noqa: F811
    """Every type that the originals have, with a row for each id that was there when the calls were recorded."""
    wanted = {}
    for c in CALLS:
        try:
            request = json.loads(c["body"])["request"]
        except ValueError:
            continue
        found = [i for i in request.get("objectIds", []) if isinstance(i, str) and not i.startswith("no-such")]
        wanted.setdefault(request.get("objectType"), set()).update(found)
    locations(cassandra, *wanted["location"])
    cassandra.tables["sunbird", "user"].put([(i, "n", None, None, None) for i in wanted["user"]])
    cassandra.tables["sunbird", "organisation"].put([(i, "n") for i in wanted["organisation"]])
    batches(cassandra, *[(i, "b-" + i) for i in wanted["batch"]])
    serve.mappings = ["sunbird/batch", "sunbird/location", USER, program.file("e.yaml", ENROLMENT), program.file("o.yaml", ORGANISATION)]
    return serve


def same_body(ours, theirs, traced):
    for body in (ours, theirs):
        assert set(body["params"]) == {"resmsgid", "msgid", "err", "status", "errmsg"}
        assert body.pop("ts")
    for name in ("msgid", "resmsgid"):
        mine, recorded = ours["params"].pop(name), theirs["params"].pop(name)
        assert type(mine) is type(recorded)
        assert not traced or mine == recorded
    assert ours == theirs


# In one server for both the type decides who answers: what lms-service says of a user can't be had beside userorg-service.
def replayed(service):
    return [c for c in CALLS if c["service"] == service]


@pytest.mark.parametrize("service", ["lms", "userorg"])
@pytest.mark.parametrize("how", ["told", "its types", "types of both"])
def test_the_recorded_calls(both, elastic, service, how):  # noqa: F811
    """Their status, and their body but for ts, msgid and resmsgid; an HTML page becomes JSON of the same status."""
    own = {"lms": ["sunbird/batch", both.mappings[3]], "userorg": ["sunbird/location", USER, both.mappings[4]]}
    flags = ["--dialect", service] if how == "told" else []
    beside = how == "types of both"
    mappings = both.mappings if beside else own[service]
    both.start(*flags, mappings=mappings)
    seen = 0
    for c in replayed(service):
        path = c["path"]
        if beside and service == "userorg" and c["case"].startswith("bad_"):
            path = PATHS[2]  # without a type the path says who answers
        if beside and (service, c["case"]) == ("lms", "bad_object_type_user"):
            continue
        if "unreachable" in c["case"]:
            both.stop()
            both.start("--sync-timeout", "300ms", *flags, mappings=mappings)
            elastic.stop()
        answer = both.http(c["method"], path, c["body"], c["headers"])
        assert answer.status == c["status"], (c["case"], answer)
        assert answer.headers["Content-Type"] == "application/json"
        if isinstance(c["answer"], dict):
            same_body(answer.json, json.loads(json.dumps(c["answer"])), "x-msgid" in c["headers"])
        else:
            assert answer.json["responseCode"] == ("OK" if c["status"] == 200 else "CLIENT_ERROR"), c["case"]
        if "unreachable" in c["case"]:
            elastic.start()
        seen += 1
    assert seen == len(replayed(service)) - (beside and service == "lms")
    both.idle()


def test_there_are_26_recorded_calls():
    assert len(CALLS) == 26 == len(replayed("lms")) + len(replayed("userorg"))


@pytest.mark.parametrize("path", PATHS)
def test_every_route_serves_every_type(serve, cassandra, path):  # noqa: F811
    batches(cassandra, ("c", "c-1"))
    locations(cassandra, "l")
    cassandra.tables["sunbird", "user"].put([("u", "Ann", "secret login", ["x"], False)])
    serve.start()
    for object_type, id_ in (("batch", "c"), ("location", "l"), ("user", "u")):
        assert serve.sync(object_type, [id_], path=path) == {"response": "SUCCESS", "esSyncResponse": {id_: True}}
    assert serve.docs("batch") == {"c-1": batch("c", "c-1")}
    assert serve.docs("location") == {"l": location("l")}
    assert serve.docs("user") == {"u": {"id": "u", "identifier": "u", "firstName": "Ann", "roles": ["x"], "isDeleted": False}}
    assert serve.call("batch", ["c"], path=path).result == {"response": "SUCCESS"}


@pytest.mark.parametrize("method,path,body,headers,status,err", [
    ("POST", PATHS[0], '{"request":', JSON, 400, "INVALID_JSON"),
    ("POST", PATHS[2], '{"request":', JSON, 400, "UOS_0028"),
    ("POST", PATHS[0], b'{"request":{"objectType":"batch","objectIds":["\xff"]}}', JSON, 400, "INVALID_JSON"),
    ("POST", PATHS[0], "[" * 100000, JSON, 400, "INVALID_JSON"),
    ("POST", PATHS[0] + "/", "{}", JSON, 404, "NOT_FOUND"),
    ("POST", "/", "{}", JSON, 404, "NOT_FOUND"),
    ("POST", "/v1/data/syncs", "{}", JSON, 404, "NOT_FOUND"),
    ("GET", PATHS[0], None, {}, 404, "NOT_FOUND"),
    ("GET", PATHS[1], None, JSON, 404, "NOT_FOUND"),
    ("PUT", PATHS[0], "{}", JSON, 404, "NOT_FOUND"),
    ("DELETE", PATHS[2], None, {}, 404, "NOT_FOUND"),
    ("POST", "/health/live", "{}", JSON, 404, "NOT_FOUND"),
    ("POST", PATHS[0], "", JSON, 500, "INTERNAL_ERROR"),
    ("POST", PATHS[1], "", JSON, 400, "UOS_0028"),
    ("POST", PATHS[2], "{}", {}, 400, "UOS_0061"),
    ("POST", PATHS[0], '{"request":{"objectType":"batch"}}', JSON, 400, "WHOLE_TABLE_OFF"),
])
def test_what_is_refused(serve, method, path, body, headers, status, err):  # noqa: F811
    serve.start()
    answer = serve.http(method, path, body, headers)
    assert (answer.status, answer.json["params"]["err"]) == (status, err)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json["responseCode"] == ("SERVER_ERROR" if status >= 500 else "CLIENT_ERROR")
    assert serve.http("GET", "/health/live").status == 200
    assert serve.metrics()["calls_refused_total"] == 1


@pytest.mark.parametrize("flags,path,body,err", [
    ([], PATHS[0], {"request": {"objectType": "nonsense", "objectIds": ["x"]}}, "INVALID_OBJECT_TYPE"),
    ([], PATHS[2], {"request": {"objectType": "nonsense", "objectIds": ["x"]}}, "UOS_0072"),
    ([], PATHS[0], {"request": {"objectType": "organisation", "objectIds": ["x"]}}, "UOS_0072"),
    ([], PATHS[2], {"request": {"objectType": "user_course", "objectIds": ["x"]}}, "INVALID_OBJECT_TYPE"),
    (["--dialect", "userorg"], PATHS[0], {"request": {"objectType": "nonsense", "objectIds": ["x"]}}, "UOS_0072"),
    (["--dialect", "lms"], PATHS[2], {"request": {"objectType": "nonsense", "objectIds": ["x"]}}, "INVALID_OBJECT_TYPE"),
    (["--dialect", "lms"], PATHS[2], {"request": {"objectType": "organisation", "objectIds": ["x"]}}, "INVALID_OBJECT_TYPE"),
    ([], PATHS[1], {"request": {"objectIds": ["x"], "operationFor": "es"}}, "UOS_0003"),
    ([], PATHS[0], {"request": {"objectIds": ["x"], "operationFor": "es"}}, "DATA_TYPE_ERROR"),
])
def test_who_answers(serve, flags, path, body, err):  # noqa: F811
    serve.start(*flags)
    answer = serve.http("POST", path, json.dumps(body), JSON)
    assert (answer.status, answer.json["params"]["err"]) == (400, err)


def test_dialect_of_an_accepted_call(serve, cassandra):  # noqa: F811
    locations(cassandra, "l")
    serve.start("--dialect", "lms")
    answer = serve.call("location", ["l"]).json
    assert (answer["params"]["status"], answer["params"]["resmsgid"]) == ("success", None)
    assert serve.call("location", [], operationType="other").status == 400, "to lms-service an empty list is the whole table"


@pytest.mark.parametrize("value", ['"' * 9000, "é\xff", "x" * 20000, "a\tb"], ids=["quotes", "latin", "20000", "tab"])
def test_odd_message_ids(serve, value):  # noqa: F811
    """A header comes back; it can neither break the answer nor the server."""
    serve.start()
    for name, path, status in (("x-msgid", PATHS[0], 500), ("X-Request-ID", PATHS[2], 400)):
        answer = serve.http("POST", path, "", {**JSON, name: value.encode("latin-1")})
        assert answer.status in (status, 400, 431), answer
        json.loads(answer.body.decode("utf-8"))
    assert serve.http("GET", "/health/live").status == 200


def raw(serve, data, more=b"", pause=0):  # noqa: F811
    """Bytes as they are; what came until the server closed."""
    with socket.create_connection(("127.0.0.1", serve.port), timeout=60) as s:
        s.sendall(data)
        if more:
            import time
            time.sleep(pause)
            s.sendall(more)
        s.shutdown(socket.SHUT_WR)
        got = b""
        while piece := s.recv(65536):
            got += piece
        return got


def test_forms_of_a_request(serve, cassandra):  # noqa: F811
    """Chunked, Expect: 100-continue, a query in the address, two on one connection, in pieces."""
    locations(cassandra, "l")
    serve.start()
    body = json.dumps(request_of("location", ["l"])).encode()
    head = b"POST /v1/data/sync HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=UTF-8\r\n"
    length = b"Content-Length: %d\r\n" % len(body)
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:7], body[7:])) + b"0\r\n\r\n"
    one = head + length + b"\r\n" + body
    assert raw(serve, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked).count(b'"SUCCESS"') == 2
    assert b"100 Continue" in raw(serve, head + length + b"Expect: 100-continue\r\n\r\n", body, 0.05)
    assert raw(serve, one.replace(b"sync HTTP", b"sync?a=b HTTP")).startswith(b"HTTP/1.1 200 ")
    assert raw(serve, one + one).count(b"HTTP/1.1 200 ") == 2
    assert raw(serve, one[:100], one[100:], 0.05).startswith(b"HTTP/1.1 200 ")
    assert serve.idle()["calls_taken_total"] == 6


def test_ids_that_are_odd(serve, cassandra, elastic):  # noqa: F811
    odd = ["ü/ %", "a\u0000b", "\U0001f600", "x" * 400, "q\"\\\n"]
    locations(cassandra, *odd)
    serve.start()
    assert serve.sync("location", odd)["esSyncResponse"] == {i: True for i in odd}
    assert serve.docs("location") == {i: location(i) for i in odd}
