"""Ids from tables: parallel scans, keyspaces, id forms, other columns."""
import pytest

from flow import Job, counted, says, sunbird
from peer_cql import INVALID, OVERLOADED, READ_TIMEOUT, close, encode, error, key_token, page, Type


def lower(block):
    return [{k.lower(): v for k, v in e.items()} if isinstance(e, dict) else e for e in block]


@pytest.mark.parametrize("count", [0, 1, 2, 99, 1000])
def test_every_id_of_a_table_is_sent_once(job, api, ring, count):
    ring.tables["sunbird", "user"].rows.clear()
    ring.tables["sunbird", "user"].put([("u%05d" % i, "n", "c") for i in range(count)])
    says(job.run(block=50), code=0)
    assert sorted(api.ids()) == ["u%05d" % i for i in range(count)]
    assert all(api.blocks()), "an empty block means everything to one of the servers"


def test_blocks_are_packed_full_across_ranges(job, api, ring):
    ring.tables["sunbird", "user"].put([("u%05d" % i, "n", "c") for i in range(990)])
    says(job.run(block=100), code=0)
    assert [len(b) for b in api.blocks()] == [100] * 10


def test_only_key_columns_are_read(job, ring):
    says(job.run(), code=0)
    pages = ring.pages(r'"?user"?\s+WHERE')
    assert pages and all("firstname" not in p.cql and "*" not in p.cql for p in pages)


def test_scan_covers_the_ring_without_overlap(job, ring):
    says(job.run(), code=0)
    ranges = sorted({tuple(int.from_bytes(v, "big", signed=True) for v in p.values[:2]) for p in ring.pages("token\\(") if len(p.values) >= 2})
    assert ranges[0][0] == -2**63 and ranges[-1][1] in (2**63 - 1, -2**63)
    assert all(a[1] == b[0] for a, b in zip(ranges, ranges[1:])), ranges


def test_reads_are_local_quorum(job, ring):
    says(job.run(), code=0)
    assert {p.consistency for p in ring.pages("token\\(")} == {6}


def test_consistency_can_be_chosen(job, ring):
    says(job.run("--consistency", "one"), code=0)
    assert {p.consistency for p in ring.pages("token\\(")} == {1}


def test_scan_of_several_nodes_asks_each_for_its_own_ranges(program, api, make_ring):
    ring = sunbird(make_ring(nodes=3), users=300)
    with ring:
        says(Job(program, ring, api).run(), code=0)
        assert len(api.ids()) == len(set(api.ids())) == 300
        scans = [p for p in ring.pages("token\\(") if p.rows]
        right = [p for p in scans if ring.owner(int.from_bytes(p.values[1], "big", signed=True)) is p.node]
        assert len({p.node for p in scans}) == 3 and len(right) == len(scans)


@pytest.mark.parametrize("fault", [error(OVERLOADED), error(READ_TIMEOUT), close(), page(0)], ids=["overloaded", "read timeout", "cut", "empty page"])
def test_a_retried_scan_neither_loses_nor_repeats(job, api, ring, fault):
    ring.tables["sunbird", "user"].put([("u%05d" % i, "n", "c") for i in range(500)])
    ring.page_rows = 40
    ring.on("EXECUTE", "token\\(", do=fault, times=3, skip=2)
    says(job.run(block=50), code=0)
    assert len(api.ids()) == len(set(api.ids())) == 510


# ---- forms

def batches(ring, courses=12, each=3):
    ring.tables["sunbird_courses", "course_batch"].put(
        [("do_%03d" % c, "%d-%d" % (c, b), "n") for c in range(courses) for b in range(each)])


def enrolments(ring, users=30, each=3):
    ring.tables["sunbird_courses", "user_enrolments"].put(
        [("u%03d" % u, "do_%03d" % (u % 7), "%d-%d" % (u % 7, b), True) for u in range(users) for b in range(each)])


def test_batch_sends_distinct_course_ids(job, api, ring):
    batches(ring)
    says(job.run(table="course_batch", type="batch", block=5), code=0)
    assert sorted(api.ids()) == ["do_%03d" % c for c in range(12)]
    assert [len(b) for b in api.blocks()] == [5, 5, 2]


def test_batch_dry_run_writes_the_course_ids(job, ring, program):
    batches(ring)
    says(job.run(table="course_batch", type="batch", dry_run="true"), code=0)
    assert sorted((program.cwd / "syncIds.csv").read_text().split()) == ["do_%03d" % c for c in range(12)]


def test_batch_as_objects_sends_every_row(job, api, ring):
    batches(ring)
    says(job.run("--id-form", "object", table="course_batch", type="batch"), code=0)
    assert counted(e for b in api.blocks() for e in lower(b)) == counted(
        {"courseid": "do_%03d" % c, "batchid": "%d-%d" % (c, b)} for c in range(12) for b in range(3))


def test_user_course_sends_one_object_per_block_with_distinct_users(job, api, ring):
    enrolments(ring)
    says(job.run(table="user_enrolments", type="user_course", block=20), code=0)
    blocks = [lower(b) for b in api.blocks()]
    assert all(len(b) == 1 and list(b[0]) == ["userid"] for b in blocks)
    assert [len(b[0]["userid"]) for b in blocks] == [20, 10]
    assert sorted(u for b in blocks for u in b[0]["userid"]) == ["u%03d" % u for u in range(30)]
    assert '"userId":[' in api.calls[0].body.decode()


def test_user_course_dry_run_writes_user_ids_that_read_back(job, api, ring, program):
    enrolments(ring)
    says(job.run(table="user_enrolments", type="user_course", dry_run="true"), code=0)
    says(job.run(table="user_enrolments", type="user_course", id_file="syncIds.csv"), code=0)
    assert sorted(api.ids()) == ["u%03d" % u for u in range(30)]


def test_id_column_finds_the_course_ids_of_batch_ids(job, api, ring):
    batches(ring)
    r = job.run("--id-column", "batchid", ids=["3-1", "5-0", "nosuch"], table="course_batch", type="batch")
    says(r, r"missing +1\b", code=0)
    assert sorted(api.ids()) == ["do_003", "do_005"]


def test_id_column_for_user_course(job, api, ring):
    enrolments(ring)
    says(job.run("--id-column", "batchid", ids=["3-1"], table="user_enrolments", type="user_course"), code=0)
    assert sorted(api.ids()) == ["u%03d" % u for u in range(30) if u % 7 == 3]


def test_id_column_that_the_table_lacks(job, api, ring):
    says(job.run("--id-column", "batchidd", ids=["3-1"], table="course_batch", type="batch"), "batchidd", "batchid", code=2)
    assert not api.calls


def test_any_table_with_a_composite_partition_key(job, api, ring):
    ring.table("shop", "lines", "a text, b int, c text", ["a", "b"], "c", rows=[("a%d" % (i % 5), i, "c") for i in range(40)])
    says(job.run("--id-form", "object", table="lines", keyspace="shop", type="line"), code=0)
    assert counted(e for b in api.blocks() for e in lower(b)) == counted({"a": "a%d" % (i % 5), "b": i, "c": "c"} for i in range(40)) \
        or counted(e for b in api.blocks() for e in lower(b)) == counted({"a": "a%d" % (i % 5), "b": str(i), "c": "c"} for i in range(40))


def test_uuid_and_int_keys_are_sent_as_their_text(job, api, ring):
    u = "39d60bba-0a41-4ddd-a21c-72ea95dc73e4"
    ring.table("shop", "orders", "id uuid", "id", rows=[(u,)])
    says(job.run(table="orders", keyspace="shop"), code=0)
    assert api.ids() == [u]


def test_names_that_need_quotes(job, api, ring):
    ring.table("Shop", "Order", '"Id" text, "select" text', "Id", rows=[("x", "y")])
    says(job.run(table="Order", keyspace="Shop"), code=0)
    assert api.ids() == ["x"]


# ---- keyspaces

def test_keyspace_is_found(job, api, ring):
    batches(ring)
    says(job.run(table="course_batch", type="batch"), code=0)
    assert ring.pages('"sunbird_courses"')


def test_a_doubt_about_the_keyspace_names_the_candidates(job, api, ring):
    ring.table("sunbird", "course_batch", "id text", "id")
    batches(ring)
    says(job.run(table="course_batch", type="batch"), r"\bsunbird\b", r"\bsunbird_courses\b", "sunbird_cassandra_keyspace|keyspace", code=2)
    assert not api.calls


def test_the_keyspace_given_ends_the_doubt(job, api, ring):
    ring.table("sunbird", "course_batch", "id text", "id", rows=[("old", )])
    batches(ring)
    says(job.run(table="course_batch", type="batch", keyspace="sunbird_courses"), code=0)
    assert sorted(api.ids()) == ["do_%03d" % c for c in range(12)]


def test_table_that_vanishes_during_the_scan_stops_with_its_name(job, ring):
    ring.on("EXECUTE", "token\\(", do=error(INVALID, "table user does not exist"), times=None)
    r = job.run("--retry-budget", "500ms")
    says(r, "table user does not exist")
    assert r.code == 2


def test_murmur_of_the_peer_is_the_order_of_the_scan(ring):
    t = ring.tables["sunbird", "user"]
    assert t.tokens == sorted(key_token([encode(Type("text"), "user-%04d" % i)]) for i in range(10))


def test_a_looked_up_id_is_sent_once_though_two_workers_scan(program, api, make_ring):
    ring = sunbird(make_ring(page_rows=2))
    ring.table("sunbird_courses", "course_batch", "courseid text, batchid text, name text", "courseid", ["batchid"],
               rows=[("c%02d" % (i // 30), "b%04d" % i, "n") for i in range(600)])
    ring.start()
    job = Job(program, ring, api)
    r = says(job.run("--id-column", "batchid", ids=["b%04d" % i for i in range(600)], type="batch", table="course_batch", block=1), code=0)
    assert sorted(api.ids()) == ["c%02d" % i for i in range(20)]
    says(r, r"ids +600", r"duplicate +580", r"accepted +20")


def test_the_summary_names_the_table(job):
    says(job.run(keyspace=None), r"table +sunbird\.user", code=0)


def test_an_empty_table_is_said_to_be_empty(job):
    says(job.run(table="location", type="location"), r"sunbird\.location has no rows", code=0)
