"""The server of the pages."""

from collections.abc import Iterator

import pytest

from tests.browser.frontend import Frontend
from tests.support import run_server


@pytest.fixture
def frontend() -> Iterator[Frontend]:
    with run_server(Frontend()) as server:
        yield server
