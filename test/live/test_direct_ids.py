"""Direct sync of given ids: the rows that are there now, and what becomes of those that are not."""
import json

import pytest


@pytest.fixture(scope="module")
def table(db, keyspace):
    db.execute(f"CREATE TABLE {keyspace}.orders (shop text, no int, total decimal, PRIMARY KEY (shop, no))")
    for no in range(300):
        db.execute(f"INSERT INTO {keyspace}.orders (shop, no, total) VALUES ('a', %s, %s)", [no, no])
    return f"{keyspace}.orders"


@pytest.fixture
def sync(program, table, cassandra_args, elastic, index):
    at = [*cassandra_args, "--elastic-url", elastic.url, "--index", index]
    assert program.run("init", table, *at, "--create").code == 0

    def run(*more, stdin=None):
        done = program.run("sync", table, *at, "--json", *more, stdin=stdin)
        return done, json.loads(done.out) if done.out.startswith("{") else None
    return run


def counts(answer, *names):
    return {name: answer[name] for name in names}


def test_ids_of_a_csv_file(sync, elastic, index, tmp_path):
    (tmp_path / "ids.csv").write_text("shop,no\na,1\na,2\na,999\na,1\na,x\n")
    done, answer = sync("--id-file", "ids.csv")
    assert done.code == 1, done.err
    assert counts(answer, "ids", "duplicate", "bad", "missing", "kept", "deleted", "ids_found", "documents", "indexed") == {
        "ids": 5, "duplicate": 1, "bad": 1, "missing": 1, "kept": 1, "deleted": 0, "ids_found": 2, "documents": 2, "indexed": 2}
    assert elastic.docs(index) == {"a:1": {"shop": "a", "no": 1, "total": "1"}, "a:2": {"shop": "a", "no": 2, "total": "2"}}


def test_ids_from_standard_input_as_json_lines(sync, elastic, index):
    done, answer = sync("--id-file", "-", stdin='{"shop": "a", "no": 7}\n{"no": 8, "shop": "a"}\n')
    assert done.code == 0, done.err
    assert counts(answer, "ids", "ids_found", "indexed") == {"ids": 2, "ids_found": 2, "indexed": 2}
    assert set(elastic.docs(index)) == {"a:7", "a:8"}


@pytest.mark.parametrize("policy,left,code", [("report", True, 1), ("keep", True, 0), ("delete", False, 0)])
def test_a_missing_row(sync, elastic, index, db, table, tmp_path, policy, left, code):
    no = {"report": 501, "keep": 502, "delete": 503}[policy]
    db.execute(f"INSERT INTO {table} (shop, no, total) VALUES ('a', {no}, 1)")
    (tmp_path / "ids.csv").write_text(f"shop,no\na,{no}\n")
    assert sync("--id-file", "ids.csv")[0].code == 0 and f"a:{no}" in elastic.docs(index)
    db.execute(f"DELETE FROM {table} WHERE shop = 'a' AND no = {no}")
    done, answer = sync("--id-file", "ids.csv", "--missing", policy)
    assert done.code == code, done.err
    assert counts(answer, "missing", "deleted", "kept") == {"missing": 1, "deleted": int(not left), "kept": int(left)}
    assert (f"a:{no}" in elastic.docs(index)) == left


def test_the_brake_ends_a_flood_of_deletes(sync, elastic, index, db, table, tmp_path):
    assert sync()[0].code == 0
    db.execute(f"DELETE FROM {table} WHERE shop = 'a'")
    try:
        (tmp_path / "ids.csv").write_text("shop,no\n" + "".join(f"a,{no}\n" for no in range(300)))
        done, answer = sync("--id-file", "ids.csv", "--missing", "delete")
        assert done.code == 7, (done.out, done.err)
        assert answer["deleted"] <= 100 and answer["deleted"] + answer["kept"] == answer["missing"] == 300
        assert len(elastic.docs(index)) >= 200
    finally:
        for no in range(300):
            db.execute(f"INSERT INTO {table} (shop, no, total) VALUES ('a', %s, %s)", [no, no])
