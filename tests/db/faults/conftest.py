"""An API on a PostgreSQL of its own, which may be frozen and killed."""

from collections.abc import Iterator

import httpx
import pytest

from tests.db.faults.support import serving
from tests.postmaster import Postmaster


@pytest.fixture
def name(postmaster: Postmaster) -> str:
    return postmaster.new_database()


@pytest.fixture
def alice(postmaster: Postmaster, name: str) -> Iterator[httpx.Client]:
    with serving(postmaster.url(name)) as client:
        yield client
