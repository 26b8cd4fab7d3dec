"""What the tests of the supply chain share."""

import shutil
from pathlib import Path

import pytest

from devtools.supply.lock import LOCKS
from tests.process import ROOT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the project's lock files and its pyproject.toml."""
    for name in ("pyproject.toml", *LOCKS):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path
