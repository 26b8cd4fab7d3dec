"""Two users of the shared API, new for each test."""

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.support import Api


@pytest.fixture
def alice(shared_api: Api) -> Iterator[httpx.Client]:
    with shared_api.client(f"alice-{uuid4()}") as client:
        yield client


@pytest.fixture
def bob(shared_api: Api) -> Iterator[httpx.Client]:
    with shared_api.client(f"bob-{uuid4()}") as client:
        yield client
