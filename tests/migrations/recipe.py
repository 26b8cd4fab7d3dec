"""The recipe of docs/operate.md, in a copy of the project and about its examples: a copy may have no tasks."""

import re
from pathlib import Path

from devtools.examples import migration
from tests.copies import copy_project
from tests.devtools.dev import Project
from tests.docs.pages import blocks
from tests.migrations.team import LAST, VERSIONS
from tests.postmaster import Postmaster
from tests.process import ROOT

MODELS = "devtools/examples/models.py"
BLOCKS = [
    text.replace("app/tasks/models.py", MODELS).replace("task", "example")
    for text in blocks("docs/operate.md", str(ROOT / "tests/migrations/test_recipe.py"))
]
FIRST = migration.revision
DIFFS = [text for text in BLOCKS if text.startswith("--- ")]
STEPS = {found[1]: text for text in BLOCKS if (found := re.search('^revision = "(.*)"$', text, re.MULTILINE))}
DROP_DEFAULT = BLOCKS[-1]
ASSIGNMENTS = "due_at = created_at + interval '14 days'"
ROWS = """
    INSERT INTO example (user_id, title, completed, created_at)
    SELECT 'user-' || n % {users}, 'example ' || n, n % 3 = 0, now() - n * interval '1 minute'
    FROM generate_series(1, {rows}) AS n
"""


def copy_with_recipe(folder: Path, *, counting: bool = False) -> Path:
    """Copy the project, with the migration of the examples and those of the recipe as its last. Return the folder.

    If it is `counting`, each change of a row raises its version.
    """
    copy_project(folder)
    put_first(folder)
    for name, text in STEPS.items():
        counted = f"{ASSIGNMENTS}, version = version + 1" if counting else ASSIGNMENTS
        put(folder, name, text.replace(ASSIGNMENTS, counted))
    return folder


def copy_with_examples(folder: Path, url: str) -> Project:
    """Copy the project with its tools, its examples and their migration, for the database of `url`."""
    project = Project(folder, DATABASE_URL=url)
    project.replace("app/main.py", "from app.settings", "import devtools.examples.models\nfrom app.settings")
    put_first(folder)
    return project


def verify_models(project: Project) -> None:
    """Migrate, and let Alembic find no difference between the models and the database."""
    migrated = project.run("migrate")
    assert (migrated.returncode, migrated.stderr) == (0, ""), migrated.stderr
    assert project.run("alembic", "check").stdout == "No new upgrade operations detected.\n"


def put_first(folder: Path) -> None:
    """Let the migration of the examples come after those of the project."""
    put(folder, FIRST, Path(migration.__file__).read_text().replace("= None", f'= "{LAST}"', 1))


def put(folder: Path, name: str, text: str) -> None:
    (folder / VERSIONS / f"{name}.py").write_text(text)


def insert(postmaster: Postmaster, database: str, rows: int, users: int) -> None:
    """Insert examples of several users, as many rows as a table has that was filled over years."""
    postmaster.ask(ROWS.format(rows=rows, users=users), database)
    postmaster.ask("ANALYZE example", database)
