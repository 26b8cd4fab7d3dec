"""The owner's backup: complete by one setting, and good to restore by the commands of the page."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.pages import blocks
from tests.migrations.support import SCHEMA
from tests.postmaster import Postmaster
from tests.process import run_process

ROWS = """
    INSERT INTO example (user_id, title, completed) VALUES ('alice', 'a', true), ('bob', 'b', false), ('bob', 'c', true)
"""
ALL = "SELECT example::text FROM example ORDER BY id"
POLICIES = """
    SELECT tablename, policyname, roles::text, cmd, qual, with_check FROM pg_policies ORDER BY tablename, policyname
"""
OWNERS = "SELECT relname, relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
ROLES = ("tasks", "tasks_api", "tasks_admin")
DUMP, MAKE_ROLES, MAKE_DATABASE, RESTORE = blocks("docs/operate.md", __file__)


@pytest.fixture
def database(postmaster: Postmaster) -> str:
    """The name of a migrated database with the rows of two users, and an extension that its owner may not change."""
    name = postmaster.new_database()
    postmaster.ask(ROWS, name)
    postmaster.ask("CREATE EXTENSION pg_stat_statements", name)
    return name


@contextmanager
def without_roles(postmaster: Postmaster) -> Iterator[None]:
    """Give the application's roles other names, so that the server has none of them until the block ends."""
    for role in ROLES:
        postmaster.ask(f"ALTER ROLE {role} RENAME TO before_{role}")
    try:
        yield
    finally:
        postmaster.ask("DROP DATABASE IF EXISTS restored")
        for role in ROLES:
            postmaster.ask(f"DROP ROLE IF EXISTS {role}")
            postmaster.ask(f"ALTER ROLE before_{role} RENAME TO {role}")


def run(postmaster: Postmaster, command: str, folder: Path, database: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the page with the owner's login and the server's own programs."""
    url, restored = (postmaster.url(name).replace("+psycopg2", "") for name in (database, "restored"))
    env = {"PATH": f"{postmaster.programs}:{os.defpath}", "DATABASE_URL": url, "RESTORED_URL": restored}
    return subprocess.run(["sh", "-c", command], env=env, cwd=folder, capture_output=True, text=True, check=False)


def run_as_superuser(postmaster: Postmaster, statements: str) -> None:
    """Run statements of the page with psql, as the superuser."""
    login = [f"--host={postmaster.socket}", "--username=postgres", "--dbname=postgres"]
    psql = [str(postmaster.programs / "psql"), *login, "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet"]
    subprocess.run(psql, input=statements, text=True, check=True)


def shape(postmaster: Postmaster, database: str) -> list[list[tuple[object, ...]]]:
    """What a restore must bring back: every row, the schema, the policies and the owners."""
    return [postmaster.ask(query, database) for query in (ALL, SCHEMA, POLICIES, OWNERS)]


def test_a_backup_of_the_owner_can_be_restored(postmaster: Postmaster, database: str, tmp_path: Path) -> None:
    """The commands of the page bring back every row, the schema, policies and owners. Each user is served own rows."""
    saved = run(postmaster, DUMP, tmp_path, database)
    assert (saved.returncode, saved.stderr) == (0, "")
    run_as_superuser(postmaster, MAKE_DATABASE)
    restored = run(postmaster, RESTORE, tmp_path, database)
    assert (restored.returncode, restored.stderr) == (0, "")
    assert shape(postmaster, "restored") == shape(postmaster, database)
    assert postmaster.ask("SELECT count(*) FROM example", "restored") == [(3,)]
    with run_process(postmaster.url("restored")) as process:
        for user, titles in (("alice", {"a"}), ("bob", {"b", "c"}), ("carol", set[str]())):
            with process.client(user) as client:
                assert {row["title"] for row in client.get("/api/examples").json()} == titles
    postmaster.ask("DROP DATABASE restored WITH (FORCE)")


def test_a_backup_can_be_restored_on_a_new_server(postmaster: Postmaster, database: str, tmp_path: Path) -> None:
    """The page's statements make the roles, which the dump does not hold."""
    assert run(postmaster, DUMP, tmp_path, database).returncode == 0
    kept = shape(postmaster, database)
    with without_roles(postmaster):
        run_as_superuser(postmaster, MAKE_ROLES + MAKE_DATABASE)
        restored = run(postmaster, RESTORE, tmp_path, database)
        assert (restored.returncode, restored.stderr) == (0, "")
        assert shape(postmaster, "restored") == kept


def test_half_of_the_command_saves_nothing(postmaster: Postmaster, database: str, tmp_path: Path) -> None:
    """Without `--enable-row-security` it fails; without the setting no row is in it, as the page warns."""
    refused = run(postmaster, 'pg_dump "$DATABASE_URL"', tmp_path, database)
    assert refused.returncode != 0
    assert "row-level security" in refused.stderr
    no_rows = run(postmaster, 'pg_dump --enable-row-security "$DATABASE_URL"', tmp_path, database)
    assert (no_rows.returncode, no_rows.stderr) == (0, "")
    assert "alice" not in no_rows.stdout
