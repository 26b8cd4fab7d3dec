"""A database to migrate."""

from collections.abc import Iterator

import pytest

from tests.postmaster import Postmaster


@pytest.fixture
def empty(postmaster: Postmaster) -> Iterator[str]:
    """A database of the login `tasks`, in which nothing has happened yet."""
    postmaster.ask("CREATE DATABASE empty OWNER tasks")
    yield "empty"
    postmaster.ask("DROP DATABASE empty WITH (FORCE)")
