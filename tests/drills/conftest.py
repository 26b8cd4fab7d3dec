import os
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import is_removed
from tests.drills import table
from tests.drills.judge import Seen
from tests.drills.servers import Servers, run_servers
from tests.process import needed
from tests.support import wait_until

PROGRAMS = ("prometheus", "prometheus-alertmanager", "redis-server", "jq", "pgrep")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write", action="store_true", help="write the table of docs/observe.md from what was seen")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers that all incidents share."""
    for program in PROGRAMS:
        needed(program)
    folder = tmp_path_factory.mktemp("drills")
    with run_servers(folder) as running:
        yield running
    wait_until(lambda: is_removed(folder / "postgres"))


@pytest.fixture(scope="session")
def servers_by_name(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Others, whose application knows its database by name."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root's own mounts and port 53")
    for program in PROGRAMS:
        needed(program)
    with run_servers(tmp_path_factory.mktemp("by-name"), by_name=True) as running:
        yield running


@pytest.fixture(scope="session")
def seen(pytestconfig: pytest.Config) -> Iterator[dict[str, Seen]]:
    """What was seen of each incident. The page's table is made of it at the end, if that is asked for."""
    all_seen: dict[str, Seen] = {}
    yield all_seen
    if pytestconfig.getoption("--write", default=False):
        table.write(all_seen)
