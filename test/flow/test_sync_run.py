"""Sync_run.sh: Sunbird's command line, unchanged."""
import pathlib
import shutil

from flow import KEY, says
from program import BIN, ROOT


def folder(program):
    """What an operator unpacks: the script beside the program."""
    there = program.cwd / "unpacked"
    there.mkdir()
    shutil.copy(ROOT / "packaging" / "Sync_run.sh", there)
    (there / "cass2es").symlink_to(BIN)
    return there / "Sync_run.sh"


def seed(ring, api, **changed):
    """The command of the manual, every parameter given."""
    values = {"dry_run": "false", "sunbird_cassandra_server": ring.address, "sunbird_cassandra_port": ring.port,
              "sunbird_cassandra_username": '""', "sunbird_cassandra_password": '""', "sunbird_sync_api_endpoint": api.endpoint,
              "sunbird_sync_api_key": KEY, "sunbird_sync_block_size": "4", "sunbird_sync_sleep_time": "1",
              "sunbird_cassandra_table": "user", "sunbird_sync_object_type": "user", "sunbird_sync_id_file": ""}
    values.update(changed)
    return [x for k, v in values.items() for x in ("--context_param", "%s=%s" % (k, v))]


def run(program, script, args):
    program.env["XDG_STATE_HOME"] = str(program.state)
    return program.finish(program.start(command=[str(script), *args]))


def test_the_command_of_the_manual(program, ring, api):
    says(run(program, folder(program), seed(ring, api)), code=0)
    assert sorted(api.ids()) == ["user-%04d" % i for i in range(10)]
    assert list(program.cwd.glob("SyncSuccess_*.log"))


def test_the_manuals_command_with_an_id_file(program, ring, api):
    program.file("ids.csv", "a\nb\n")
    says(run(program, folder(program), seed(ring, api, sunbird_sync_id_file="ids.csv")), code=0)
    assert api.ids() == ["a", "b"]


def test_dry_run_and_then_its_ids(program, ring, api):
    script = folder(program)
    args = [a for a in seed(ring, api)]
    del args[:2]  # without dry_run, which is true then
    says(run(program, script, args), "dry run", code=0)
    assert not api.calls
    says(run(program, script, seed(ring, api, sunbird_sync_id_file="syncIds.csv")), code=0)
    assert sorted(api.ids()) == ["user-%04d" % i for i in range(10)]


def test_exit_codes_pass_through(program, ring, api):
    says(run(program, folder(program), seed(ring, api, sunbird_sync_object_type="")), "sunbird_sync_object_type", code=2)


def test_called_through_a_link_elsewhere(program, ring, api):
    link = program.cwd / "elsewhere.sh"
    link.symlink_to(folder(program))
    says(run(program, link, seed(ring, api)), code=0)
    assert len(api.ids()) == 10 and pathlib.Path(link).is_symlink()


def test_state_folder_by_default_is_under_xdg(program, ring, api):
    says(run(program, folder(program), seed(ring, api)), code=0)
    assert (program.state / "cass2es" / "journal.db").exists()


def test_state_folder_of_systemd_wins(program, ring, api):
    program.env["STATE_DIRECTORY"] = str(program.cwd / "systemd")
    says(run(program, folder(program), seed(ring, api)), code=0)
    assert (program.cwd / "systemd" / "journal.db").exists()
