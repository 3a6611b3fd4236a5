"""serve as a container has it: process 1, nobody without rights, a file system that takes nothing but the state folder."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
import servers
from flow import PATIENT
from program import BIN
from serving import PATHS, PROFILES, Serve, cassandra, elastic, location, locations, serve  # noqa: F401

NOBODY = 65534
# The folder is a mount of its own, so that it stays as it is when the one it lies on takes no more writes.
CONTAINER = r"""
mount --bind "$1" "$1"
awk '{ print $2 }' /proc/mounts | while read -r at; do
    [ "$at" = "$1" ] || mount -o remount,bind,ro "$at" 2>/dev/null || true
done
shift
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs "$@"
"""


def may_make_one():
    tried = subprocess.run(["unshare", "--mount", "--pid", "--fork", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                            "test", "-x", BIN, "-a", "-r", PROFILES / "sunbird/batch.yaml"], capture_output=True, check=False)
    return tried.returncode == 0


pytestmark = pytest.mark.skipif(not may_make_one(), reason="needs the right to make namespaces, and a tree that others may read")


@pytest.fixture
def folder():
    path = pathlib.Path(tempfile.mkdtemp(prefix="cass2es-container-"))  # pytest's own is for the owner alone
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


class Contained(Serve):
    """`.pid1` is the program's process here outside."""

    folder = None

    def begin(self, *flags, env=None, **more):
        command = [str(w) for w in (BIN, *self.args(*flags, **more), "--state-dir", self.folder / "state")]
        self.server = servers.Background(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", CONTAINER, "sh", self.folder / "state",
             *command], {**PATIENT, "PATH": os.environ["PATH"]}, "/", None)
        self.running.append(self.server)
        return self.server

    @property
    def pid1(self):
        children = pathlib.Path("/proc/%d/task/%d/children" % (self.server.pid, self.server.pid)).read_text().split()
        return int(children[0])


@pytest.fixture
def contained(program, cassandra, elastic, folder):  # noqa: F811
    s = Contained(program, cassandra, elastic)
    s.folder = folder
    (folder / "state").mkdir()
    os.chown(folder / "state", NOBODY, NOBODY)
    yield s
    s.end()


def status_of(pid):
    return dict(re.findall(r"^(\w+):\s+(.*)$", pathlib.Path("/proc/%d/status" % pid).read_text(), re.M))


def test_a_container(contained, cassandra, elastic, folder):  # noqa: F811
    locations(cassandra, "a", "b", "c")
    contained.start("--whole-table", "allow", "--filter-scan", "allow", mappings=("sunbird/batch", "sunbird/location"))
    s = status_of(contained.pid1)
    assert s["Uid"].split() == [str(NOBODY)] * 4 and int(s["CapEff"], 16) == 0 and s["NSpid"].split()[-1] == "1"
    with pytest.raises(OSError, match="Read-only file system"):
        open("/proc/%d/root%s/x" % (contained.pid1, folder), "w")
    assert contained.sync("location", ["a"])["esSyncResponse"] == {"a": True}
    name = contained.call("batch", []).headers["X-Cass2es-Run"]
    contained.until(lambda: contained.http("GET", PATHS[0] + "/runs/" + name).result["state"] == "done")
    os.kill(contained.pid1, signal.SIGHUP)
    contained.until(lambda: contained.metrics()["reloads_total"] == 1)
    # Killed and begun again with the same volume, it goes on; told to stop, it ends well.
    elastic.stop()
    kept = contained.call("location", ["b"]).headers["X-Cass2es-Run"]
    os.kill(contained.pid1, signal.SIGKILL)
    contained.server.wait(60)
    elastic.start()
    contained.start(mappings=("sunbird/batch", "sunbird/location"))
    contained.idle()
    assert contained.http("GET", PATHS[0] + "/runs/" + kept).result["counts"]["indexed"] == 1
    os.kill(contained.pid1, signal.SIGTERM)
    assert contained.server.wait(60).code == 0
    assert contained.docs("location") == {i: location(i) for i in "ab"}
    assert sorted(p.name for p in folder.iterdir()) == ["state"]


def test_a_state_folder_that_it_may_not_write(contained, folder):
    os.chown(folder / "state", 0, 0)
    begin = time.monotonic()
    text = contained.fails(code=4, mappings=("sunbird/batch", "sunbird/location"))
    assert str(folder / "state") in text and re.search("Permission denied|rights", text) and "--state-dir" in text, text
    assert time.monotonic() - begin < 19
