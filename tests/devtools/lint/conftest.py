"""Copies of the project without a database."""

from pathlib import Path

import pytest

from tests.devtools.dev import Project
from tests.devtools.lint.support import Told, lint_all


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A copy of the project."""
    return Project(tmp_path)


@pytest.fixture(scope="module")
def findings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Told]:
    """What is found in all MIGRATIONS of the module at once."""
    return lint_all(Project(tmp_path_factory.mktemp("copy")), request.module.MIGRATIONS)
