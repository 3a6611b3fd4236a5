"""Ids from files and from standard input, in every form."""
import json
import os
import subprocess

import pytest

from flow import says
from peer_http import Reply


FORMS = {
    "plain": b"id1\nid2\n",
    "no line end at the end": b"id1\nid2",
    "header": b"id\nid1\nid2\n",
    "CRLF": b"id1\r\nid2\r\n",
    "BOM": b"\xef\xbb\xbfid1\nid2\n",
    "BOM and header": b"\xef\xbb\xbfid\r\nid1\r\nid2\r\n",
    "quotes": b'"id1"\n"id2"\n',
    "quoted header": b'"id"\n"id1"\n"id2"\n',
    "blanks around": b"  id1 \n\tid2\t\n",
    "blank lines": b"\n\nid1\n\n  \nid2\n\n",
    "JSON strings": b'"id1"\n"id2"\n',
    "JSON objects": b'{"id":"id1"}\n{"id":"id2","more":[1,{"x":null}]}\n',
}


@pytest.mark.parametrize("form", FORMS)
def test_form(job, api, form):
    says(job.run(ids=FORMS[form]), code=0)
    assert api.blocks() == [["id1", "id2"]]


@pytest.mark.parametrize("form", FORMS)
def test_form_on_standard_input(job, api, form):
    says(job.run(id_file="-", stdin=FORMS[form]), code=0)
    assert api.blocks() == [["id1", "id2"]]


def test_csv_column_by_name(job, api):
    says(job.run("--csv-column", "uid", ids="name,uid\nAnn,id1\n\"Bee, B\",id2\n"), code=0)
    assert api.blocks() == [["id1", "id2"]]


def test_csv_column_by_number(job, api):
    says(job.run("--csv-column", "2", ids="Ann,id1\n\"Bee, B\",id2\n"), code=0)
    assert api.blocks() == [["id1", "id2"]]


def test_csv_column_that_is_not_there(job, api):
    says(job.run("--csv-column", "uidd", ids="name,uid\nAnn,id1\n"), "uidd", r"\buid\b", code=2)
    assert not api.calls


def test_quotes_commas_and_line_breaks_within_quotes(job, api):
    says(job.run(ids='"a,b"\n"say ""hi"""\n"two\nlines"\n'), code=0)
    assert api.blocks() == [["a,b", 'say "hi"', "two\nlines"]]


def test_adjacent_duplicates_are_dropped_and_counted(job, api):
    says(job.run(ids=["a", "a", "b", "b", "b", "c"], block=2), r"3 duplicate|duplicates?\W+3", code=0)
    assert api.blocks() == [["a", "b"], ["c"]]


def test_duplicates_within_a_block_are_dropped_and_counted(job, api):
    says(job.run(ids=["a", "b", "a", "c", "b"], block=10), r"2 duplicate|duplicates?\W+2", code=0)
    assert api.blocks() == [["a", "b", "c"]]


@pytest.mark.parametrize("content", [b"", b"\n\n \n", b"\xef\xbb\xbf", b"id\n"], ids=["empty", "blank", "bom", "only a header"])
def test_a_file_without_ids_is_an_error(job, api, content):
    says(job.run(ids=content), r"ids\.csv", r"no id|empty", code=2)
    assert not api.calls


def test_a_missing_file_is_an_error_never_a_full_sync(job, api, ring):
    says(job.run(id_file="nosuch.csv"), r"nosuch\.csv", "No such file", code=2)
    assert not api.calls and not ring.pages('"user"')


def test_empty_standard_input_is_an_error(job, api):
    says(job.run(id_file="-", stdin=""), "no id|empty", code=2)
    assert not api.calls


def test_bytes_that_are_not_utf8_are_named_by_line(job, api):
    r = says(job.run(ids=b"ok1\nb\xff\xfed\nok2\n"), code=1)
    assert api.ids() == ["ok1", "ok2"], r
    says(job.program.run("failures", "show"), r"\bbad_id\b", r"\bline 2\b", "UTF-8")


def test_id_that_does_not_fit_the_type_is_named_and_the_rest_goes_on(job, api, ring):
    ring.table("shop", "orders", "id uuid, v int", "id")
    good = ["39d60bba-0a41-4ddd-a21c-72ea95dc73e4", "6c696fc1-6f57-47d4-a733-70ef31d52727"]
    r = job.run(ids=[good[0], "not-a-uuid", good[1]], table="orders", keyspace="shop")
    says(r, r"bad +1\b", code=1)
    assert api.ids() == good
    says(job.program.run("failures", "show"), r"^not-a-uuid\s+bad_id\s+line 2\b.*uuid")


def test_numbers_in_json_lines_are_ids_too(job, api, ring):
    ring.table("shop", "orders", "id int, v int", "id")
    says(job.run(ids='{"id":1}\n2\n-3\n', table="orders", keyspace="shop"), code=0)
    assert [str(i) for i in api.ids()] == ["1", "2", "-3"]


# ---- composite keys

def enrolment(e):
    return {k.lower(): v for k, v in e.items()}


@pytest.mark.parametrize("content", ["u1,c1,b1\nu2,c2,b2\n", "userid,courseid,batchid\nu1,c1,b1\nu2,c2,b2\n",
                                     '{"userid":"u1","courseid":"c1","batchid":"b1"}\n{"userId":"u2","courseId":"c2","batchId":"b2"}\n'],
                         ids=["columns", "header", "objects"])
def test_composite_keys_as_objects(job, api, content):
    says(job.run("--id-form", "object", ids=content, table="user_enrolments", type="user_course"), code=0)
    assert [[enrolment(e) for e in b] for b in api.blocks()] == [
        [{"userid": "u1", "courseid": "c1", "batchid": "b1"}, {"userid": "u2", "courseid": "c2", "batchid": "b2"}]]


def test_columns_in_another_order_follow_the_header(job, api):
    says(job.run("--id-form", "object", ids="batchid,userid,courseid\nb1,u1,c1\n", table="user_enrolments", type="user_course"), code=0)
    assert enrolment(api.blocks()[0][0]) == {"userid": "u1", "courseid": "c1", "batchid": "b1"}


def test_user_course_ids_of_a_file_go_as_one_object_per_block(job, api):
    says(job.run(ids=["u1", "u2", "u3"], block=2, table="user_enrolments", type="user_course"), code=0)
    assert [[enrolment(e) for e in b] for b in api.blocks()] == [[{"userid": ["u1", "u2"]}], [{"userid": ["u3"]}]]


# ---- logs as id files

def test_our_failure_log_is_an_id_file(job, api, program):
    api.script(2, api.error(500))
    says(job.run(ids=["a", "b", "c", "d", "e"], block=2), code=1)
    log, = program.logs.glob("SyncFailure_*.log")
    before = len(api.calls)
    says(job.run(id_file=log), code=0)
    assert [c.json["request"]["objectIds"] for c in api.calls[before:]] == [["c", "d"]]


def test_failure_log_of_the_original_is_an_id_file(job, api):
    body = '{"params":{},"request":{"objectType":"user","operationFor":"es","objectIds":[%s]}}'
    text = ("Request No : 3\r\nRequest : " + body % '"a","b"' + "\r\nResponse : {\"responseCode\":\"SERVER_ERROR\"}\r\n\r\n"
            "Request No : 9\nRequest : " + body % '"c"' + "\nResponse : <html>\n<p>bad gateway</p>\n</html>\n\n")
    says(job.run(ids=text), code=0)
    assert api.ids() == ["a", "b", "c"]


def test_failure_log_with_objects_is_read_back(job, api, program):
    api.script(1, api.error(500))
    says(job.run(ids=["u1", "u2"], table="user_enrolments", type="user_course"), code=1)
    log, = program.logs.glob("SyncFailure_*.log")
    says(job.run(id_file=log, table="user_enrolments", type="user_course"), code=0)
    assert api.ids() == ["u1", "u2"]


def test_call_without_answer_is_logged_with_a_reason(job, api, program):
    api.always = Reply(fault="close")
    r = job.run("--retry-budget", "300ms", ids=["a"])
    says(r, code=3)
    text = program.log("Failure")
    assert text.startswith("Request No : 1\nRequest : {") and "\nResponse : " in text, text


def test_a_million_duplicates_need_no_memory_and_no_call(job, api):
    says(job.run(ids=b"same\n" * 200000), r"199,?999", code=0)
    assert api.blocks() == [["same"]]


def test_id_file_with_ids_of_json_and_csv_mixed_names_the_line(job, api):
    says(job.run(ids='{"id":"id1"}\n{"id":"id2"\nid3\n{"id":"id4"}\n'), r"bad +2\b", code=1)
    assert api.ids() == ["id1", "id4"]
    says(job.program.run("failures", "show"), r"\bline 2\b", r"\bline 3\b")


def test_object_without_the_key_is_bad(job, api):
    r = says(job.run(ids='{"id":"id1"}\n{"name":"x"}\n{"id":"id3"}\n'), code=1)
    assert api.ids() == ["id1", "id3"], r
    says(job.program.run("failures", "show"), r"\bline 2\b")


def test_long_id_file_is_read_as_a_stream(job, api):
    ids = ["user-%07d" % n for n in range(30000)]
    says(job.run(ids=ids, block=1000), code=0)
    assert api.ids() == ids
    json.dumps(ids)


def test_starting_over_leaves_no_old_copy_of_standard_input(job, api, program):
    for flags, code in (((), 3), (("--fresh",), 3), (("--fresh",), 0)):
        api.script(len(api.calls) + 2, Reply(401) if code else [])
        says(job.run("--id-file", "-", *flags, stdin="a\nb\nc\n", block=1), code=code)
        assert len(list(program.state.glob("*.stdin*"))) == (1 if code else 0)


def test_one_kind_of_bad_line_is_shown_once(job):
    r = says(job.run(ids="a\n1,2\n3,4\n5,6\n"), r"bad_id: 1,2: line 2", r"bad +3", code=1)
    assert r.out.count("bad_id") == 1


def test_a_pipe_as_id_file_is_told_to_be_standard_input(job, program):
    os.mkfifo(program.cwd / "pipe")
    feed = subprocess.Popen(["sh", "-c", "echo a > pipe"], cwd=program.cwd)
    says(job.run(id_file="pipe"), "can't be read twice; give it as standard input, with - as id file", code=2)
    feed.wait(60)


def test_the_start_says_what_will_be_done(job, api):
    says(job.run(), r"event=job object_type=user table=sunbird\.user .*to=%s block_size=100 pause_ms=0 workers=1" % api.endpoint, code=0)
    says(job.run(ids=["a"]), r"event=job object_type=user .*id_file=ids\.csv", code=0)


def test_a_table_printed_by_cqlsh_is_no_id_file(job, api):
    says(job.run(ids=" id\n------\n  u1\n  u2\n\n(2 rows)\n"), "as cqlsh prints it", code=2)
    says(job.run(ids="userid | courseid\n--------+---------\n  u1 | c\n"), "as cqlsh prints it", code=2)
    assert not api.calls


def test_a_log_of_another_object_type_is_refused(job, api, program):
    api.script(1, Reply(400))
    says(job.run(ids=["a", "b"]), code=1)
    log = next(program.logs.glob("SyncFailure*"))
    says(job.run(id_file=log, type="batch", table="course_batch"), "a log of object type user, not batch", code=2)
    says(job.run(id_file=log), code=0)
    assert api.ids() == ["a", "b"]


def test_lines_that_end_by_cr_alone_are_no_ids(job, api):
    says(job.run(ids="a\rb\rc\r"), "bad_id: .*lines end by CR alone", code=1)
    assert not api.calls


@pytest.mark.parametrize("flag", ["--max-docs-per-s", "--max-reads-per-s"])
def test_rates_that_nothing_would_heed(job, api, flag):
    says(job.run(flag, 5, ids="a\n"), flag + ": is for documents .*, not for ids sent to a Sync API", code=2)
    assert not api.calls
