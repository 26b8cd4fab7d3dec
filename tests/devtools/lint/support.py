"""Migrations in a copy of the project, and what `python -m devtools lint` says of them."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from app.migrations import revisions
from tests.devtools.dev import Project

LINE = re.compile(r"app/migrations/versions/(\d+_)?(\w+)\.py:(\d+): ([\w-]+): (.+)")
BELOW = re.compile(r"^ *# below: (.+)$")
MIGRATION = '''"""A migration."""

import sqlalchemy as sa
from alembic import op

from app.migrations.backfill import backfill
from app.migrations.online import create_index, drop_index
from app.migrations.row_security import every_row, protect

revision = "{}"
down_revision = {!r}


def upgrade() -> None:
    {}


def downgrade() -> None:
    op.drop_column("board", "color")
'''


class Told(NamedTuple):
    """A finding: the words of its file's name, its line, rule and text."""

    name: str
    line: int
    rule: str
    text: str


def lint(project: Project) -> list[Told]:
    """Return what is found."""
    ended = project.run("lint")
    assert (ended.returncode, ended.stderr) == (1 if ended.stdout else 0, ""), ended.stderr
    found = [LINE.fullmatch(line) for line in ended.stdout.splitlines()]
    return [Told(line[2], int(line[3]), line[4], line[5]) for line in found if line]


def write(project: Project, name: str, text: str, before: str | tuple[str, ...]) -> str:
    """Add a migration that runs `text`. Return its revision."""
    revision = f"{len(list(project.versions.glob('*.py'))) + 1:04}_{name}"
    (project.versions / f"{revision}.py").write_text(MIGRATION.format(revision, before, text.strip()))
    return revision


def lint_all(project: Project, migrations: Mapping[str, str]) -> list[Told]:
    """Return what is found in all of the migrations at once, each after the one before."""
    before = revisions().head
    for name, text in migrations.items():
        before = write(project, name, text, before)
    return lint(project)


def wanted(text: str) -> list[tuple[int, str]]:
    """Return the line and the rule of each finding that the comments of a migration name for the line below them."""
    lines = MIGRATION.format("", None, text.strip()).splitlines()
    named = [(number, found[1]) for number, line in enumerate(lines, 2) if (found := BELOW.match(line))]
    return [(number, rule) for number, rules in named for rule in rules.split()]


def assert_found_as_commented(findings: list[Told], name: str, text: str) -> None:
    """In a migration, what its comments name is found, and nothing else."""
    assert [(told.line, told.rule) for told in findings if told.name == name] == wanted(text)


def assert_told(findings: list[Told], name: str, text: str) -> None:
    """In a migration there is one finding, and its words have the text."""
    (found,) = [told.text for told in findings if told.name == name]
    assert text in found
    assert not found.endswith("None")
