"""The demo is what a newcomer sees first, so it is a test, too."""
import subprocess

import pytest
import servers


@pytest.mark.long
def test_the_demo_ends_with_equal_counts():
    done = subprocess.run([str(servers.ROOT / "demo/run.sh")], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "DIFFERENT" not in done.stdout
    assert "demo-key" not in done.stdout + done.stderr
