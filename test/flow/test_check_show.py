"""check --show ID: the documents of an id as they would be written, from Cassandra alone; and which columns a mapping leaves out."""
import json

import pytest

from flow import cass, rows_of, says
from peer_cql import UNAUTHORIZED, error

MAPPING = """object: user
source: {keyspace: shop, table: users, key: [team, id]}
select: [team]
target: {index: users, id: "{id}", routing: "{team}"}
nulls: omit
steps:
  - lookup: {field: teamName, table: teams, key: {id: "{team}"}, take: name, missing: omit}
  - parse_json: {field: profile, as: object, bad: {}}
  - children:
      field: roles
      table: roles
      by: {user: "{id}"}
      each:
        - lookup: {field: label, table: labels, key: {role: "{role}"}, take: label}
        - drop: [user]
%s"""

ANN = {"team": "t1", "id": "ann", "profile": {"n": 1.50, "a": [1, {}]}, "score": 2.5, "teamName": "Red",
       "roles": [{"role": "admin", "label": "Boss"}, {"role": "guest", "label": "Who?"}]}


@pytest.fixture
def ring(make_ring):
    ring = make_ring(page_rows=2)
    ring.table("shop", "users", "team text, id text, profile text, score double, secret text", "team", "id", rows=[
        dict(team="t1", id="ann", profile='{"n": 1.50, "a": [1, {}]}', score=2.5, secret="s"),
        dict(team="t1", id="bob", profile="no json", score=float("nan"), secret="s"),
        dict(team="t1", id="cyd", profile="{}", score=1.0, secret="s"),
        dict(team="t2", id="dan", profile="{}", score=3.0, secret="s")])
    ring.table("shop", "teams", "id text, name text, color text", "id", rows=[("t1", "Red", "red")])
    ring.table("shop", "roles", "user text, role text, since int", "user", ["role"], rows=[
        ("ann", "admin", None), ("ann", "guest", None), ("cyd", "ghost", None)])
    ring.table("shop", "labels", "role text, label text", "role", rows=[("admin", "Boss"), ("guest", "Who?")])
    with ring:
        yield ring


@pytest.fixture
def show(program, ring):
    def run(id_, *flags, more="versioning: none"):
        mapping = program.file("users.yaml", MAPPING % "  - drop: [secret]\n" + more + "\n")
        id_ = id_ if isinstance(id_, str) else json.dumps(id_)
        return program.run("check", "--mapping", mapping, "--show", id_, *cass(ring), *flags)
    return run


def test_a_document_of_four_tables(show, program):
    """Its lines are those of the text, numbers as they were; Elasticsearch is not asked for, and no run is begun."""
    r = says(show({"team": "t1", "id": "ann"}), code=0)
    assert r.err == "" and not program.state.exists()
    assert json.loads(r.out) == {"_index": "users", "_id": "ann", "_routing": "t1", "_source": ANN}
    assert r.out.startswith('{\n  "_index": "users",\n  "_id": "ann",\n  "_routing": "t1",\n  "_source": {\n    "team": "t1",\n')
    assert '\n      "n": 1.50,\n' in r.out and '\n        {}\n' in r.out


def test_all_rows_of_a_part_of_the_key(show):
    """Those with a document, and why others have none: a label that is missing fails the document."""
    r = says(show("t1", "--json"), code=1)
    assert [(d["_id"], len(d["_source"]["roles"])) for d in rows_of(r.out)] == [("ann", 2), ("bob", 0)]
    assert rows_of(r.out)[1]["_source"]["profile"] == {} and "score" in rows_of(r.out)[1]["_source"]
    errors = r.err.splitlines()
    assert sum("t1:bob: NaN or infinite, written as null: 1" in e for e in errors) == 1, r
    assert sum("t1:bob: texts that are no JSON, replaced: 1" in e for e in errors) == 1, r
    assert sum(e.startswith("t1:cyd: lookup_missing: field label: ") for e in errors) == 1, r
    assert not [e for e in errors if "ann" in e]


def test_rows_of_other_tables_that_are_missing(show):
    r = says(show("t2"), "^t2:dan: rows of other tables missing: 1$", code=0)
    assert "teamName" not in json.loads(r.out)["_source"]


def test_ids_of_several_values(show):
    r = show({"team": ["t2", "t1"], "id": ["dan", "ann"]}, "--json")
    assert r.code == 0 and [d["_id"] for d in rows_of(r.out)] == ["dan", "ann"], r
    r = show({"team": "t1", "score": "2.5"}, "--json")
    assert r.code == 0 and [d["_id"] for d in rows_of(r.out)] == ["ann"], r


def test_no_row(show):
    r = says(show("t9"), "^shop.users has no row of t9$", code=1)
    assert r.out == ""
    says(show({"team": "t1", "id": "none"}), "has no row of", code=1)


def test_a_row_that_is_no_document(show):
    r = says(show("t2", more="where: {id: ann}\nversioning: none"), "^t2:dan: filtered: the mapping's where leaves it out$", code=1)
    assert r.out == ""


def test_what_is_preserved_is_not_known(show):
    says(show("t2", more="versioning: sequence\npreserve: [other]"), "preserves of the stored document is not shown", code=0)


def test_strict_values(show):
    r = says(show({"team": "t1", "id": "bob"}, "--strict-values"), "^t1:bob: altered_value: ", code=1)
    assert r.out == ""


@pytest.mark.parametrize("id_,why", [({"id": "ann"}, "has no value for team of the partition key"), ({"tem": "t1"}, 'shop.users has no column "tem"'),
                                     ("{", "--show: "), ({"team": ""}, "empty value for team")])
def test_what_is_no_id(show, id_, why):
    r = show(id_)
    assert r.code == 2 and why in r.err and r.out == "", r


def test_without_a_mapping(program, ring):
    """Every column; of no index where none is named."""
    r = says(program.run("check", "shop.labels", "--show", "admin", *cass(ring)), code=0)
    assert json.loads(r.out) == {"_index": None, "_id": "admin", "_source": {"role": "admin", "label": "Boss"}}
    r = program.run("check", "shop.labels", "--index", "labels", "--show", '{"role": "admin"}', "--json", *cass(ring))
    assert json.loads(r.out)["_index"] == "labels"


def test_partitions_with_static_columns_only(program, ring):
    """A document when the partition is asked for; no row of a longer key."""
    ring.table("shop", "rooms", "house text, room text, owner text, size int", "house", ["room"], ["owner"],
               rows=[dict(house="h1", owner="eve"), dict(house="h2", room="r", owner="fay", size=3)])
    show = lambda id_: program.run("check", "shop.rooms", "--show", id_, "--json", *cass(ring))  # noqa: E731
    assert json.loads(says(show('{"house": "h1"}'), code=0).out) == {"_index": None, "_id": "h1", "_source": {"house": "h1", "owner": "eve"}}
    assert json.loads(says(show('{"house": "h2", "room": "r"}'), code=0).out)["_source"] == {"house": "h2", "room": "r", "owner": "fay", "size": 3}
    says(show('{"house": "h1", "room": "r"}'), "has no row", code=1)


def test_a_whole_partition(program, ring):
    mapping = program.file("teams.yaml", "object: t\nsource: {keyspace: shop, table: users, columns: [team]}\ntarget: {index: t, id: \"{team}\"}\n"
                           "rows: {field: items, columns: [id]}\nversioning: sequence\n")
    r = says(program.run("check", "--mapping", mapping, "--show", "t1", "--json", *cass(ring)), code=0)
    assert json.loads(r.out)["_source"] == {"team": "t1", "items": [{"id": "ann"}, {"id": "bob"}, {"id": "cyd"}]}
    says(program.run("check", "--mapping", mapping, "--show", "t9", *cass(ring)), "has no row of t9", code=1)


def test_not_with_conditions(program, ring):
    says(program.run("check", "shop.labels", "--show", "admin", "--where", "label = 'x'", *cass(ring)), "--where: can't be used with --show", code=2)


def test_the_server_refuses(show, ring):
    ring.on("PREPARE", '"users".*WHERE', do=error(UNAUTHORIZED, "no SELECT for bob"), times=None)
    says(show("t1"), "no SELECT for bob", code=2)


# --- which columns ---------------------------------------------------------------------------------------

def columns(program, ring, mapping):
    r = program.run("check", "--mapping", program.file("users.yaml", mapping), *cass(ring), "--json")
    return r, [(line["result"], line["text"]) for line in rows_of(r.out) if line["check"] in ("columns", "mapping")]


def test_columns_that_no_document_has(program, ring):
    """Of the mapping's table, and of those that its steps read."""
    _, found = columns(program, ring, MAPPING % "  - drop: [secret, score]\n" + "versioning: none\n")
    assert found[1:] == [("note", "shop.users: 2 of 5 are not read: score, secret"), ("note", "shop.teams: 1 of 3 is not read: color"),
                         ("ok", "shop.roles: all 3 are read"), ("ok", "shop.labels: all 2 are read")]
    says(program.run("check", "--mapping", "users.yaml", *cass(ring)), "^note  columns +shop.users: 2 of 5", code=2)


def test_times_of_writing_do_not_count(program, ring):
    """The version under write_time: a column that is dropped stays out."""
    _, found = columns(program, ring, MAPPING.split("steps:")[0] + "steps:\n  - drop: [secret]\nversioning: write_time\n")
    assert found[1] == ("note", "shop.users: 1 of 5 is not read: secret")


def test_columns_of_a_whole_partition(program, ring):
    _, found = columns(program, ring, "object: t\nsource: {keyspace: shop, table: users, columns: [team]}\ntarget: {index: t, id: \"{team}\"}\n"
                                      "rows: {field: items, columns: [id, score]}\nversioning: none\n")
    assert found[1] == ("note", "shop.users: 2 of 5 are not read: profile, secret")


WRONG = [("source: {keyspace: shop, table: users, columns: [team, scoer]}", "2:56: ", 'scoer', 'score'),
         ("where: {socre: 1}", "2:9: ", 'socre', 'score'),
         ("rename: {secert: s}", "2:10: ", 'secert', 'secret'),
         ("steps: [{lookup: {field: x, table: teams, key: {id: \"{team}\"}, take: naem}}]", "2:70: ", 'naem', 'name'),
         ("steps: [{children: {field: x, table: roles, by: {usr: \"{id}\"}}}]", "2:50: ", 'usr', 'user'),
         ("steps: [{flag: {field: x, from: profile, ge: 4}}]", "2:33: ", 'profile', None),
         ("steps: [{parse_json: {field: score, as: any}}]", "2:30: ", 'score', None)]


@pytest.mark.parametrize("line,place,word,near", WRONG)
def test_what_does_not_fit_the_table(program, ring, line, place, word, near):
    """File, line, column, and the nearest name."""
    source = "" if line.startswith("source") else "source: {keyspace: shop, table: users}\n"
    r, found = columns(program, ring, f"object: t\n{line}\n{source}target: {{index: t}}\nversioning: none\n")
    assert r.code == 2 and found[0][0] == "fail" and len(found) == 1, r
    assert "users.yaml:" + place in found[0][1] and f'"{word}"' in found[0][1], found
    assert near is None or f'did you mean "{near}"' in found[0][1], found
