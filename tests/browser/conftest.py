"""The server of the pages."""

from collections.abc import Iterator
from threading import Thread

import pytest

from tests.browser.frontend import Frontend


@pytest.fixture
def frontend() -> Iterator[Frontend]:
    with Frontend() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
