from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.postgres import postgres
from devtools.postgres.home import fallback_folder, remove
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
