"""A column gets another name, release by release: docs/operate.md, "Rename or drop a column"."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import blocks
from tests.migrations.recipe import FIRST, MODELS, copy_with_examples, insert, verify_models
from tests.migrations.team import add_migration
from tests.postmaster import Postmaster
from tests.process import ROOT

ADD, FILL, *DROP = blocks("docs/operate.md", __file__)[0].replace("task", "example").splitlines()
PAGE = (ROOT / "docs/operate.md").read_text()
OLD, NEW = "    description: str | None = Column(sa_type=Text)\n", "    notes: str | None = Column(sa_type=Text)\n"
UNMAPPED = '__mapper_args__ = {"exclude_properties": ["description"]}'
SELECT = "from sqlmodel import select; from devtools.examples.models import Example; print(select(Example))"
DIFFERENT = "SELECT count(*) FROM example WHERE notes IS DISTINCT FROM description"


@pytest.mark.slow
def test_a_column_gets_another_name(postmaster: Postmaster, empty: str, tmp_path: Path) -> None:
    """After each release the models agree, what old code wrote is taken along, and `make check` finds nothing."""
    project = copy_with_examples(tmp_path, postmaster.url(empty))
    project.replace(MODELS, OLD, OLD + NEW)
    add_migration(project.folder, ADD, "release_4", FIRST)
    verify_models(project)
    insert(postmaster, empty, 100, 3)
    postmaster.ask("UPDATE example SET description = title, notes = 'before' WHERE id % 2 = 0", empty)
    add_migration(project.folder, FILL, "release_5", "release_4")
    verify_models(project)
    assert postmaster.ask(DIFFERENT, empty) == [(0,)]

    assert UNMAPPED in PAGE
    project.replace(MODELS, "    __tablename__", f"    {UNMAPPED}\n    __tablename__")
    verify_models(project)
    run = [sys.executable, "-c", SELECT]
    seen = subprocess.run(run, cwd=project.folder, capture_output=True, text=True, check=True).stdout
    assert ("notes" in seen, "description" in seen) == (True, False)

    project.replace(MODELS, f"    {UNMAPPED}\n", "")
    project.replace(MODELS, OLD, "")
    add_migration(project.folder, "\n".join(DROP), "release_7", "release_5")
    verify_models(project)
    linted = project.run("lint")
    assert (linted.returncode, linted.stdout) == (0, "")
