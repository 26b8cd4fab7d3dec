"""`make migration`, `make migrate` and `make alembic`: what they write, warn of and refuse."""

import re
import subprocess
from contextlib import closing

import psycopg2
import pytest

from app.migrations import owner_url
from app.settings import Settings, SettingsError
from devtools import migration
from devtools.migration import revision_id
from tests.devtools.dev import Project
from tests.support import run_sql

KEEPSAKES = "app/keepsakes.py"
KEEPSAKE = '''"""Keepsakes."""

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, Text
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
INDEXES = (
    'Index("keepsake_old", "name", unique=True), ',
    'Index("keepsake_new", "user_id", "name", postgresql_where="name IS NOT NULL"), ',
)
FIRST = '''def upgrade() -> None:
    """Apply."""
    drop_index(op.f("keepsake_old"), "keepsake", concurrently=True)
    create_index("origin_code", "origin", ["code"], concurrently=True)
    op.add_column("keepsake", sa.Column("color", sa.String(), nullable=True))


def downgrade() -> None:
    """Take back."""
    drop_index("origin_code", "origin", concurrently=True)
    create_index(op.f("keepsake_old"), "keepsake", ["name"], unique=True, concurrently=True)
    op.drop_column("keepsake", "color")'''
SECOND = '''def upgrade() -> None:
    """Apply."""
    create_index(
        "keepsake_new", "keepsake", ["user_id", "name"], postgresql_where="name IS NOT NULL", concurrently=True
    )


def downgrade() -> None:
    """Take back."""
    drop_index("keepsake_new", "keepsake", postgresql_where="name IS NOT NULL", concurrently=True)'''
LESS = '''def upgrade() -> None:
    """Apply."""
    drop_index(op.f("keepsake_old"), "keepsake", concurrently=True)
    op.drop_table("origin")
    op.drop_constraint(op.f("keepsake_name"), "keepsake", type_="check")
    op.drop_column("keepsake", "name")


def downgrade() -> None:
    """Take back."""
    op.add_column("keepsake", sa.Column("name", sa.VARCHAR(), autoincrement=False, nullable=False))
    op.create_check_constraint(op.f("keepsake_name"), "keepsake", "length(name::text) > 0")
    op.create_index(op.f("keepsake_old"), "keepsake", ["name"], unique=True)
    op.create_table(
        "origin",
        sa.Column("code", sa.VARCHAR(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("origin_pkey")),
    )
    op.create_index(op.f("origin_code"), "origin", ["code"], unique=False)'''
SHARE = 'origin has no user_id: nobody may read it unless its migration says share("origin").'
READ_IT = "Read it: Alembic does not see renames, policies, new values of an enum, or how to fill a column."
AGREE = "The models and the migrations agree, so there is nothing to write."
RECIPE = "docs/operate.md has the steps: “A column that every row must have”."
RENAME = "docs/operate.md has the steps: “Rename or drop a column”."
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
    assert (made.returncode, made.stderr) == (0, "")
    (file,) = set(project.versions.glob("*.py")) - before
    *said, written, read_it = made.stdout.splitlines()
    assert (written, read_it) == (f"app/migrations/versions/{file.name} is written.", READ_IT)
    return f"app/migrations/versions/{file.name}", said


def body(project: Project, revision: str) -> str:
    """What a migration does, there and back."""
    return (project.versions / f"{revision}.py").read_text().partition("depends_on = None\n")[2].strip()


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
    too_many = keepsakes.run("migrate", "--down", "99")
    assert line_of(too_many, 2) == "99 migrations cannot be taken back: 0 are applied."
    unknown = keepsakes.run("migrate", "--down", "nothing")
    assert line_of(unknown) == "The schema cannot be changed: Can't locate revision identified by 'nothing'"


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
        f"keepsake.title is NOT NULL and has no server_default, which fails where keepsake has rows. {RECIPE}",
        "keepsake: the check keepsake_name is dropped: none of its model has this name.",
        f"keepsake.name is dropped with its values. If title is its new name: {RENAME}",
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
    kept = 'If its class has a new name, keep the table\'s: `__tablename__ = "origin"`.'
    assert f"origin is dropped with all its rows. {kept}" in said
    assert 'land has an org_id: if its rows are the organization\'s, say protect("land", by="org_id").' in said


@pytest.mark.slow
def test_an_index_of_rows_is_concurrent_and_first(keepsakes: Project) -> None:
    """There and back. Where its table gets a column in the same run, it has a migration of its own, which is next."""
    keepsakes.replace(KEEPSAKES, "__table_args__ = (", f"__table_args__ = ({INDEXES[0]}")
    add(keepsakes, "add keepsakes")
    keepsakes.replace(KEEPSAKES, *INDEXES)
    keepsakes.replace(KEEPSAKES, "    code:", "    __table_args__ = (Index('origin_code', 'code'),)\n    code:")
    keepsakes.replace(KEEPSAKES, "    name: str", "    name: str\n    color: str | None")
    before = keepsakes.versions / f"{head(keepsakes)}.py"
    made = keepsakes.run("migration", "add color")
    number = int(before.name.partition("_")[0])
    first, second = f"{number + 1:04}_add_color", f"{number + 2:04}_index_keepsake"
    written = [f"app/migrations/versions/{name}.py is written." for name in (first, second)]
    assert (made.returncode, made.stderr, made.stdout.splitlines()) == (0, "", [*written, READ_IT])
    assert body(keepsakes, first) == FIRST
    assert body(keepsakes, second) == SECOND
    ruff = ["ruff", "check", "--select=I,F", "app/migrations/versions"]
    subprocess.run(ruff, cwd=keepsakes.folder, check=True, env=keepsakes.environment)
    assert keepsakes.run("migrate").returncode == 0
    assert keepsakes.run("alembic", "check").stdout == "No new upgrade operations detected.\n"
    assert keepsakes.run("migrate", "--down", "2").stdout == f"The database is at {before.stem}.\n"
    assert keepsakes.run("migrate").returncode == 0
    linted = keepsakes.run("lint")
    assert (linted.returncode, linted.stdout) == (0, "")


@pytest.mark.slow
def test_an_index_that_goes_with_a_column_or_a_table(keepsakes: Project) -> None:
    """The index of a column is dropped first, and comes back after the column; that of a table needs no step."""
    keepsakes.replace(KEEPSAKES, "__table_args__ = (", f"__table_args__ = ({INDEXES[0]}")
    keepsakes.replace(KEEPSAKES, "    code:", "    __table_args__ = (Index('origin_code', 'code'),)\n    code:")
    add(keepsakes, "add keepsakes")
    before = head(keepsakes)
    assert "drop_index" not in body(keepsakes, before)
    keepsakes.replace(KEEPSAKES, INDEXES[0], "")
    keepsakes.replace(KEEPSAKES, "    name: str\n", "")
    keepsakes.replace(KEEPSAKES, "class Origin(SQLModel, table=True)", "class Origin(SQLModel)")
    keepsakes.replace(KEEPSAKES, 'CheckConstraint("length(name) > 0", name="keepsake_name"),', "")
    add(keepsakes, "less")
    assert body(keepsakes, head(keepsakes)) == LESS
    assert keepsakes.run("migrate").returncode == 0
    assert keepsakes.run("migrate", "--down", "1").stdout == f"The database is at {before}.\n"


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
    assert line_of(keepsakes.run("migration", "more")).startswith(
        f"The schema cannot be changed: NameError: name 'nonsense' is not defined ({file}, line 25). Applied: "
    )


@pytest.mark.slow
def test_a_lock_that_stays_holds_nobody(project: Project) -> None:
    """Where the comment of what was applied must be written anew, a line says that it cannot be."""
    assert project.run("migrate").returncode == 0
    url = project.environment["DATABASE_URL"].replace("+psycopg2", "")
    run_sql(url, "COMMENT ON TABLE alembic_version IS NULL")
    with closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE alembic_version IN SHARE UPDATE EXCLUSIVE MODE")
        line = line_of(project.run("migrate"))
    assert line == "The database does not answer: canceling statement due to lock timeout"
    assert project.run("migrate").returncode == 0


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
