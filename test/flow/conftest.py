"""Fixtures of the flow tests: /usr/bin/python3 -m pytest test/flow; CASS2ES_BIN names the program."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import peer_cql  # noqa: E402
import peer_http  # noqa: E402
import program as program_module  # noqa: E402
from direct import Direct  # noqa: E402
from flow import PATIENT, Certs, Job, sunbird  # noqa: E402


@pytest.fixture
def program(tmp_path):
    p = program_module.Program(tmp_path)
    p.env.update(PATIENT)
    yield p
    p.stop_all()


@pytest.fixture
def api():
    with peer_http.SyncApi() as a:
        yield a


@pytest.fixture
def ring():
    with sunbird(peer_cql.Ring(), users=10) as r:
        yield r


@pytest.fixture
def job(program, ring, api):
    return Job(program, ring, api)


@pytest.fixture
def make_ring():
    """make_ring(**options) -> a Ring that is stopped at the end; start() is left to the test."""
    made = []

    def make(**options):
        made.append(peer_cql.Ring(**options))
        return made[-1]
    yield make
    for r in made:
        r.stop()


@pytest.fixture
def elastic():
    """Without an index; Direct starts it."""
    e = peer_http.Elastic()
    yield e
    e.stop()


@pytest.fixture
def direct(program, make_ring, elastic):
    return Direct(program, make_ring(page_rows=10), elastic)


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    return Certs(tmp_path_factory.mktemp("certs"))
