"""What each test of several processes runs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.postmaster import Postmaster
from tests.replicas.service import Service, run_service


@pytest.fixture
def serve_all(postmaster: Postmaster, tmp_path: Path) -> Callable[..., AbstractContextManager[Service]]:
    """A function that runs the service with the given variables."""
    return partial(run_service, postmaster, tmp_path)
