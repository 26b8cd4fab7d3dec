"""`make psql` and `make reset` on the embedded database, and what they say of another one."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from devtools.postgres.home import remove
from tests.devtools.dev import Project
from tests.devtools.processes import keepers
from tests.support import wait_until

BANNER, AGAIN = "make psql", "served again after"
TABLES = "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'"
KEPT = "CREATE TABLE kept AS SELECT 'a row of anybody' AS text"


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Project]:
    """A copy of the project that has no database but the embedded one."""
    yield Project(tmp_path / "a project")
    state = tmp_path / "a project" / ".dev" / "postgres"
    wait_until(lambda: not keepers(state))
    remove(state)


def ask(project: Project, statement: str) -> str:
    """Run one statement with `make psql`. Return what psql printed of it."""
    ended = project.run("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", statement)
    assert (ended.returncode, ended.stderr) == (0, "")
    head, all_rows, rows = ended.stdout.partition("The login postgres sees the rows of every user.\n")
    assert head.splitlines()[-1].startswith("postgresql://postgres@/tasks?host=")
    assert all_rows
    return rows


@pytest.mark.slow
def test_psql_sees_all_rows_and_reset_empties_the_database(embedded: Project) -> None:
    """Both work while `make dev` serves, which goes on, and while nothing runs."""
    assert ask(embedded, KEPT) == "SELECT 1\n"
    with embedded.dev() as dev:
        dev.wait_for(BANNER)
        assert "kept" in ask(embedded, TABLES)
        reset = embedded.run("reset")
        revision = max(file.stem for file in embedded.versions.glob("[0-9]*.py"))
        assert (reset.returncode, reset.stdout, reset.stderr) == (0, f"The database is empty, and at {revision}.\n", "")
        wait_until(lambda: dev.get("/health/ready").status_code == 200)
        tables = ask(embedded, TABLES)
        assert "alembic_version" in tables
        assert "kept" not in tables
    ask(embedded, KEPT)
    assert embedded.run("reset").returncode == 0
    assert "kept" not in ask(embedded, TABLES)


@pytest.mark.slow
def test_a_reset_that_fails_leaves_the_database(embedded: Project) -> None:
    """A migration that cannot be applied is told in a line, and the old database is as it was."""
    ask(embedded, KEPT)
    (last,) = sorted(embedded.versions.glob("[0-9]*.py"))[-1:]
    text = last.read_text().replace("def upgrade() -> None:\n", "def upgrade() -> None:\n    nonsense()\n")
    last.write_text(text)
    ended = embedded.run("reset")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1), ended.stderr
    assert f"NameError: name 'nonsense' is not defined ({last.name}, line " in ended.stderr
    assert ask(embedded, TABLES) == "kept\n"


@pytest.mark.slow
def test_a_database_of_ones_own_is_opened_and_not_reset(project: Project) -> None:
    """psql has the login of DATABASE_URL, and says who sees rows. Nothing but the embedded database is emptied."""
    assert project.run("migrate").returncode == 0
    ended = project.run("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", "SELECT current_user")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(
        "Unless the login is a superuser or has BYPASSRLS, row-level security hides all rows: `SET ROLE tasks_admin;`"
    )
    assert ended.stdout.splitlines()[-1] == make_url(project.database_url).username
    reset = project.run("reset")
    assert (reset.returncode, reset.stdout) == (2, "")
    assert reset.stderr == ("DATABASE_URL is set, and only the embedded database is reset: `make migrate DOWN=base`.\n")


@pytest.mark.slow
def test_psql_of_the_machine_is_not_needed(project: Project, tmp_path: Path) -> None:
    """PostgreSQL's own is used, which is said. A failing psql is a failing command."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to(shutil.which("sh") or "")
    ended = project.run("psql", "--no-psqlrc", "--command", "SELECT nothing", PATH=str(tmp_path / "bin"))
    assert ended.returncode == 1
    assert "psql is not installed here. PostgreSQL's own is used" in ended.stdout
    assert 'column "nothing" does not exist' in ended.stderr
