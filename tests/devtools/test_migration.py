"""`make migration`, `make migrate` and `make alembic`: what they write, warn of and refuse."""

import re
import subprocess

import pytest

from app.migrations import owner_url
from app.settings import Settings, SettingsError
from devtools import migration
from devtools.migration import revision_id
from tests.devtools.dev import Project
from tests.support import run_sql

KEEPSAKES = "app/keepsakes.py"
KEEPSAKE = '''"""Keepsakes."""

from sqlalchemy import BigInteger, CheckConstraint, Identity, Text
from sqlmodel import Field, SQLModel


class Keepsake(SQLModel, table=True):
    __table_args__ = (CheckConstraint("length(name) > 0", name="keepsake_name"),)

    id: int = Field(primary_key=True, sa_type=BigInteger, sa_column_args=[Identity(always=True)])
    user_id: str = Field(sa_type=Text)
    name: str


class Origin(SQLModel, table=True):
    code: str = Field(primary_key=True)
'''
WRITTEN = '''"""Add "keepsakes"."""

import sqlalchemy as sa
from alembic import op

from app.migrations.row_security import protect

revision = "{revision}"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "keepsake",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.CheckConstraint("length(name) > 0", name="keepsake_name"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table("origin", sa.Column("code", sa.String(), nullable=False), sa.PrimaryKeyConstraint("code"))
    protect("keepsake")


def downgrade() -> None:
    """Take back."""
    op.drop_table("origin")
    op.drop_table("keepsake")
'''.replace('"keepsakes"', "keepsakes")
SHARE = 'origin has no user_id: nobody may read it unless its migration says share("origin").'
READ_IT = "Read it: Alembic does not see renames, policies, new values of an enum, or how to fill a column."
AGREE = "The models and the migrations agree, so there is nothing to write."
RENAMED = 'op.alter_column("keepsake", "name", new_column_name="title")'
HOW = 'Say in a few words what it does, without quotes: make migration M="add color to board".'


@pytest.fixture
def keepsakes(project: Project) -> Project:
    """The copy, with models that no migration has yet."""
    project.save(KEEPSAKES, KEEPSAKE)
    project.replace("app/main.py", "from app.settings", "import app.keepsakes\nfrom app.settings")
    return project


def head(project: Project) -> str:
    return max(file.stem for file in project.versions.glob("[0-9]*.py"))


def add(project: Project, message: str) -> tuple[str, list[str]]:
    """Make a migration. Return the name of its file, and what was said."""
    before = set(project.versions.glob("*.py"))
    made = project.run("migration", message)
    (file,) = set(project.versions.glob("*.py")) - before
    assert (made.returncode, made.stderr) == (0, "")
    *said, written, read_it = made.stdout.splitlines()
    assert (written, read_it) == (f"app/migrations/versions/{file.name} is written.", READ_IT)
    return f"app/migrations/versions/{file.name}", said


def line_of(ended: "subprocess.CompletedProcess[str]", code: int = 1) -> str:
    """The only line of a command that failed."""
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (code, "", 1), ended.stderr
    return ended.stderr.strip()


def test_a_migration_is_what_the_models_say(keepsakes: Project) -> None:
    """With the next number, formatted, by types of PostgreSQL, and with `protect` for the table of users' rows."""
    last = head(keepsakes)
    revision = f"{int(last.partition('_')[0]) + 1:04}_add_keepsakes"
    name, said = add(keepsakes, "add keepsakes")
    assert name == f"app/migrations/versions/{revision}.py"
    assert said == [SHARE]
    assert (keepsakes.folder / name).read_text() == WRITTEN.format(revision=revision, head=last)


@pytest.mark.slow
def test_what_was_written_can_be_applied_and_taken_back(keepsakes: Project) -> None:
    """Then the models and the migrations agree, by our own words and by Alembic's."""
    first = head(keepsakes)
    name, _ = add(keepsakes, "add keepsakes")
    subprocess.run(["ruff", "check", "--select=I,F", name], cwd=keepsakes.folder, check=True, env=keepsakes.environment)
    again = keepsakes.run("migration", "again")
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{AGREE}\n", "")
    assert keepsakes.run("alembic", "check").stdout == "No new upgrade operations detected.\n"
    down = keepsakes.run("migrate", "--down", "1")
    assert (down.returncode, down.stdout) == (0, f"The database is at {first}.\n")
    assert keepsakes.run("alembic", "check").stdout == "FAILED: Target database is not up to date.\n"
    up = keepsakes.run("migrate")
    assert (up.returncode, up.stdout) == (0, f"The database is at {head(keepsakes)}.\n")
    base = keepsakes.run("migrate", "--down", "base")
    assert (base.returncode, base.stdout) == (0, "The database is at base, the empty schema.\n")
    assert len(list(keepsakes.versions.glob("*.py"))) == int(head(keepsakes).partition("_")[0])
    refused = {
        "99": "The schema cannot be changed: Relative revision -99 didn't produce 99 migrations",
        "nothing": "The schema cannot be changed: Can't locate revision identified by 'nothing'",
    }
    for down_to, told in refused.items():
        assert line_of(keepsakes.run("migrate", "--down", down_to)) == told


@pytest.mark.slow
def test_what_alembic_cannot_see_is_told(keepsakes: Project) -> None:
    """A rename, a column that rows have no value for, what is dropped, a check without a name, a new owner of rows."""
    add(keepsakes, "add keepsakes")
    keepsakes.replace(
        KEEPSAKES, "    name: str", "    title: str\n    color: str = Field(sa_column_kwargs={'server_default': 'red'})"
    )
    keepsakes.replace(KEEPSAKES, '"length(name) > 0", name="keepsake_name"', '"length(title) > 0"')
    keepsakes.replace(KEEPSAKES, "    code:", "    user_id: str | None\n    code:")
    keepsakes.replace(KEEPSAKES, "primary_key=True)\n", "primary_key=True, max_length=3)\n")
    name, said = add(keepsakes, "Rename à column")
    assert said == [
        "keepsake.title is NOT NULL and has no server_default, which fails where keepsake has rows.",
        "keepsake: the check keepsake_name is dropped: none of its model has this name.",
        f"keepsake.name is dropped with its values. If title is its new name: {RENAMED}.",
        'origin gets a user_id: its migration must say protect("origin").',
        "keepsake: a check of its model has no name, so Alembic cannot compare it.",
    ]
    assert (
        'op.add_column("keepsake", sa.Column("color", sa.String(), server_default="red", nullable=False))'
        in (keepsakes.folder / name).read_text()
    )
    keepsakes.replace(KEEPSAKES, "class Origin", "class Land")
    keepsakes.replace(KEEPSAKES, "    user_id: str | None\n", "    user_id: str | None\n    org_id: str\n")
    assert name.endswith("_rename_a_column.py")
    assert "sqlmodel" not in (keepsakes.folder / name).read_text()
    _, said = add(keepsakes, "rename a table")
    assert 'origin is dropped with all its rows. If land is its new name: op.rename_table("origin", "land").' in said
    assert 'land has an org_id: if its rows are the organization\'s, say protect("land", by="org_id").' in said


def test_alembic_has_no_other_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the embedded one serves, a DATABASE_MIGRATION_URL of another place is not looked at."""
    settings, seen = Settings(database_url="postgresql://tasks@/embedded", database_migration_url=None), []
    monkeypatch.chdir(migration.ROOT)
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("DATABASE_MIGRATION_URL", "postgresql://owner@elsewhere/production")
    monkeypatch.setattr("devtools.migration.CommandLine.main", lambda *_: seen.append(owner_url(Settings.load())))
    monkeypatch.setattr("devtools.history.remember", lambda _: None)
    migration.run_alembic(settings, ["upgrade", "head"])
    assert seen == [owner_url(settings)]


@pytest.mark.parametrize("message", ["", " ", '"', "a\nb", "a\\", "表", "x" * 101, "--", "_"])
def test_a_migration_needs_words(message: str) -> None:
    """They become the name of its file and the first line in it."""
    with pytest.raises(SettingsError, match=re.escape(HOW)):
        revision_id(message, 1)


@pytest.mark.parametrize(
    ("message", "revision"),
    [
        ("Add keepsakes.", "0001_add_keepsakes"),
        ("Rename à column", "0001_rename_a_column"),
        ("add keepsakes, and the origins where they stand", "0001_add_keepsakes_and_the"),
        ("x" * 40, "0001_" + "x" * 27),
        ("x" * 20 + " " + "y" * 6, "0001_" + "x" * 20 + "_" + "y" * 6),
    ],
)
def test_a_revision_is_made_of_the_words(message: str, revision: str) -> None:
    """As many as Alembic's table takes: 32 characters."""
    assert revision_id(message, 1) == revision


@pytest.mark.slow
def test_a_migration_without_words_is_told_in_a_line(keepsakes: Project) -> None:
    """Exit code 2, one line, and no file."""
    before = list(keepsakes.versions.iterdir())
    assert line_of(keepsakes.run("migration"), 2) == HOW
    keepsakes.replace(KEEPSAKES, "class Keepsake", "clas Keepsake")
    assert line_of(keepsakes.run("migration", "more")) == f"{KEEPSAKES}, line 7: SyntaxError: invalid syntax"
    assert list(keepsakes.versions.iterdir()) == before


@pytest.mark.slow
def test_a_long_message_is_cut_at_a_word(keepsakes: Project) -> None:
    """Alembic's table takes 32 characters."""
    name, _ = add(keepsakes, "Add keepsakes, and the origins where they stand.")
    assert name.endswith("_add_keepsakes_and_the.py")
    assert (keepsakes.folder / name).read_text().startswith('"""Add keepsakes, and the origins where they stand."""\n')
    assert keepsakes.run("migrate").returncode == 0


@pytest.mark.slow
def test_an_unclean_database_is_told_in_a_line(keepsakes: Project) -> None:
    """A table made by hand, a migration that was edited, one that no file has: exit code 1, and no file."""
    name, _ = add(keepsakes, "add keepsakes")
    assert keepsakes.run("migrate").returncode == 0
    files = list(keepsakes.versions.glob("*.py"))
    keepsakes.replace(name, 'protect("keepsake")', 'protect("keepsake")\n    op.execute("SELECT 1")')
    edited = f"{name}: edited after it was applied, so the database does not have the edit. `make migrate DOWN=1`"
    assert line_of(keepsakes.run("migration", "more")).startswith(edited)
    assert keepsakes.run("migrate").stderr.startswith(edited)
    keepsakes.replace(name, '\n    op.execute("SELECT 1")', "  # as it was")
    assert keepsakes.run("migrate").stderr == ""
    run_sql(keepsakes.database_url, "CREATE TABLE stray (id integer)")
    told = line_of(keepsakes.run("migration", "more"))
    assert told.startswith(
        "Neither the models nor the migrations know stray: drop what was made by hand, or `make reset`"
    )
    run_sql(keepsakes.database_url, "UPDATE alembic_version SET version_num = '0099_other'")
    unknown = "The database is at the migration 0099_other, which app/migrations/versions does not have: another branch"
    for arguments in (("migration", "more"), ("migrate",), ("dev",)):
        told = line_of(keepsakes.run(*arguments))
        assert told.startswith(unknown)
        assert "`make reset`" in told
    assert list(keepsakes.versions.glob("*.py")) == files


@pytest.mark.slow
def test_a_database_that_is_behind_is_migrated_first(keepsakes: Project) -> None:
    """So that the new migration has only what is new."""
    name, _ = add(keepsakes, "add keepsakes")
    keepsakes.replace(KEEPSAKES, "    name: str", "    name: str\n    color: str | None")
    _, said = add(keepsakes, "add color")
    assert said == []
    keepsakes.replace(name, 'protect("keepsake")', "nonsense()")
    assert keepsakes.run("migrate", "--down", "base").returncode == 0
    file = name.rpartition("/")[2]
    assert line_of(keepsakes.run("migration", "more")) == (
        f"The schema cannot be changed: NameError: name 'nonsense' is not defined ({file}, line 25)"
    )


@pytest.mark.slow
def test_alembic_itself_finds_the_application(keepsakes: Project) -> None:
    """With DATABASE_URL set, its own command works in the folder of the project."""
    assert keepsakes.run("migrate").returncode == 0
    ended = subprocess.run(
        ["alembic", "current"],
        cwd=keepsakes.folder,
        env=keepsakes.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == f"{head(keepsakes)} (head)\n"
