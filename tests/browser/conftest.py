"""The server of the pages."""

from collections.abc import Iterator

import pytest

from tests.browser.frontend import Frontend
from tests.support import answering


@pytest.fixture
def frontend() -> Iterator[Frontend]:
    with answering(Frontend()) as server:
        yield server
