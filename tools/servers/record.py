#!/usr/bin/python3
"""Records what search servers answer, for the unit tests: record.py INSTANCE…  (they must run: ./dev up INSTANCE…)

Writes test/data/search/SERVER.json: {"server", "version", "answers": {NAME: {"request": {"method", "path", "body"},
"status", "headers", "body"}}}. Bodies are text, as they came (unpacked, where the head says gzip). The order of the calls
matters; see record(). Cluster-wide settings change for moments: not while others use the server.
"""
import gzip
import http.client
import json
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVERS = str(ROOT / "tools/servers/servers")
BULK_FILTER = ("filter_path=took,errors,items.*._id,items.*.status,items.*.result,items.*._seq_no,"
               "items.*._primary_term,items.*.error.type,items.*.error.reason")
FIELD_NAMES = ["", " ", ".", "dot.", ".dot", "two..dots", "one.dot", "_id", "_index", "_source", "_routing", "_version", "_seq_no", "_x",
               "a b", "a*b", "a\"b", "a\\b", "a\u0000b", "\u00e4", "A"]


class Recorder:
    def __init__(self, host, port):
        self.host, self.port, self.answers = host, int(port), {}

    def call(self, name, method, path, body=None, lines=None, text=None, headers=None, packed=False):
        """Sends body as JSON, lines as NDJSON, or text as NDJSON; packed: by gzip; name None: not recorded."""
        data, sent = None, dict(headers or {})
        if lines is not None:
            text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        if text is not None:
            data = text
            sent.setdefault("Content-Type", "application/x-ndjson")
        elif body is not None:
            data = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        body = data.encode() if data is not None else None
        if packed:
            body = gzip.compress(body)
            sent["Content-Encoding"] = "gzip"
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        got = answer.read()
        got = (gzip.decompress(got) if answer.getheader("Content-Encoding") == "gzip" else got).decode()
        if name:
            assert name not in self.answers, name
            keep = {k.lower(): v for k, v in answer.getheaders() if k.lower() not in ("content-length", "date")}
            self.answers[name] = {"request": {"method": method, "path": path, **({"body": data} if data is not None else {})},
                                  "status": answer.status, "headers": keep, "body": got}
        connection.close()
        try:
            return answer.status, json.loads(got) if got else None
        except ValueError:
            return answer.status, got


def identify(r):
    r.call("root", "GET", "/")
    r.call("root_head", "HEAD", "/")
    r.call("nodes_version", "GET", "/_nodes/_local?filter_path=nodes.*.version")
    r.call("nodes_build", "GET", "/_nodes/_local?filter_path=nodes.*.version,nodes.*.build_flavor,nodes.*.build_type")
    r.call("cluster_settings", "GET", "/_cluster/settings")
    r.call("cluster_settings_auto_create", "GET",
           "/_cluster/settings?include_defaults=true&flat_settings=true&filter_path=*.action.auto_create_index,*.action*auto_create_index")
    r.call("nodes_http", "GET", "/_nodes/_local/http?filter_path=nodes.*.http.max_content_length_in_bytes")
    r.call("not_there", "GET", "/_no_such_api")


def indices(r, major):
    properties = {"n": {"type": "integer"}, "s": {"type": "keyword"}, "at": {"type": "date"},
                  "o": {"properties": {"x": {"type": "keyword"}}}}
    mapping = {"dynamic": "false", "_meta": {"cass2es": {"versioning": "read_time"}}, "properties": properties}
    settings = {"index": {"number_of_shards": 2, "number_of_replicas": 0, "gc_deletes": "1h"}}
    typed = {"settings": settings, "mappings": {"_doc": mapping}}
    plain = {"settings": settings, "mappings": mapping}
    r.call("index_missing", "GET", "/rec_one")
    r.call("index_create_plain" if major > 6 else "index_create_typed", "PUT", "/rec_one", plain if major > 6 else typed)
    r.call("index_create_again", "PUT", "/rec_one", plain if major > 6 else typed)
    # The other form: with the parameter where it is known.
    other = typed if major > 6 else plain
    r.call("index_create_other_form", "PUT", "/rec_other", other)
    r.call(None, "DELETE", "/rec_other")
    r.call("index_create_include_type_name", "PUT", f"/rec_other?include_type_name={'true' if major > 6 else 'false'}", other)
    r.call(None, "DELETE", "/rec_other")
    r.call("index_create_bad_name", "PUT", "/Rec_Other", plain)
    r.call("index_create_bad_mapping", "PUT", "/rec_other", {"mappings": {"_doc": {"properties": {"a": {"type": "nope"}}}}
                                                             if major == 6 else {"properties": {"a": {"type": "nope"}}}})
    r.call("index_default", "PUT", "/rec_default")
    r.call("index_default_get", "GET", "/rec_default")
    no_source = {"_source": {"enabled": False}}
    r.call("index_no_source", "PUT", "/rec_no_source", {"mappings": {"_doc": no_source} if major == 6 else no_source})
    r.call("index_no_source_get", "GET", "/rec_no_source")
    r.call("index_get", "GET", "/rec_one")
    r.call("index_get_flat", "GET", "/rec_one?flat_settings=true")
    r.call("index_get_include_type_name", "GET", "/rec_one?include_type_name=false")
    r.call("index_settings_defaults", "GET", "/rec_default/_settings?include_defaults=true&flat_settings=true&filter_path="
                                             "*.settings,*.defaults.index.gc_deletes,*.defaults.index.refresh_interval")
    gc = "*.settings.index.gc_deletes,*.defaults.index.gc_deletes"
    r.call("index_settings_gc_default", "GET", f"/rec_default/_settings?include_defaults=true&filter_path={gc}")
    r.call("index_settings_gc", "GET", f"/rec_one/_settings?include_defaults=true&filter_path={gc}")
    r.call("index_settings_filtered", "GET", "/rec_one/_settings?filter_path=*.settings.index.uuid")
    r.call("index_mapping", "GET", "/rec_one/_mapping")
    r.call("mapping_put_meta", "PUT", "/rec_one/_mapping" + ("/_doc" if major == 6 else ""),
           {"_meta": {"cass2es": {"versioning": "read_time", "since": 1}}})
    r.call("alias_add", "POST", "/_aliases", {"actions": [{"add": {"index": "rec_one", "alias": "rec_alias"}}]})
    r.call("alias_add_two", "POST", "/_aliases", {"actions": [{"add": {"index": i, "alias": "rec_two"}} for i in ("rec_one", "rec_default")]})
    r.call("alias_get_index", "GET", "/rec_alias")
    r.call("alias_two_get_index", "GET", "/rec_two")
    r.call("alias_get", "GET", "/_alias/rec_alias")
    r.call("state_terms", "GET", "/_cluster/state/metadata/rec_one?filter_path=metadata.indices.*.primary_terms")
    r.call("state_terms_alias", "GET", "/_cluster/state/metadata/rec_alias?filter_path=metadata.indices.*.primary_terms")
    r.call("state_terms_missing", "GET", "/_cluster/state/metadata/rec_nothing?filter_path=metadata.indices.*.primary_terms")
    r.call("health_index", "GET", "/_cluster/health/rec_one")
    r.call("health", "GET", "/_cluster/health")
    # Data streams are in the core of OpenSearch only; in Elasticsearch they belong to a module that is not published.
    r.call(None, "DELETE", "/_data_stream/rec_stream")
    r.call("data_stream_get_missing", "GET", "/_data_stream/rec_stream")
    status, _ = r.call(None, "PUT", "/_index_template/rec_stream", {"index_patterns": ["rec_stream"], "data_stream": {}})
    if status == 200 and r.call("data_stream_create", "PUT", "/_data_stream/rec_stream")[0] == 200:
        r.call("data_stream_get_index", "GET", "/rec_stream")
        r.call("data_stream_get", "GET", "/_data_stream/rec_stream")
        r.call("bulk_data_stream", "POST", "/rec_stream/_bulk", lines=[{"index": {"_id": "a"}}, {"@timestamp": 1}])
        r.call(None, "DELETE", "/_data_stream/rec_stream")
    r.call(None, "DELETE", "/_index_template/rec_stream")


def writes(r, major):
    t = "/_doc" if major == 6 else ""
    bulk = f"/rec_one{t}/_bulk"

    def versioned(op, id_, version, kind="external_gte", **more):
        return {op: {"_id": id_, "version": version, "version_type": kind, **more}}

    doc = {"n": 1, "s": "x"}
    r.call("bulk_external_gte_created", "POST", bulk, lines=[versioned("index", "a", 1000), doc, versioned("index", "b", 1000), doc])
    r.call("bulk_external_gte_equal", "POST", bulk, lines=[versioned("index", "a", 1000), doc])
    r.call("bulk_external_gte_later", "POST", bulk, lines=[versioned("index", "a", 2000), doc])
    r.call("bulk_external_gte_older", "POST", bulk, lines=[versioned("index", "a", 1999), doc, versioned("index", "c", 5), doc])
    r.call("bulk_external_equal", "POST", bulk, lines=[versioned("index", "a", 2000, "external"), doc])
    r.call("bulk_external_micros", "POST", bulk, lines=[versioned("index", "now", 1795464361123456), doc])
    r.call("bulk_external_micros_older", "POST", bulk, lines=[versioned("index", "now", 1795464361123455), doc])
    r.call("bulk_delete_external_older", "POST", bulk, lines=[versioned("delete", "a", 1500)])
    r.call("bulk_delete_external", "POST", bulk, lines=[versioned("delete", "b", 3000)])
    r.call("bulk_after_delete_older", "POST", bulk, lines=[versioned("index", "b", 2500), doc])
    r.call("bulk_delete_missing", "POST", bulk, lines=[{"delete": {"_id": "never"}}])
    r.call("bulk_delete_missing_external", "POST", bulk, lines=[versioned("delete", "never2", 10)])
    r.call("bulk_create", "POST", bulk, lines=[{"create": {"_id": "d"}}, doc])
    r.call("bulk_create_exists", "POST", bulk, lines=[{"create": {"_id": "d"}}, doc])
    _, got = r.call("mget", "POST", f"/rec_one{t}/_mget", {"ids": ["a", "d", "never", "b"]})
    at = got["docs"][1]
    r.call("mget_filtered", "POST", f"/rec_one{t}/_mget?_source=false&filter_path=docs._id,docs.found,docs._seq_no,docs._primary_term,"
           "docs._version,docs.error", {"ids": ["a", "d", "never"]})
    r.call("mget_docs", "POST", "/_mget", {"docs": [{"_index": "rec_one", **({"_type": "_doc"} if major == 6 else {}), "_id": "a", "_source": False}]})
    r.call("mget_index_missing", "POST", f"/rec_nothing{t}/_mget", {"ids": ["a"]})
    r.call("mget_alias_two", "POST", f"/rec_two{t}/_mget", {"ids": ["a"]})
    r.call("mget_no_source", "POST", f"/rec_no_source{t}/_mget", {"ids": ["a"]})
    r.call("get", "GET", "/rec_one/_doc/a")
    condition = {"if_seq_no": at["_seq_no"], "if_primary_term": at["_primary_term"]}
    r.call("bulk_if_seq_no", "POST", bulk, lines=[{"index": {"_id": "d", **condition}}, doc])
    r.call("bulk_if_seq_no_lost", "POST", bulk, lines=[{"index": {"_id": "d", **condition}}, doc])
    r.call("bulk_if_seq_no_delete_lost", "POST", bulk, lines=[{"delete": {"_id": "d", **condition}}])
    r.call("bulk_if_seq_no_missing", "POST", bulk, lines=[{"index": {"_id": "never", **condition}}, doc])
    r.call("bulk_if_seq_no_delete_missing", "POST", bulk, lines=[{"delete": {"_id": "never", **condition}}])
    # What filters leave: all good, mixed, and one that loses the places.
    good = [versioned("index", "f1", 10), doc, versioned("index", "f2", 10), doc]
    mixed = [versioned("index", "f1", 5), doc, versioned("index", "f2", 20), doc, versioned("index", "f3", 5), {"n": "text"}, {"delete": {"_id": "never"}}]
    r.call("bulk_filtered", "POST", f"{bulk}?{BULK_FILTER}", lines=good)
    r.call("bulk_filtered_mixed", "POST", f"{bulk}?{BULK_FILTER}", lines=mixed)
    r.call("bulk_lean", "POST", f"{bulk}?filter_path=took,errors,items.*.status,items.*._primary_term,items.*.error.type,items.*.error.reason",
           lines=[versioned("index", "f1", 30), doc, versioned("index", "f2", 5), doc])
    r.call("bulk_only_errors", "POST", f"{bulk}?filter_path=errors,items.*.error", lines=mixed)
    r.call("bulk_only_errors_none", "POST", f"{bulk}?filter_path=errors,items.*.error", lines=[versioned("index", "f1", 40), doc])
    r.call("bulk_mapping_error", "POST", bulk, lines=[{"index": {"_id": "m1"}}, {"n": "text"}, {"index": {"_id": "m2"}}, {"o": 5},
                                                      {"index": {"_id": "m3"}}, {"at": "yesterday"}, {"index": {"_id": "m4"}}, {"s": "x" * 32767},
                                                      {"index": {"_id": "m5"}}, {"n": 3000000000}, {"index": {"_id": "m6"}}, {"o": {"x": {"y": 1}}}])
    r.call("bulk_not_json", "POST", bulk, lines=[{"index": {"_id": "j1"}}, "{\"n\":1,}", {"index": {"_id": "j2"}}, doc])
    r.call("bulk_bad_action", "POST", bulk, lines=[{"index": {"_id": "j1"}}, doc, {"nope": {"_id": "j2"}}, doc])
    r.call("bulk_no_newline", "POST", bulk, text="{\"index\":{\"_id\":\"j1\"}}\n{\"n\":1}")
    r.call("bulk_empty", "POST", bulk, text="\n")
    r.call("bulk_long_id", "POST", bulk, lines=[{"index": {"_id": "i" * 513}}, doc, {"index": {"_id": "ok"}}, doc])
    r.call("bulk_empty_id", "POST", bulk, lines=[{"index": {"_id": ""}}, doc, {"index": {"_id": "ok"}}, doc])
    r.call("bulk_version_and_seq_no", "POST", bulk, lines=[{"index": {"_id": "v", "version": 9, "version_type": "external_gte", **condition}}, doc])
    r.call("bulk_version_negative", "POST", bulk, lines=[versioned("index", "v", -1), doc])
    r.call("bulk_routing", "POST", bulk, lines=[versioned("index", "r1", 5, routing="k"), doc])
    r.call("mget_routing", "POST", f"/rec_one{t}/_mget", {"docs": [{"_id": "r1", "routing": "k"}, {"_id": "r1"}]})
    r.call("bulk_pipeline_missing", "POST", bulk, lines=[{"index": {"_id": "p", "pipeline": "nope"}}, doc])
    r.call("bulk_index_missing_auto", "POST", f"/rec_auto{t}/_bulk", lines=[versioned("index", "a", 5), doc])
    # In an index of its own: it takes new fields; by one shard, so in this order.
    r.call(None, "PUT", "/rec_names", {"settings": {"index": {"number_of_shards": 1, "number_of_replicas": 0}}})
    lines = []
    for i, name in enumerate(FIELD_NAMES):
        lines += [{"index": {"_id": f"{i}"}}, {name: "v"}]
    r.call("bulk_field_names", "POST", f"/rec_names{t}/_bulk", lines=lines)
    r.call("bulk_alias_two", "POST", f"/rec_two{t}/_bulk", lines=[{"index": {"_id": "a"}}, doc])
    r.call("bulk_alias", "POST", f"/rec_alias{t}/_bulk", lines=[{"index": {"_id": "al"}}, doc])
    r.call("bulk_content_type", "POST", bulk, text="{\"index\":{\"_id\":\"j1\"}}\n{\"n\":1}\n", headers={"Content-Type": "text/plain"})
    # The size in the head alone is refused.
    r.call("bulk_too_large", "POST", bulk, text="", headers={"Content-Length": "209715200", "Expect": "100-continue"})
    r.call("bulk_gzip", "POST", bulk, text="{\"index\":{\"_id\":\"gz\"}}\n{\"n\":1}\n", packed=True)
    r.call("mget_gzip", "POST", f"/rec_one{t}/_mget", {"ids": ["a"] * 50}, headers={"Accept-Encoding": "gzip"})
    r.call("other_type", "POST", "/rec_one/other/_bulk", lines=[{"index": {"_id": "a"}}, doc])
    r.call("typed_path", "POST", "/rec_one/_doc/_bulk", lines=[versioned("index", "tp", 5), doc])
    r.call("typed_mget", "POST", "/rec_one/_doc/_mget", {"ids": ["tp"]})
    r.call("untyped_path", "POST", "/rec_one/_bulk", lines=[versioned("index", "tp", 6), doc])
    r.call("untyped_mget", "POST", "/rec_one/_mget", {"ids": ["tp"]})


def troubles(r, major):
    t = "/_doc" if major == 6 else ""
    doc = {"n": 1}
    line = [{"index": {"_id": "z", "version": 10, "version_type": "external_gte"}}, doc]
    r.call("auto_create_off", "PUT", "/_cluster/settings", {"transient": {"action.auto_create_index": "false"}})
    r.call("bulk_index_missing", "POST", f"/rec_nothing{t}/_bulk", lines=line)
    r.call("cluster_settings_auto_create_off", "GET", "/_cluster/settings?flat_settings=true")
    r.call(None, "PUT", "/_cluster/settings", {"transient": {"action.auto_create_index": None}})
    # Too much at once, by the breaker for what is in flight.
    r.call(None, "PUT", "/_cluster/settings", {"transient": {"network.breaker.inflight_requests.limit": "2kb"}})
    r.call("bulk_breaker", "POST", f"/rec_one{t}/_bulk", lines=line * 100)
    r.call(None, "PUT", "/_cluster/settings", {"transient": {"network.breaker.inflight_requests.limit": None}})
    for block in ("read_only_allow_delete", "write", "read_only"):
        r.call(f"block_{block}", "PUT", "/rec_one/_settings", {f"index.blocks.{block}": True})
        r.call(f"bulk_block_{block}", "POST", f"/rec_one{t}/_bulk", lines=line)
        r.call(f"bulk_delete_block_{block}", "POST", f"/rec_one{t}/_bulk", lines=[{"delete": {"_id": "z"}}])
        r.call(f"state_block_{block}", "GET", "/_cluster/state/blocks/rec_one")
        r.call(f"settings_block_{block}", "GET", "/rec_one/_settings?flat_settings=true&filter_path=*.settings.index.blocks*")
        r.call(None, "PUT", "/rec_one/_settings", {f"index.blocks.{block}": None})
    r.call("state_block_none", "GET", "/_cluster/state/blocks/rec_one")
    # A delete's version is lost when the shard's engine starts again, and the primary term has risen.
    r.call(None, "POST", f"/rec_one{t}/_bulk", lines=[{"index": {"_id": "gone", "version": 100, "version_type": "external_gte"}}, doc])
    r.call(None, "POST", f"/rec_one{t}/_bulk", lines=[{"delete": {"_id": "gone", "version": 200, "version_type": "external_gte"}}])
    r.call("close", "POST", "/rec_one/_close")
    r.call("bulk_closed", "POST", f"/rec_one{t}/_bulk", lines=line)
    r.call("mget_closed", "POST", f"/rec_one{t}/_mget", {"ids": ["a"]})
    r.call("index_get_closed", "GET", "/rec_one")
    r.call("state_terms_closed", "GET", "/_cluster/state/metadata/rec_one?filter_path=metadata.indices.*.primary_terms,metadata.indices.*.state")
    r.call("health_closed", "GET", "/_cluster/health/rec_one")
    r.call("open", "POST", "/rec_one/_open")
    r.call(None, "GET", "/_cluster/health/rec_one?wait_for_status=yellow&timeout=20s")
    r.call("state_terms_reopened", "GET", "/_cluster/state/metadata/rec_one?filter_path=metadata.indices.*.primary_terms")
    r.call("bulk_reopened_older", "POST", f"/rec_one{t}/_bulk", lines=[{"index": {"_id": "gone", "version": 150, "version_type": "external_gte"}}, doc])
    # A shard that is nowhere: no node has the attribute.
    lost = {"settings": {"index": {"number_of_shards": 1, "number_of_replicas": 0, "routing.allocation.require.rack": "none"}}}
    r.call("index_unassigned", "PUT", "/rec_lost?wait_for_active_shards=0", lost)
    r.call("bulk_unassigned", "POST", f"/rec_lost{t}/_bulk?timeout=1s", lines=line)
    r.call("mget_unassigned", "POST", f"/rec_lost{t}/_mget", {"ids": ["a"]})
    r.call("health_red", "GET", "/_cluster/health/rec_lost")


def record(host, port, server):
    """All answers of one server, {NAME: answer}; its indices rec_* are gone before and after."""
    r = Recorder(host, port)
    major = 7 if server.startswith("opensearch") else int(server.split("-")[1].split(".")[0])  # for the forms of paths and bodies
    indices_made = [f"/rec_{name}" for name in ("one", "other", "default", "no_source", "auto", "names", "lost")]
    for index in indices_made:
        r.call(None, "DELETE", index)
    time.sleep(0.5)
    identify(r)
    indices(r, major)
    writes(r, major)
    troubles(r, major)
    for index in indices_made:
        r.call(None, "DELETE", index)
    return r.answers


def main(instances):
    status = subprocess.run([SERVERS, "status"], capture_output=True, text=True, check=True).stdout
    for name in instances:
        _, server, address, state = next(line.split()[:4] for line in status.splitlines() if line.split()[0] == name)
        if not state.startswith("running"):
            sys.exit(f"{name} does not run")
        answers = record(*address.split(":"), server)
        path = ROOT / f"test/data/search/{server}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"server": server.split("-")[0], "version": server.split("-")[1], "answers": answers}, indent=1) + "\n")
        print(f"{path.relative_to(ROOT)}: {len(answers)} answers")


if __name__ == "__main__":
    main(sys.argv[1:])
