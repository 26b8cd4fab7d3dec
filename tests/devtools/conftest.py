from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.postgres import postgres
from devtools.postgres.home import outside, remove
from tests.devtools.processes import ask, eventually, keepers


@pytest.fixture(scope="module")
def shared_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state of a cluster which several tests start, stop and kill."""
    state = tmp_path_factory.mktemp("cluster") / """it's a "state\""""
    yield state
    remove(state)


@pytest.fixture
def state(shared_state: Path) -> Iterator[Path]:
    """The same, made and not in use."""
    with postgres(shared_state, durable=False) as server:
        ask(server.url(), "DROP TABLE IF EXISTS kept")
    yield shared_state
    eventually(lambda: not keepers(shared_state))


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """The state of a cluster still to be made."""
    state = tmp_path / """it's a "state\""""
    yield state
    eventually(lambda: not keepers(state))
    remove(state)
    assert not outside(state).exists()
