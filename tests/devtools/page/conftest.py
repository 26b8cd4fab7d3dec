"""An API with the development page around it, as `make dev` serves it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
from sqlalchemy import text

from app.auth import CurrentUser
from app.db import CurrentDatabase
from app.settings import Settings
from app.web.api import Api as Application
from devtools.page import create_with_page
from tests.support import SECRET, UNLIMITED, Api, run_api
from tests.web.team import api_router

logger = logging.getLogger("team")


def create(settings: Settings, draining: Event) -> Application:
    """Make the application with two routes of a team's: one asks again and again, one logs what it is told."""
    router = api_router()

    @router.get("/again")
    def ask_again(database: CurrentDatabase, user: CurrentUser, times: int = 7) -> int:
        return len([database.execute(user, text("SELECT title FROM example LIMIT 1"), {}) for _ in range(times)])

    @router.get("/say")
    def say(words: str) -> None:
        logger.warning("somebody said %s", words)
        raise RuntimeError(words)

    api = create_with_page(settings, draining)
    api.include_router(router)
    return api


@contextmanager
def serve_page(database_url: Any, **settings: Any) -> Iterator[Api]:
    """Serve a database with the given settings, and the page."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    root.setLevel(logging.INFO)
    own = {"database_url": database_url, "better_auth_secret": SECRET} | UNLIMITED
    try:
        with run_api(Settings(**(own | settings)), create) as api:
            yield api
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.fixture(scope="module")
def page(new_database: Callable[[], str]) -> Iterator[Api]:
    """One for all tests of a module."""
    with serve_page(new_database()) as api:
        yield api
