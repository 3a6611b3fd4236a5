"""The guide against what it tells of: every word of a mapping file, the example, tables that are whole."""
import re

import pytest
import servers
import yaml

GUIDE = servers.ROOT / "doc/guide"
MAPPING = (GUIDE / "mapping.md").read_text()
FILE_C = (servers.ROOT / "src/mapping/file.c").read_text()


def words(table):
    found = re.search(rf"{table}\[\] = \{{(.*?)\}};", FILE_C, re.S)
    return re.findall(r'"(\w+)"', found[1])


@pytest.mark.parametrize("table,prefix", [("top_words", ""), ("source_words", "source."), ("target_words", "target.")])
def test_every_word_of_a_mapping_has_a_row(table, prefix):
    rows = set(re.findall(r"^\| `([\w.]+)` \|", MAPPING, re.M))
    wanted = {prefix + word for word in words(table)} - {"source", "target"}
    assert len(wanted) > 3 and wanted <= rows


def test_the_example_is_the_profile():
    example = re.search(r"\n\n((?:    .*\n)+)\nThat is `(profiles/\S+)`", MAPPING)
    text = re.sub(r"^ {4}", "", example[1], flags=re.M)
    assert yaml.safe_load(text) == yaml.safe_load((servers.ROOT / example[2]).read_text())


@pytest.mark.parametrize("page", sorted(p.name for p in GUIDE.glob("*.md")))
def test_tables_have_a_head(page):
    """An empty line between two rows makes text of those that follow."""
    lines = (GUIDE / page).read_text().splitlines()
    for n, line in enumerate(lines):
        if line.startswith("|") and not lines[n - 1].startswith("|"):
            assert re.fullmatch(r"\|([ :-]+\|)+", lines[n + 1]), f"{page}:{n + 1}"


def test_the_readme_names_every_profile():
    readme = (servers.ROOT / "README.md").read_text()
    profiles = {p.stem for p in (servers.ROOT / "profiles/sunbird").glob("*.yaml")} - {"renames"}
    assert len(profiles) == 5 and all(f"`sunbird/{name}`" in readme for name in profiles)
    assert "cass2es sync --mapping sunbird/user" in readme


def test_the_readme_names_every_version_of_a_server():
    said = (servers.ROOT / "README.md").read_text().partition("## Tested with")[2].partition("\n## ")[0]
    rows = [line.split() for line in (servers.ROOT / "tools/servers/table").read_text().splitlines()]
    table = {row[1].partition("-")[2] for row in rows if row and not row[0].startswith("#")}
    assert set(re.findall(r"[0-9]+\.[0-9]+\.[0-9]+", said)) == table
