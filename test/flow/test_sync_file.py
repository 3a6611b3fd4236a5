"""`cass2es sync KS.TABLE --to FILE|-`: every row once, as a JSON line."""
import json
import threading
import uuid

import pytest

from flow import cass, counted, rows_of, says
from peer_cql import call


def users(ring, count=300):
    ring.table("shop", "users", "id text, name text", "id", rows=[("id%04d" % i, "n%d" % i) for i in range(count)])
    return ring


def test_rows_go_to_standard_output(program, make_ring):
    with users(make_ring()) as ring:
        r = program.run("sync", "shop.users", "--to", "-", *cass(ring))
        assert r.code == 0 and counted(rows_of(r.out)) == counted({"id": "id%04d" % i, "name": "n%d" % i} for i in range(300))


def test_rows_go_to_a_file(program, make_ring):
    with users(make_ring()) as ring:
        r = says(program.run("sync", "shop.users", "--to", "out.json", *cass(ring)), r"\b300\b", code=0)
        assert counted(rows_of((program.cwd / "out.json").read_text())) == counted({"id": "id%04d" % i, "name": "n%d" % i} for i in range(300))
        assert not [line for line in r.out.splitlines() if line.startswith('{"id"')]


def test_an_empty_table_is_an_empty_file(program, make_ring):
    with users(make_ring(), 0) as ring:
        assert program.run("sync", "shop.users", "--to", "out.json", *cass(ring)).code == 0
        assert (program.cwd / "out.json").read_bytes() == b""


def test_default_forms(program, make_ring):
    ring = make_ring()
    ring.type("shop", "address", street="text", zip="int")
    u = uuid.UUID("39d60bba-0a41-4ddd-a21c-72ea95dc73e4")
    ring.table("shop", "all_types", "id text, a ascii, b bigint, c blob, d boolean, e decimal, f double, g float, h inet, i int, j smallint, "
               "k tinyint, l timestamp, m date, n time, o uuid, p varint, q duration, r list<int>, s set<text>, t map<text, int>, "
               "u tuple<int, text>, v frozen<address>, w vector<float, 3>, x text, y map<int, text>", "id", rows=[
                   dict(id="1", a="asc", b=2**63 - 1, c=b"\x00\xff", d=True, e="-12.340", f=0.1, g=0.1, h="::1", i=-5, j=-2, k=7,
                        l=1709211296789, m="2024-02-29", n=3723000000004, o=u, p=2**70, q=(14, 3, -5 + 6), r=[1, 2], s=["a", "b"],
                        t={"k": 1}, u=(1, None), v={"street": "s"}, w=[1, 2.5, -3], x=None, y={5: "five"}),
                   dict(id="2", f=float("nan"), g=float("inf"), c=b"")])
    with ring:
        r = program.run("sync", "shop.all_types", "--to", "-", *cass(ring))
        assert r.code == 0, r
        one, two = sorted(rows_of(r.out), key=lambda o: o["id"])
        q = one.pop("q")
        assert q.startswith("P1Y2M3DT") or q.startswith("P14M3DT"), q
        assert one == {"id": "1", "a": "asc", "b": 2**63 - 1, "c": "AP8=", "d": True, "e": "-12.340", "f": 0.1, "g": 0.1, "h": "::1", "i": -5,
                       "j": -2, "k": 7, "l": "2024-02-29T12:54:56.789Z", "m": "2024-02-29", "n": "01:02:03.000000004", "o": str(u),
                       "p": str(2**70), "r": [1, 2], "s": ["a", "b"], "t": {"k": 1}, "u": [1, None], "v": {"street": "s"},
                       "w": [1, 2.5, -3], "y": {"5": "five"}}
        assert two == {"id": "2", "f": None, "g": None, "c": ""}


def test_altered_values_are_counted_and_shown(program, make_ring):
    ring = make_ring()
    ring.table("shop", "m", "id text, f double", "id", rows=[("1", float("nan")), ("2", float("-inf")), ("3", 1.5)])
    with ring:
        r = says(program.run("sync", "shop.m", "--to", "-", *cass(ring)), r"\b2\b", "NaN|nan|null|altered", code=0)
        assert len(rows_of(r.out)) == 3


def test_strict_values_fail_the_document(program, make_ring):
    ring = make_ring()
    ring.table("shop", "m", "id text, f double", "id", rows=[("1", float("nan")), ("3", 1.5)])
    with ring:
        r = program.run("sync", "shop.m", "--to", "-", "--strict-values", *cass(ring))
        assert r.code == 1 and [o["id"] for o in rows_of(r.out)] == ["3"], r


def test_clustering_rows_static_columns_and_quoted_names(program, make_ring):
    ring = make_ring()
    ring.table("Shop", "MyTable", '"Part Key" int, c int, st text, v text', "Part Key", "c desc", ["st"],
               rows=[(p, c, "s%d" % p, "v") for p in range(5) for c in range(4)])
    with ring:
        r = program.run("sync", "Shop.MyTable", "--to", "-", *cass(ring))
        assert r.code == 0, r
        assert counted(rows_of(r.out)) == counted({"Part Key": p, "c": c, "st": "s%d" % p, "v": "v"} for p in range(5) for c in range(4))


def test_text_is_escaped(program, make_ring):
    ring = make_ring()
    text = 'q" b\\ n\n t\t \x01 \x7f ü ☃ 😀 \u2028 </script>'
    ring.table("shop", "m", "id text", "id", rows=[(text,)])
    with ring:
        assert rows_of(program.run("sync", "shop.m", "--to", "-", *cass(ring)).out) == [{"id": text}]


@pytest.mark.parametrize("kill_page", [3, 8, 20])
def test_a_file_is_resumed_after_a_kill(program, make_ring, kill_page):
    ring = users(make_ring(page_rows=10))
    seen, go = threading.Event(), threading.Event()
    ring.on("EXECUTE", r'"users".*token\(', do=call(lambda r: (seen.set(), go.wait(60))), times=None, skip=kill_page)
    with ring:
        p = program.start("sync", "shop.users", "--to", "out.json", *cass(ring))
        assert seen.wait(60)
        program.kill(p)
        go.set()
        ring.rules.clear()
        with open(program.cwd / "out.json", "ab") as f:
            f.write(b'{"id":"half a li')  # what a crash may leave behind the last journalled length
        says(program.run("sync", "shop.users", "--to", "out.json", *cass(ring)), "resum|goes on|continu", code=0)
        assert counted(o["id"] for o in rows_of((program.cwd / "out.json").read_text())) == counted("id%04d" % i for i in range(300))


def test_a_file_killed_at_any_moment(program, make_ring):
    ring = users(make_ring(page_rows=10), 600)
    with ring:
        for n in range(60):
            p = program.start("sync", "shop.users", "--to", "out.json", *cass(ring))
            try:
                p.wait(0.02 * 1.08 ** n)
            except Exception:
                if program.kill(p).out:
                    break  # the summary was out: it had ended
                continue
            r = program.finish(p)
            assert r.code == 0, r
            break
        else:
            raise AssertionError("no progress")
        assert counted(o["id"] for o in rows_of((program.cwd / "out.json").read_text())) == counted("id%04d" % i for i in range(600))


def test_standard_output_starts_over_and_says_so(program, make_ring):
    ring = users(make_ring(page_rows=10))
    seen, go = threading.Event(), threading.Event()
    ring.on("EXECUTE", r'"users".*token\(', do=call(lambda r: (seen.set(), go.wait(60))), times=None, skip=5)
    with ring:
        p = program.start("sync", "shop.users", "--to", "-", *cass(ring))
        assert seen.wait(60)
        program.kill(p)
        go.set()
        ring.rules.clear()
        r = program.run("sync", "shop.users", "--to", "-", *cass(ring))
        assert r.code == 0 and len(rows_of(r.out)) == 300
        says(r, "start.?over")


def test_a_file_that_vanished_before_the_resume_is_an_error(program, make_ring):
    ring = users(make_ring(page_rows=10))
    seen, go = threading.Event(), threading.Event()
    ring.on("EXECUTE", r'"users".*token\(', do=call(lambda r: (seen.set(), go.wait(60))), times=None, skip=12)
    with ring:
        p = program.start("sync", "shop.users", "--to", "out.json", *cass(ring))
        assert seen.wait(60)
        program.kill(p)
        go.set()
        ring.rules.clear()
        size = (program.cwd / "out.json").stat().st_size
        (program.cwd / "out.json").write_bytes(b"")
        r = program.run("sync", "shop.users", "--to", "out.json", *cass(ring))
        if size:
            says(r, r"out\.json", "--fresh", code=2)
        says(program.run("sync", "shop.users", "--to", "out.json", "--fresh", *cass(ring)), code=0)
        assert len(rows_of((program.cwd / "out.json").read_text())) == 300


def test_a_file_of_somebody_else(program, make_ring):
    """It is refused, however often the command is given again; --fresh replaces it."""
    with users(make_ring()) as ring:
        program.file("out.json", "mine\n")
        args = ["sync", "shop.users", "--to", "out.json", *cass(ring)]
        for _ in range(3):
            r = says(program.run(*args), r"out\.json: there already; --fresh replaces it", code=2)
            assert (program.cwd / "out.json").read_text() == "mine\n" and "run the same command again" not in r.out
        says(program.run(*args, "--fresh"), code=0)
        assert len(rows_of((program.cwd / "out.json").read_text())) == 300


def test_a_folder_that_is_not_there(program, make_ring):
    with users(make_ring()) as ring:
        r = says(program.run("sync", "shop.users", "--to", "nosuch/out.json", *cass(ring)), "nosuch/out.json", "No such file")
        assert r.code in (2, 4)


def test_a_full_disk_is_named(program, make_ring):
    with users(make_ring()) as ring:
        r = says(program.run("sync", "shop.users", "--to", "/dev/full", *cass(ring)), "/dev/full", "No space left|not a (regular )?file")
        assert r.code in (2, 4)


def test_a_reader_that_goes_away(program, make_ring):
    with users(make_ring(), 3000) as ring:
        p = program.start("sync", "shop.users", "--to", "-", *cass(ring))
        p.stdout.read(10)
        p.stdout.close()
        p.stdout = None
        r = p.wait(60)
        assert r in (4, 141, -13, 130, 3), r
        p.stderr.close()
        p.stderr = None


def test_the_memory_budget_is_kept_with_few_rows_known(program, make_ring):
    """Nothing is known of the table: the first pages ask for few rows."""
    with users(make_ring()) as ring:
        says(program.run("sync", "shop.users", "--to", "-", *cass(ring)), code=0)
        first = ring.pages(r'"users".*token\(')[0]
        assert first.page_size and first.page_size <= 100


def test_the_memory_budget_uses_the_estimates(program, make_ring):
    ring = users(make_ring())
    ring.tables["shop", "users"].estimates = [(-2**63, 2**63 - 1, 1000, 300)]
    with ring:
        says(program.run("sync", "shop.users", "--to", "-", *cass(ring)), code=0)
        first = ring.pages(r'"users".*token\(')[0]
        assert 200 <= first.page_size <= 5000


def test_summary_as_json(program, make_ring):
    with users(make_ring()) as ring:
        r = program.run("sync", "shop.users", "--to", "out.json", "--json", *cass(ring))
        assert r.code == 0
        summary = json.loads(r.out)
        assert 300 in [v for v in json_values(summary)]


def json_values(o):
    if isinstance(o, dict):
        return [x for v in o.values() for x in json_values(v)]
    if isinstance(o, list):
        return [x for v in o for x in json_values(v)]
    return [o]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
def test_a_file_killed_at_random_moments(program, make_ring, seed):
    import random
    rnd = random.Random(seed)
    ring = make_ring(page_rows=rnd.choice([3, 10, 50]))
    ring.table("shop", "wide", "p int, c int, v text", "p", "c", rows=[(p, c, "v" * rnd.choice([1, 3000])) for p in range(20) for c in range(40)])
    limit = 0.02
    with ring:
        for _ in range(200):
            p = program.start("sync", "shop.wide", "--to", "out.json", "--workers", rnd.choice([1, 4]), *cass(ring))
            try:
                p.wait(rnd.uniform(0.005, limit))
            except Exception:
                limit += 0.002
                if program.kill(p).out:
                    break
                continue
            r = program.finish(p)
            assert r.code == 0, r
            break
        got = [(o["p"], o["c"]) for o in rows_of((program.cwd / "out.json").read_text())]
        assert len(got) == len(set(got)) == 800
