"""The definitions of Sunbird's indices that come with the profiles: every field as Sunbird has it (test/data/sunbird-fields.json, facts about
its indices, with what Elasticsearch takes for granted left out)."""
import json

import pytest
from program import ROOT

SUNBIRD = json.loads((ROOT / "test/data/sunbird-fields.json").read_text())


def plain(definition):
    d = {k: {n: plain(f) for n, f in v.items()} if k in ("fields", "properties") else v for k, v in definition.items()}
    if isinstance(d.get("copy_to"), str):
        d["copy_to"] = [d["copy_to"]]
    if d.get("search_analyzer") == d.get("analyzer"):
        d.pop("search_analyzer", None)
    return {"type": "object", **d} if "properties" in d else d


@pytest.mark.parametrize("index", SUNBIRD)
def test_every_field_is_as_sunbird_has_it(index):
    ours = json.loads((ROOT / f"profiles/sunbird/{index}.index.json").read_text())["mappings"]
    assert ours["dynamic"] in (False, "false")
    fields = {n: plain(f) for n, f in ours["properties"].items()}
    assert fields == {n: group["are"] for group in SUNBIRD[index] for n in group["fields"]}


def test_every_definition_is_compared():
    assert {p.name for p in (ROOT / "profiles").rglob("*.index.json")} == {f"{index}.index.json" for index in SUNBIRD}
