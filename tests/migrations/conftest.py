"""A database to migrate, and files to change."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.copies import copy_project
from tests.postmaster import Postmaster


@pytest.fixture
def empty(postmaster: Postmaster) -> Iterator[str]:
    """A database of the login `tasks`, in which nothing has happened yet."""
    postmaster.ask("CREATE DATABASE empty OWNER tasks")
    yield "empty"
    postmaster.ask("DROP DATABASE empty WITH (FORCE)")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the application in it, whose files may be changed."""
    return copy_project(tmp_path)
