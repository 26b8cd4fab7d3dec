from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from devtools.postgres import Server, postgres
from devtools.postgres.home import fallback_folder, remove
from tests.devtools.dev import Project
from tests.devtools.processes import keepers, query
from tests.support import wait_until


@pytest.fixture(scope="module")
def shared_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a cluster that several tests start, stop and kill."""
    state = tmp_path_factory.mktemp("cluster") / """it's a "state\""""
    yield state
    remove(state)


@pytest.fixture
def state(shared_state: Path) -> Iterator[Path]:
    """The same folder. The cluster is created and not in use."""
    with postgres(shared_state, durable=False) as server:
        query(server.url(), "DROP TABLE IF EXISTS kept")
    yield shared_state
    wait_until(lambda: not keepers(shared_state))


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """The folder of a cluster that is not yet created."""
    state = tmp_path / """it's a "state\""""
    yield state
    wait_until(lambda: not keepers(state))
    remove(state)
    assert not fallback_folder(state).exists()


@pytest.fixture
def project(tmp_path: Path, cluster: Server, admin: Callable[[str], None]) -> Iterator[Project]:
    """A copy of the project. Its commands have an empty database in the tests' own server."""
    name = f"dev_{uuid4().hex}"
    admin(f"CREATE DATABASE {name} OWNER tasks")
    yield Project(tmp_path, DATABASE_URL=cluster.url(name))
    admin(f"DROP DATABASE {name} WITH (FORCE)")
