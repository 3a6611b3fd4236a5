"""Golden documents: rows into Cassandra, and the documents that come out, by a scan, by ids, and through serve, compared
as parsed JSON: types, numbers digit by digit, and the order of members below a document's own fields and those of rows in it. test/golden has the data, one file for a profile (profiles/<the same path>.yaml)."""
import decimal
import json
import re
import urllib.request

import pytest
import servers
from test_serve_documents import Api, flags

FILES = sorted(str(p.relative_to(servers.ROOT / "test/golden")) for p in (servers.ROOT / "test/golden").glob("*/*.json"))
TABLES = {"user": ["user", "user_organisation", "user_roles", "organisation"], "organisation": ["organisation", "system_settings"],
          "location": ["location"], "batch": ["course_batch"], "user_course": ["user_enrolments"]}
KEYS = {"user": ["id"], "organisation": ["id"], "location": ["id"], "batch": ["courseid", "batchid"],
        "user_course": ["userid", "courseid", "batchid"]}


class Number(str):
    """Its digits: 1.50 is not 1.5, and 1 is not true."""


def parsed(text):
    return json.loads(text, parse_int=Number, parse_float=Number)


def writable(text):
    """For what is given to servers."""
    return json.loads(text, parse_float=decimal.Decimal)


OF_ROWS = ("organisations", "roles")  # fields that are lists of rows of other tables


def same_text(a, b):
    """Types, digits, and the order of an object's members."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same_text(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same_text, a, b))
    return a == b


def sorted_members(v):
    if isinstance(v, dict):
        return {k: sorted_members(v[k]) for k in sorted(v)}
    return [sorted_members(e) for e in v] if isinstance(v, list) else v


def same_value(field, a, b):
    if field in OF_ROWS and isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_row, a, b))
    return same_text(a, b)


def same_row(a, b):
    """What is made of a row has its fields in any order."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_value(k, a[k], b[k]) for k in a)
    return same_text(a, b)


def schema(table, keyspace):
    text = (servers.ROOT / "demo/schema.cql").read_text()
    statement = re.search(rf"CREATE TABLE IF NOT EXISTS \w+\.{table} \(.*?\);", text, re.S)[0]
    return re.sub(r"EXISTS \w+\.", f"EXISTS {keyspace}.", statement)


class Golden:
    """A file of golden documents, its rows in a keyspace of its own."""

    def __init__(self, file, db, keyspace):
        text = (servers.ROOT / "test/golden" / file).read_text()
        data = writable(text)
        self.in_order = ".recorded." not in file  # those were kept with their members sorted
        self.wanted = {case["_id"]: case["document"] for case in parsed(text)["cases"] if case["document"] is not None}
        self.profile = re.sub(r"(\.[\w-]+)?\.json$", "", file)
        self.object, self.cases, self.keyspace = data["object"], data["cases"], keyspace
        for table in TABLES[self.object]:
            db.execute(schema(table, keyspace), timeout=60)
        for table, rows in [*data["tables"].items(), *(item for case in self.cases for item in case["rows"].items())]:
            for row in rows:
                db.execute(f"INSERT INTO {keyspace}.{table} JSON %s", [json.dumps(row, default=str)])

    def mapping(self, folder, index):
        """The shipped profile, for our keyspace and index."""
        path = folder / "golden.yaml"
        path.write_text(f"extends: {servers.ROOT}/profiles/{self.profile}.yaml\nsource: {{keyspace: {self.keyspace}}}\n"
                        f"target: {{index: {index}}}\n")
        return path

    def rows(self):
        return [case["rows"][TABLES[self.object][0]][0] for case in self.cases]

    def documents(self):
        return self.wanted

    def failing(self):
        return {case["_id"]: case["reason"] for case in self.cases if case["document"] is None}

    def missing_lookups(self):
        return sum(case.get("counts", {}).get("lookup_missing", 0) for case in self.cases)

    def ids(self):
        """As a call has them: text where the key is one column, else objects."""
        key = KEYS[self.object]
        return [row[key[0]] if len(key) == 1 else {c: row[c] for c in key} for row in self.rows()]

    def prepare(self, elastic, index):
        elastic.create(index, {"dynamic": False})
        for case in self.cases:
            if "stored" in case:
                elastic.ok("POST", f"/{index}/_bulk", lines=[{"index": {"_id": case["_id"]}}, case["stored"]])


def stored(elastic, index):
    elastic.refresh(index)
    request = urllib.request.Request(f"{elastic.url}/{index}/_search", b'{"size": 1000}', {"Content-Type": "application/json"})
    with elastic.opener.open(request, timeout=30) as answer:
        return {hit["_id"]: hit["_source"] for hit in parsed(answer.read())["hits"]["hits"]}


def compare(found, expected, in_order=True):
    assert sorted(found) == sorted(expected)
    if not in_order:
        found, expected = sorted_members(found), sorted_members(expected)
    for id_, document in expected.items():
        there = found[id_]
        different = {f: (there.get(f, "absent"), document.get(f, "absent")) for f in {*there, *document}
                     if f not in there or f not in document or not same_value(f, there[f], document[f])}
        assert not different, f"{id_}: field: (found, expected): {different}"


@pytest.mark.parametrize("found,expected", [
    ('{"a": 1.50}', '{"a": 1.5}'), ('{"a": 1}', '{"a": 1.0}'), ('{"a": true}', '{"a": 1}'), ('{"a": "1"}', '{"a": 1}'), ('{"a": null}', '{}'),
    ('{"a": {"x": 1, "y": 2}}', '{"a": {"y": 2, "x": 1}}'), ('{"a": [1, 2]}', '{"a": [2, 1]}'), ('{"a": [1]}', '{"a": [1, 2]}'),
    ('{"roles": [{"x": {"p": 1, "q": 2}}]}', '{"roles": [{"x": {"q": 2, "p": 1}}]}'), ('{"roles": [{"x": 1}]}', '{"roles": [{"x": 1, "y": 2}]}')])
def test_the_comparison_sees(found, expected):
    for a, b in ((found, expected), (expected, found)):
        with pytest.raises(AssertionError):
            compare({"i": parsed(a)}, {"i": parsed(b)})
        compare({"i": parsed(a)}, {"i": parsed(a)})
    compare({"i": parsed('{"a": 1, "roles": [{"x": 1, "y": 2}]}')}, {"i": parsed('{"roles": [{"y": 2, "x": 1}], "a": 1}')})


@pytest.fixture(scope="module", params=FILES)
def golden(request, db):
    keyspace = "t_golden_" + re.sub(r"\W", "_", request.param.removesuffix(".json"))[-36:].lower()
    db.execute(f"DROP KEYSPACE IF EXISTS {keyspace}", timeout=60)
    servers.create_keyspace(db, keyspace)
    yield Golden(request.param, db, keyspace)
    db.execute(f"DROP KEYSPACE IF EXISTS {keyspace}", timeout=60)


@pytest.fixture
def sync(program, golden, elastic, index, cassandra_args, tmp_path):
    golden.prepare(elastic, index)

    def run(*more):
        done = program.run("sync", "--mapping", golden.mapping(tmp_path, index), *cassandra_args, "--elastic-url", elastic.url, "--json", *more)
        assert done.out.startswith("{"), done
        return done, json.loads(done.out)
    return run


def test_by_a_scan(golden, sync, elastic, index):
    done, answer = sync()
    assert done.code == (1 if golden.failing() else 0), done
    compare(stored(elastic, index), golden.documents(), golden.in_order)
    assert (answer["documents"], answer["indexed"], answer["failed"]) == (len(golden.cases), len(golden.documents()), len(golden.failing()))
    assert answer["lookup_missing"] == golden.missing_lookups(), answer
    again, answer = sync("--fresh")
    assert (answer["unchanged"], answer["indexed"]) == (len(golden.documents()), 0), again


def test_by_ids(golden, sync, elastic, index, tmp_path):
    key = KEYS[golden.object]
    lines = [json.dumps({c: row[c] for c in key}, ensure_ascii=False) for row in golden.rows()]
    lines.append(json.dumps({c: "of nobody" for c in key}))
    (tmp_path / "ids.jsonl").write_text("\n".join(lines) + "\n")
    done, answer = sync("--id-file", "ids.jsonl")
    assert done.code == 1 and (answer["ids"], answer["missing"]) == (len(lines), 1), done
    assert (answer["indexed"], answer["documents_failed"]) == (len(golden.documents()), len(golden.failing()))
    assert answer["lookup_missing"] == golden.missing_lookups()
    compare(stored(elastic, index), golden.documents(), golden.in_order)


def test_shown(golden, program, cassandra_args, tmp_path):
    """check --show, all of them at once, by the partition key alone: without Elasticsearch, and so without what others store there."""
    key = KEYS[golden.object][0]
    asked = json.dumps({key: sorted({row[key] for row in golden.rows()})})
    done = program.run("check", "--mapping", golden.mapping(tmp_path, "nowhere"), "--show", asked, *cassandra_args, "--json")
    shown = [parsed(line) for line in done.out.split("\n") if line]  # a text may hold other ends of lines
    assert done.code == (1 if golden.failing() else 0) and {s["_index"] for s in shown} == {"nowhere"}, done
    others = {case["_id"] for case in golden.cases if "stored" in case}
    compare({s["_id"]: s["_source"] for s in shown if s["_id"] not in others},
            {id_: document for id_, document in golden.documents().items() if id_ not in others}, golden.in_order)
    reasons = [line.split(": ")[1] for line in done.err.splitlines() if ": " in line]
    assert sorted(r for r in reasons if r in golden.failing().values()) == sorted(golden.failing().values()), done.err


def test_through_serve(golden, program, cassandra, elastic, index, tmp_path):
    golden.prepare(elastic, index)
    with program.start(*flags(cassandra, elastic.url, golden.mapping(tmp_path, index))) as server:
        api = Api(server)
        result = call(api, golden.object, golden.ids())
    failed = {id_ for id_, ok in result.items() if ok is False}
    assert failed == set(golden.failing()), result
    assert list(result["esSyncResponse"].values()) == [True] * len(golden.documents()), result
    compare(stored(elastic, index), golden.documents(), golden.in_order)


def call(api, object_type, ids):
    """`result` of a call that waits. What fails is beside esSyncResponse, as userorg-service has it."""
    body = {"request": {"objectType": object_type, "objectIds": ids, "operationType": "sync"}}
    request = urllib.request.Request(api.url + "/v1/data/sync", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with api.opener.open(request, timeout=30) as answer:
        return json.loads(answer.read())["result"]


def test_recorded_rows_are_there_for_every_object():
    assert {f.split("/")[1].split(".")[0] for f in FILES if "recorded" in f} == set(TABLES)


@pytest.fixture(scope="module")
def enrolments(db, keyspace):
    db.execute(schema("user_enrolments", keyspace), timeout=60)
    for course in ("do_1", "do_2"):
        db.execute(f"INSERT INTO {keyspace}.user_enrolments (userid, courseid, batchid) VALUES ('u', '{course}', 'b')")
    return keyspace


def enrolment_mapping(folder, keyspace, index):
    path = folder / "m.yaml"
    path.write_text(f"extends: {servers.ROOT}/profiles/sunbird/user_course.yaml\nsource: {{keyspace: {keyspace}}}\ntarget: {{index: {index}}}\n")
    return path


def test_enrolments_that_share_an_id_are_one_document(enrolments, program, elastic, index, cassandra_args, tmp_path):
    elastic.create(index, {"dynamic": False})
    done = program.run("sync", "--mapping", enrolment_mapping(tmp_path, enrolments, index), *cassandra_args, "--elastic-url", elastic.url, "--json")
    assert done.code == 0 and json.loads(done.out)["rows"] == 2, done
    document, = stored(elastic, index).values()
    assert document["courseId"] in ("do_1", "do_2") and document["id"] == "b_u"


def test_enrolments_by_the_ids_of_their_batches(enrolments, program, cassandra, elastic, index, tmp_path, db):
    """What the profile takes a text for: not the partition key, so the table is scanned where that is allowed."""
    elastic.create(index, {"dynamic": False})
    for user, batch in (("v", "b2"), ("w", "b2"), ("v", "b3")):
        db.execute(f"INSERT INTO {enrolments}.user_enrolments (userid, courseid, batchid) VALUES ('{user}', 'do_1', '{batch}')")
    mapping = enrolment_mapping(tmp_path, enrolments, index)
    with program.start(*flags(cassandra, elastic.url, mapping), "--filter-scan", "allow") as server:
        result = call(Api(server), "user_course", ["b2"])
    assert result["esSyncResponse"] == {"b2": True}, result
    assert set(stored(elastic, index)) == {"b2_v", "b2_w"}


def test_a_column_of_no_dictionary_keeps_its_name(enrolments, program, elastic, index, cassandra_args, tmp_path, db):
    elastic.create(index, {"dynamic": False})
    db.execute(f"ALTER TABLE {enrolments}.user_enrolments ADD newcolumn text", timeout=60)
    db.execute(f"UPDATE {enrolments}.user_enrolments SET newcolumn = 'x' WHERE userid = 'u2' AND courseid = 'do_1' AND batchid = 'b'")
    done = program.run("sync", "--mapping", enrolment_mapping(tmp_path, enrolments, index), *cassandra_args, "--elastic-url", elastic.url, "--json")
    assert done.code == 0, done
    assert stored(elastic, index)["b_u2"]["newcolumn"] == "x" and stored(elastic, index)["b_u"]["newcolumn"] is None
