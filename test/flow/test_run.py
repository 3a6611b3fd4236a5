"""What the runner of the tests says of a long run."""
import re

import run
import servers

COMPAT = re.search(r"^INSTANCES = \[(.*)\]", (servers.ROOT / "test/live/test_compat.py").read_text(), re.M)[1]
ALL = ["cassandra-5.0.4", "elasticsearch-6.8.23", "elasticsearch-7.10.2", "elasticsearch-7.17.28", "elasticsearch-8.19.0", "opensearch-2.19.1",
       "opensearch-3.1.0"]


def junit(folder, names, inside=""):
    path = folder / "live.xml"
    path.write_text("<testsuites><testsuite>" + "".join(f'<testcase name="{n}">{inside}</testcase>' for n in names) + "</testsuite></testsuites>")
    return path


def test_the_servers_that_cases_are_named_after(tmp_path):
    names = [f"test_a[{instance}]" for instance in re.findall(r'"(\w+)"', COMPAT)] + ["test_b", "test_c[wide-notes-sequence]"]
    assert run.servers_met(junit(tmp_path, names)) == ALL
    assert run.servers_met(junit(tmp_path, ["test_a[opensearch2-read_time]"])) == ["cassandra-5.0.4", "elasticsearch-7.17.28", "opensearch-2.19.1"]


def test_not_those_of_cases_that_were_left_out(tmp_path):
    assert run.servers_met(junit(tmp_path, ["test_a[opensearch2]"], "<skipped/>")) == ["cassandra-5.0.4", "elasticsearch-7.17.28"]


def test_the_head_of_the_result(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    tally = run.Tally()
    for met, said in ((ALL, ", ".join(ALL)), ([], "none")):
        tally.servers = met
        run.write_result(tally, 60)
        assert f"\nservers: {said}\n" in (tmp_path / "doc/results/test-long.txt").read_text()
