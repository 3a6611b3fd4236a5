"""The definitions of the profiles' indices, on servers with ngrams: made on request, filled with the golden documents,
searched as Sunbird searches."""
import json
import uuid

import pytest
import servers

pytestmark = pytest.mark.long
INSTANCES = ["elasticsearch710", "opensearch2"]  # those that have ngrams here
OBJECTS = {"user": "userv3", "organisation": "orgv3", "location": "location", "batch": "course-batch", "user_course": "user-courses"}
ALIASES = {"user": "user_alias", "organisation": "org_alias"}
GOLDEN = servers.ROOT / "test/golden/sunbird"


@pytest.fixture(scope="module", params=INSTANCES)
def search(request):
    started = servers.ensure(request.param)
    yield servers.elastic(request.param)
    servers.stop(*started)


@pytest.fixture(scope="module")
def stem():
    return f"t_profile_{uuid.uuid4().hex[:6]}"


def profile(folder, object_type, stem):
    """The shipped one, for an index (or alias) of our own."""
    path = folder / f"{object_type}.yaml"
    path.write_text(f"extends: {servers.ROOT}/profiles/sunbird/{object_type}.yaml\ntarget: {{index: {stem}_{object_type}}}\n")
    return path


def documents(object_type):
    for name in (f"{object_type}.json", f"{object_type}.recorded.json"):
        for case in json.loads((GOLDEN / name).read_text())["cases"]:
            if case["document"] is not None:
                yield case["_id"], case["document"]


@pytest.fixture(scope="module")
def filled(search, stem, tmp_path_factory):
    """filled(object_type): the name of its index, made by `init` and filled once."""
    folder, done = tmp_path_factory.mktemp("init"), {}
    program = servers.Program(folder)

    def fill(object_type):
        alias = f"{stem}_{object_type}"
        if object_type in done:
            return alias
        made = program.run("init", "--mapping", profile(folder, object_type, stem), "--elastic-url", search.url, "--create",
                           "--index", alias + "-1")
        assert made.code == 0 and f"created index {alias}-1 with alias {alias}" in made.out, made
        lines = []
        for id_, document in documents(object_type):
            lines += [{"index": {"_id": id_}}, document]
        answer = search.ok("POST", f"/{alias}/_bulk?refresh=true", lines=lines)
        assert not answer["errors"], [i for i in answer["items"] if i["index"]["status"] >= 300][:2]
        done[object_type] = len(lines) // 2
        return alias
    yield fill
    for object_type in done:
        search.delete(f"{stem}_{object_type}-1")


def ids(search, index, query, **more):
    return [hit["_id"] for hit in search.ok("POST", f"/{index}/_search", {"query": query, "size": 100, **more})["hits"]["hits"]]


def match(field, text):
    return {"match": {field: {"query": text, "operator": "and"}}}


@pytest.mark.parametrize("object_type", OBJECTS)
def test_index_is_as_defined(search, filled, object_type):
    index = filled(object_type)
    (name, there), = search.ok("GET", f"/{index}").items()
    assert name == index + "-1" and list(there["aliases"]) == [index]
    settings = there["settings"]["index"]
    low, high = (3, 10) if object_type in ALIASES else (1, 20)
    assert settings["analysis"]["filter"]["mynGram"] == {"type": "ngram", "min_gram": str(low), "max_gram": str(high)}
    assert (settings["number_of_shards"], settings["number_of_replicas"], settings["gc_deletes"]) == ("5", "1", "1h")
    assert there["mappings"]["dynamic"] == "false" and there["mappings"]["_meta"] == {"cass2es": {"versioning": "sequence"}}
    assert search.count(index) == len(dict(documents(object_type)))


@pytest.mark.parametrize("object_type", OBJECTS)
def test_fields_are_those_of_sunbird(search, filled, object_type):
    """Nothing that is indexed has another type than said, nor do documents bring new fields."""
    defined = json.loads((servers.ROOT / f"profiles/sunbird/{OBJECTS[object_type]}.index.json").read_text())["mappings"]["properties"]
    (there,) = search.ok("GET", f"/{filled(object_type)}/_mapping").values()
    found = there["mappings"]["properties"]

    def plain(fields):
        return {n: {**{k: v for k, v in f.items() if k not in ("search_analyzer", "copy_to", "fields", "properties") and (k, v) != ("type", "object")},
                    "fields": plain(f.get("fields", {})), "properties": plain(f.get("properties", {}))} for n, f in fields.items()}
    assert plain(found) == plain(defined)


def test_users(search, filled):
    index = filled("user")
    assert ids(search, index, match("firstName", "marí")) == ["u-full"], "part of a word, case aside"
    assert ids(search, index, match("firstName", "an")) == [], "shorter than the shortest ngram"
    assert ids(search, index, {"term": {"firstName.raw": "ana maría"}}) == ["u-full"]
    assert ids(search, index, {"term": {"email.raw": "c1phern4me=="}}) == []
    assert ids(search, index, {"term": {"email": "c1pherM41l=="}}) == ["u-full"]
    assert ids(search, index, {"term": {"email.raw": "c1pherm41l=="}}) == ["u-full"]
    assert sorted(ids(search, index, {"term": {"organisations.organisationId.raw": "org-b"}})) == ["u-member", 'यूज़र/π %1&?#"\\']
    assert ids(search, index, match("organisations.orgName", "pune")) == ["u-full"]
    admins = sorted(i for i, d in documents("user") if any(r["role"] == "ORG_ADMIN" for r in d["roles"]))
    assert sorted(ids(search, index, {"term": {"roles.role.raw": "org_admin"}})) == admins and "u-full" in admins
    assert ids(search, index, {"term": {"profileUserTypes.subType": "crp"}}) == ["u-full"]
    assert ids(search, index, {"range": {"tncAcceptedOn": {"lt": "1970-01-01T00:00:00.000Z", "gte": "1960-01-01"}}}) == ["u-time-old"]
    boards = sorted(i for i, d in documents("user") if "सीबीएसई" in d["framework"].get("board", []))
    assert sorted(ids(search, index, {"term": {"framework.board.raw": "सीबीएसई"}})) == boards
    assert ids(search, index, {"exists": {"field": "stateValidated"}}) == [], "not mapped: in the source only"
    assert ids(search, index, {"match_all": {}}, sort=[{"createdDate.raw": {"order": "desc", "missing": "_last"}}])[0] == "0a21ff84-1c94-447b-a40d-3bded42648aa"


def test_organisations(search, filled):
    index = filled("organisation")
    assert sorted(ids(search, index, match("orgName", "SLASH"))) == ["0125000000000340530", "0125000000000380125"]
    assert ids(search, index, match("orgName", "विद्या")) == ["o-full"]
    assert ids(search, index, {"term": {"orgLocation.id": "l1"}}) == ["o-full"]
    assert ids(search, index, {"term": {"organisationType": 13}}) == ["o-type-13"]
    assert ids(search, index, {"bool": {"filter": [{"term": {"isTenant": True}}, {"term": {"channel.raw": "ch"}}]}}) == ["o-full"]
    assert ids(search, index, {"term": {"hashTagId.raw": "stale"}}) == []


def test_locations(search, filled):
    index = filled("location")
    assert ids(search, index, match("name", "oon")) == ["l-full"]
    assert ids(search, index, {"term": {"type.raw": "district"}}) == ["l-full"]
    assert ids(search, index, match("all_fields", "goa")) == ["153453fd-9280-4da8-a56e-6800527f5da6"]
    found = search.ok("POST", f"/{index}/_search", {"size": 0, "aggs": {"types": {"terms": {"field": "type.raw"}}}})
    assert {b["key"]: b["doc_count"] for b in found["aggregations"]["types"]["buckets"]} == {"block": 2, "district": 1}


def test_batches(search, filled):
    index = filled("batch")
    assert ids(search, index, match("name", "25")) == ["013000000000988378"], "an ngram of one"
    assert sorted(ids(search, index, match("all_fields", "open ab"))) == ["013000000000988378", "b-full"], "parts of two fields"
    assert ids(search, index, match("courseId", "do_2100000000523652"))[0] == "013000000000988378"
    assert sorted(ids(search, index, {"term": {"courseId.raw": "do_2"}})) == ["b-empty", "b-kept"]
    assert ids(search, index, {"range": {"enrollmentEndDate": {"gte": "9000-01-01"}}}) == ["b-full"]
    assert ids(search, index, {"bool": {"must": [{"term": {"status": 1}}, {"range": {"participantCount": {"gte": 17}}}]}}) == ["b-kept"]
    assert ids(search, index, {"term": {"createdFor.raw": "f2"}}) == ["b-full"]
    assert ids(search, index, {"exists": {"field": "certTemplates"}}) == [], "not mapped: in the source only"


def test_enrolments(search, filled):
    index = filled("user_course")
    assert sorted(ids(search, index, {"term": {"batchId.raw": "b3"}})) == ["b3_u2", "b3_u3"]
    assert ids(search, index, {"term": {"userId.raw": "यूज़र/1"}}) == ['b_"1"_यूज़र/1']
    nested = {"nested": {"path": "certificates", "query": {"term": {"certificates.token.raw": "t310"}}}}
    assert ids(search, index, nested) == [i for i, d in documents("user_course") if any(c.get("token") == "T310" for c in d["certificates"])]
    assert ids(search, index, {"term": {"contentStatus.raw": '{"do_1":1}'}}) == ["b3_u3"]
    assert "b1_u1" in ids(search, index, {"range": {"completionPercentage": {"gte": 100}}})


# --- init --------------------------------------------------------------------------------------------

@pytest.fixture
def stem_of_one():
    return f"t_init_{uuid.uuid4().hex[:6]}"


@pytest.fixture
def init(tmp_path, search, stem_of_one):
    stem = stem_of_one
    program = servers.Program(tmp_path)
    mapping = profile(tmp_path, "location", stem)
    yield lambda *more: program.run("init", "--mapping", mapping, "--elastic-url", search.url, *more)
    search.delete(f"{stem}_location-*,{stem}_location")


def test_without_create_the_definition_is_written_for_editing(search, init, stem_of_one, tmp_path):
    done = init()
    assert done.code == 0 and "location.index.json" in done.out, done
    path = tmp_path / "location.index.json"
    assert path.read_text() == (servers.ROOT / "profiles/sunbird/location.index.json").read_text()
    again = init()
    assert again.code == 2 and "File exists" in again.err and "--out" in again.err
    definition = json.loads(path.read_text())
    definition["settings"]["index.number_of_replicas"] = 0
    path.write_text(json.dumps(definition))
    done = init("--create", "--index", f"{stem_of_one}_location")
    assert done.code == 0 and "location.index.json" in done.out and "alias" not in done.out, done
    assert search.ok("GET", f"/{stem_of_one}_location")[f"{stem_of_one}_location"]["settings"]["index"]["number_of_replicas"] == "0"


def test_what_is_there_is_left_alone(search, init, stem_of_one):
    assert init("--create", "--index", f"{stem_of_one}_location-1").code == 0
    done = init("--create", "--index", f"{stem_of_one}_location-1")
    assert done.code == 2 and "there already" in done.err
    done = init("--create", "--index", f"{stem_of_one}_location-2")
    assert done.code == 2 and f"{stem_of_one}_location is there already, an alias of {stem_of_one}_location-1" in done.err, done
    assert search.call("GET", f"/{stem_of_one}_location-2")[0] == 404


def test_a_mapping_without_a_definition(search, tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("object: x\nsource: {table: t}\ntarget: {index: i}\n")
    done = servers.Program(tmp_path).run("init", "--mapping", path, "--elastic-url", search.url, "--create")
    assert done.code == 2 and f"{path}:3:17:" in done.err and "target.definition" in done.err, done


def test_another_versioning_than_the_mapping(search, tmp_path):
    (tmp_path / "i.index.json").write_text(json.dumps({"mappings": {"_meta": {"cass2es": {"versioning": "sequence"}}}}))
    path = tmp_path / "m.yaml"
    path.write_text("object: x\nsource: {table: t}\ntarget: {index: i, definition: i.index.json}\nversioning: none\n")
    done = servers.Program(tmp_path).run("init", "--mapping", path, "--elastic-url", search.url, "--create")
    assert done.code == 2 and "i.index.json: _meta.cass2es.versioning is not \"none\"" in done.err, done


def test_elasticsearch_6_puts_its_type_around_the_fields(tmp_path):
    started = servers.ensure("elasticsearch6")
    old, name = servers.elastic("elasticsearch6"), f"t_init_{uuid.uuid4().hex[:6]}"
    try:
        (tmp_path / f"{name}.index.json").write_text(json.dumps({"mappings": {"properties": {"a": {"type": "keyword"}}}}))
        path = tmp_path / "m.yaml"
        path.write_text(f"object: x\nsource: {{table: t}}\ntarget: {{index: {name}_alias, definition: {name}.index.json}}\n")
        done = servers.Program(tmp_path).run("init", "--mapping", path, "--elastic-url", old.url, "--create")
        assert done.code == 0, done
        assert old.ok("GET", f"/{name}_alias/_mapping?include_type_name=true")[name]["mappings"] == {
            "_doc": {"_meta": {"cass2es": {"versioning": "sequence"}}, "properties": {"a": {"type": "keyword"}}}}
    finally:
        old.delete(name)
        servers.stop(*started)
