"""failures of a server's run: they know their object type, and are tried again with its mapping."""
from flow import rows_of, says
from serving import cassandra, elastic, locations, serve  # noqa: F401

REFUSED = {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "scripted"}}

def test_what_serve_could_not_do(serve, cassandra, elastic, program):  # noqa: F811
    locations(cassandra, "a", "b")
    elastic.item_script = lambda action, meta, source: REFUSED if meta["_id"] == "a" else None
    serve.start()
    serve.call("location", ["a", "b"])
    serve.call("batch", [{"courseId": ["nosuch"]}])
    serve.idle()
    serve.stop()
    run = rows_of(program.run("runs", "--json").out)[0]["id"]
    shown = rows_of(program.run("failures", "show", run, "--json").out)
    assert sorted((f["key"], f["object"], f["reason"]) for f in shown) == sorted([("a", "location", "mapper_parsing_exception"), ('{"courseId":["nosuch"]}', "batch", "missing")])
    elastic.item_script = None
    locations(cassandra, "a", name="new")
    c = rows_of(says(program.run("failures", "retry", run, "--json"), code=1).out)[0]
    assert (c["tried"], c["settled"], c["failed"]) == (2, 1, 1)
    assert elastic.sources("location")["a"]["name"] == "new a"
    assert [f["key"] for f in rows_of(program.run("failures", "show", run, "--json").out)] == ['{"courseId":["nosuch"]}']
