"""`cass2es init KEYSPACE.TABLE`: files for editing, the index made of them, and the next command."""
import json

import pytest
from flow import cass, says


@pytest.fixture
def items(direct):
    """Its index is not there yet."""
    for known in (direct.elastic.indices, direct.elastic.meta, direct.elastic.terms, direct.elastic.deleted):
        del known["items"]
    return direct


def init(direct, *flags, table="shop.items", json_=False):
    return direct.program.run("init", table, "--elastic-url", direct.elastic.url, *cass(direct.ring), *(["--json"] if json_ else []), *flags)


def sync(direct, *args):
    return direct.program.run(*args, "--elastic-url", direct.elastic.url, *cass(direct.ring), "--json")


def edit(direct, name, old, new):
    path = direct.program.cwd / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def made(direct):
    """Requests that changed something."""
    return [c.path for c in direct.elastic.calls if c.method not in ("GET", "HEAD")]


@pytest.mark.parametrize("mode", ["read_time", "sequence", "write_time"])
def test_the_index_has_the_versioning_of_the_mapping(items, mode):
    """init, edit, init --create, sync: each does what the one before says."""
    says(init(items), "wrote ./items.yaml", "wrote ./items.index.json", "next: edit them; cass2es init shop.items --create", code=0)
    edit(items, "items.yaml", "versioning: read_time", "versioning: " + mode)
    says(init(items, "--create"), "created index items", "next: cass2es sync --mapping ./items.yaml", code=0)
    assert items.elastic.meta["items"]["mappings"]["_meta"]["cass2es"] == {"versioning": mode, "source": "shop.items"}
    r = sync(items, "sync", "--mapping", "./items.yaml")
    assert r.code == 0 and json.loads(r.out)["indexed"] == 60, r


def test_at_once(items):
    says(init(items, "--create"), "created index items", code=0)
    assert items.elastic.meta["items"]["mappings"]["_meta"]["cass2es"]["versioning"] == "read_time"


def test_a_definition_of_another_versioning_than_the_mapping(items):
    says(init(items), code=0)
    edit(items, "items.index.json", '"source"', '"versioning": "none", "source"')
    says(init(items, "--create"), r'items.index.json: _meta.cass2es.versioning is not "read_time"', code=2)
    assert not made(items)


@pytest.mark.parametrize("create", [(), ("--create",)])
def test_the_mapping_beside_it_is_of_another_index(items, create):
    says(init(items), code=0)
    (items.program.cwd / "items.index.json").unlink()
    before = (items.program.cwd / "items.yaml").read_text()
    says(init(items, "--index", "other", *create), r"--index: \./items\.yaml is for the index items: leave --index out, change target\.index there, "
         "or give another folder with --out", code=2)
    assert not made(items) and not (items.program.cwd / "items.index.json").exists()
    assert (items.program.cwd / "items.yaml").read_text() == before


def test_the_index_is_that_of_the_mapping_beside_it(items):
    """--index was said when it was written."""
    says(init(items, "--index", "other"), code=0)
    says(init(items, "--create"), "created index other", code=0)
    assert sync(items, "sync", "--mapping", "./items.yaml").code == 0


def test_a_file_that_is_there_stops_it_before_anything_is_written(items):
    says(init(items), code=0)
    (items.program.cwd / "items.yaml").unlink()
    says(init(items), r"\./items\.index\.json: File exists; it may have been edited", code=2)
    assert not (items.program.cwd / "items.yaml").exists()


def test_json(items):
    r = init(items, json_=True)
    assert r.code == 0 and json.loads(r.out) == {
        "index": "items", "written": ["./items.yaml", "./items.index.json"], "created": False, "alias": None,
        "next": ["cass2es", "init", "shop.items", "--create"]}, r
    r = init(items, "--create", json_=True)
    assert r.code == 0 and json.loads(r.out) == {
        "index": "items", "written": [], "created": True, "alias": None, "next": ["cass2es", "sync", "--mapping", "./items.yaml"]}, r
    r = init(items, "--create", json_=True)
    assert r.code == 2 and not r.out and "there already" in r.err, r


def test_json_of_another_folder(items):
    (items.program.cwd / "out").mkdir()
    r = init(items, "--out", "out", "--index", "other", json_=True)
    assert json.loads(r.out)["next"] == ["cass2es", "init", "shop.items", "--out", "out", "--create"], r


def test_json_by_a_mapping(items):
    items.program.file("i.index.json", json.dumps({"mappings": {"properties": {}}}))
    mapping = items.program.file("m.yaml", "object: item\nsource: {table: items}\nversioning: sequence\ntarget: {index: items, definition: i.index.json}\n")
    args = ["init", "--mapping", mapping, "--elastic-url", items.elastic.url, "--json"]
    r = items.program.run(*args, "--create", "--out", "nowhere")
    assert r.code == 0 and json.loads(r.out) == {
        "index": "i", "written": [], "created": True, "alias": "items", "next": ["cass2es", "sync", "--mapping", str(mapping)]}, r
    (items.program.cwd / "out").mkdir()
    r = items.program.run(*args, "--out", "out", "--index", "i2")
    assert r.code == 0 and json.loads(r.out) == {
        "index": "i2", "written": ["out/i.index.json"], "created": False, "alias": "items",
        "next": ["cass2es", "init", "--mapping", str(mapping), "--out", "out", "--index", "i2", "--create"]}, r


UPPER = 'may not have upper-case letters'


def test_an_index_is_in_lower_case(items):
    """Elasticsearch's rule."""
    for create in ((), ("--create",)):
        says(init(items, "--index", "X_Y", *create), 'X_Y: the name of an index ' + UPPER, code=2)
    assert not made(items) and not list(items.program.cwd.glob("*.yaml"))
    items.ring.table("shop", "Things", "id text", "id")
    says(init(items, "--create", table="shop.Things"), "created index things", code=0)


@pytest.mark.parametrize("command", [("sync",), ("sync", "--dry-run"), ("check",)])
def test_a_missing_index_in_upper_case(items, command):
    r = items.program.run(command[0], "shop.items", "--index", "X_Y", *command[1:], "--elastic-url", items.elastic.url, *cass(items.ring))
    says(r, "there is no index X_Y.*" + UPPER, code=2)
    assert "--create" not in r.out + r.err


def test_a_profile_that_is_not_there(items):
    says(items.program.run("check", "--mapping", "sunbird/usr", *cass(items.ring)), code=2)
    r = items.program.run("sync", "--mapping", "sunbird/usr", "--elastic-url", items.elastic.url, *cass(items.ring))
    says(r, r"--mapping: there is no profile sunbird/usr in /\S*/profiles; did you mean sunbird/user\?", code=2)
    r = items.program.run("sync", "--mapping", "qqqqqqqqqq", "--elastic-url", items.elastic.url, *cass(items.ring))
    says(r, r"--mapping: there is no profile qqqqqqqqqq in /\S*/profiles; a file ends in \.yaml", code=2)
