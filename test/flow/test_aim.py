"""Options that would have no effect on what is asked for: refused, and nothing is read or written."""
import re

import pytest

from flow import cass, says

IDS = ["--id-file", "ids.csv"]
API = ["--endpoint", "http://127.0.0.1:1/v1/data/sync", "--object-type", "item"]


@pytest.fixture
def shop(direct):
    direct.program.file("ids.csv", "i0001\n")
    return direct


def refused(direct, said, option, why, env=None):
    r = says(direct.program.run("sync", "shop.items", *said, *cass(direct.ring), env=env), re.escape(option) + ": is for .*not for " + why, code=2)
    assert not direct.elastic.calls and not direct.ring.requests, r
    assert r.out == "" and not direct.program.state.exists(), r


@pytest.mark.parametrize("said", [
    ["--id-column", "v", "--missing", "delete"], ["--id-column", "nosuch"], ["--id-form", "string"], ["--block-size", 5], ["--pause", "1s"],
    ["--endpoint", "http://h/"], ["--await"], ["--scan-workers", 3], ["--object-type", "item"], ["--log-dir", "."]])
def test_with_an_index(shop, said):
    refused(shop, ["--index", "items", "--elastic-url", shop.elastic.url, *IDS, *said], said[0], re.escape("documents of given ids (--id-file)"))


@pytest.mark.parametrize("said", [["--missing", "delete"], ["--csv-column", 1], ["--id-form", "string"], ["--pause", "1s"]])
def test_with_a_whole_table(shop, said):
    refused(shop, ["--index", "items", "--elastic-url", shop.elastic.url, *said], said[0], "documents of a whole table")


@pytest.mark.parametrize("said", [
    ["--id-file", "ids.csv"], ["--id-file", "nosuch.csv"], ["--index", "items"], ["--missing", "keep"], ["--bulk-size", "2MiB"], ["--max-docs-per-s", 10],
    ["--change-versioning"], ["--max-skew", "1s"], ["--endpoint", "http://h/"]])
def test_with_a_file(shop, said):
    refused(shop, ["--to", "out.json", *said], said[0], "rows written to a file")
    assert not (shop.program.cwd / "out.json").exists()


@pytest.mark.parametrize("said", [["--bulk-size", "2MiB"], ["--missing", "delete"], ["--strict-values"], ["--limit", 5]])
def test_with_a_sync_api(shop, said):
    refused(shop, [*API, *said], said[0], "ids sent to a Sync API")


def test_check_looks_as_sync_does(shop):
    r = shop.program.run("check", "shop.items", "--index", "items", "--elastic-url", shop.elastic.url, *IDS, "--id-column", "v", *cass(shop.ring))
    says(r, "--id-column: is for ids sent to a Sync API, not for documents of given ids", code=2)


def test_what_says_which_rows_counts_wherever_it_was_said(shop):
    """Ids in the environment are not a reason to write the whole table."""
    refused(shop, ["--to", "out.json"], "CASS2ES_ID_FILE", "rows written to a file", env={"CASS2ES_ID_FILE": "ids.csv"})
    refused(shop, ["--index", "items", "--elastic-url", shop.elastic.url, *IDS], "CASS2ES_ID_COLUMN", "documents of given ids",
            env={"CASS2ES_ID_COLUMN": "v"})


def test_places_and_pace_in_the_environment_may_be_for_others(shop):
    env = {"CASS2ES_ENDPOINT": "http://h/", "CASS2ES_BLOCK_SIZE": "5", "CASS2ES_MISSING": "delete", "CASS2ES_SCAN_WORKERS": "3",
           "CASS2ES_ELASTIC_URL": shop.elastic.url, "CASS2ES_BULK_SIZE": "2MiB"}
    says(shop.program.run("sync", "shop.items", "--to", "-", *cass(shop.ring), env=env), code=0)
    says(shop.program.run("sync", "shop.items", "--index", "items", *cass(shop.ring), env=env), "60", code=0)


def test_where_to_is_asked(shop):
    r = says(shop.program.run("sync", "shop.items", *cass(shop.ring)), "--index NAME or --mapping FILE", code=2)
    assert "--to FILE" in r.err and "--object-type" in r.err
