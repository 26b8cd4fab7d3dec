"""`python -m devtools lint`: what it passes, and what it says where it cannot look."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.migrations import revisions
from devtools.lint.squawk import SquawkFailed, find
from tests.devtools.dev import Project
from tests.devtools.lint.support import lint, write
from tests.docs.pages import blocks
from tests.process import ROOT

WITH_RECIPE = str(ROOT / "tests/migrations/test_recipe.py")


def test_the_projects_own_migrations_are_clean() -> None:
    """Exit code 0 without a word, and without any setting."""
    ended = subprocess.run(
        [sys.executable, "-m", "devtools", "lint"], cwd=ROOT, env={"PATH": os.defpath}, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_what_is_copied_from_is_clean(project: Project) -> None:
    """An entity's migration, and the recipe of docs/operate.md, each after the last one."""
    head = revisions().head
    example = (ROOT / "devtools/examples/migration.py").read_text()
    (project.versions / "0001_example.py").write_text(example.replace("= None", f'= "{head}"', 1))
    head = "0001_example"
    recipe = [text for text in blocks("docs/operate.md", WITH_RECIPE) if "\nrevision = " in text]
    assert len(recipe) == 3
    for number, text in enumerate(recipe):
        (project.versions / f"recipe_{number}.py").write_text(text.replace('"0001_task"', f'"{head}"'))
    assert lint(project) == []


@pytest.mark.slow
def test_two_lines_may_meet_again(project: Project) -> None:
    """Each finding is told once, and a table may be protected in the migration that follows both."""
    head = revisions().head
    first = write(project, "first", 'op.create_table("pen", sa.Column("user_id", sa.Text()))', head)
    second = write(project, "second", 'op.drop_table("board")', head)
    third = write(project, "third", 'op.drop_table("shelf")', second)
    write(project, "fourth", 'protect("pen")', (first, third))
    assert [(told.name, told.rule) for told in lint(project)] == [
        ("second", "ban-drop-table"),
        ("third", "ban-drop-table"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_module", "The migrations are broken: ModuleNotFoundError: "),
        ('revision = "x"\ndown_revision = None\n', "Only one migration can be the last: of "),
    ],
)
def test_broken_migrations_are_told_in_a_line(project: Project, text: str, told: str) -> None:
    """In the words of `migrate`, with exit code 1."""
    (project.versions / "broken.py").write_text(text)
    ended = project.run("lint")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1), ended.stderr
    assert ended.stderr.startswith(told)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (None, "squawk does not run: No such file or directory: "),
        ("#!/bin/sh\necho 'no such rule' >&2\nexit 2\n", "squawk failed: no such rule"),
        ("#!/bin/sh\nexit 3\n", "squawk failed: 3"),
    ],
)
def test_a_squawk_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None, told: str
) -> None:
    """In a line, so that no migration passes unseen."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    if program:
        (tmp_path / "squawk").write_text(program)
        (tmp_path / "squawk").chmod(0o755)
    with pytest.raises(SquawkFailed) as failed:
        list(find([]))
    assert str(failed.value).startswith(told)
