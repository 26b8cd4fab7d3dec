"""Runs of `migrate` that cannot succeed: one line on standard error, exit code 1, and the next run completes.

The database of newer code is no such run: it stays as it is.
"""

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import SQLModel

import app.main  # noqa: F401  importing an entity registers its table
from tests.migrations.recipe import insert
from tests.migrations.team import LAST, add_migration
from tests.postmaster import Postmaster
from tests.process import run_command, run_process, start_command
from tests.support import slow, wait_until

ADD = 'op.add_column("example", sa.Column("{}", sa.Text))'
COUNT = """backfill("example", "title = 'done', version = {}", where="title <> 'done'"{})"""
REVISION = "SELECT version_num FROM alembic_version"
ADDED = "SELECT attname FROM pg_attribute WHERE attrelid = 'example'::regclass AND attname LIKE 'new_%'"
VERSIONS = "SELECT version, count(*) FROM example GROUP BY version"
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'migrate'"
BUSY = "DO 'BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN END'"
SLEEPS = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20)' AND state = 'active'"
ROWS = 1_200


@pytest.fixture
def database(postmaster: Postmaster) -> str:
    """A database with examples of several users."""
    database = postmaster.new_database()
    insert(postmaster, database, ROWS, users=3)
    return database


def verify(ended: subprocess.CompletedProcess[str]) -> None:
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr


def line_of(ended: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The only line of a run that failed."""
    assert (ended.returncode, ended.stderr.count("\n")) == (code, 1), ended.stderr
    return ended.stderr.strip()


@pytest.mark.slow
def test_what_failed_is_rolled_back(postmaster: Postmaster, database: str, copy: Path) -> None:
    """Of one migration alone: those before it stay, and with the mended file the next run completes."""
    url = postmaster.url(database)
    add_migration(copy, ADD.format("new_a"))
    add_migration(copy, ADD.format("new_b") + "\nop.execute('SELECT nothing()')", "last", "next")
    line = line_of(run_command(["migrate"], url, copy))
    assert line.startswith("The schema cannot be changed: function nothing() does not exist (last.py, line 16); ")
    assert line.endswith(". Applied: next. The database is at next. The next run goes on from there.")
    assert postmaster.ask(ADDED, database) == [("new_a",)]
    assert postmaster.ask(REVISION, database) == [("next",)]
    add_migration(copy, ADD.format("new_b"), "last", "next")
    verify(run_command(["migrate"], url, copy))
    assert postmaster.ask(ADDED, database) == [("new_a",), ("new_b",)]


@pytest.mark.parametrize("signum", [signal.SIGINT, slow(signal.SIGTERM)])
def test_what_was_done_before_a_signal_is_told(
    postmaster: Postmaster, database: str, copy: Path, signum: signal.Signals
) -> None:
    """In one line. What ran is rolled back, and the next run goes on from there."""
    url = postmaster.url(database)
    add_migration(copy, ADD.format("new_a"))
    add_migration(copy, ADD.format("new_b") + "\nop.execute('SELECT pg_sleep(20)')", "last", "next")
    migrating = start_command(["migrate"], url, copy)
    wait_until(lambda: postmaster.ask(SLEEPS), seconds=20)
    migrating.send_signal(signum)
    output, _ = migrating.communicate()
    told = "Applied: next. The database is at next. The next run goes on from there."
    assert (migrating.returncode, output) == (128 + signum, f"Ended by {signum.name}. {told}\n")
    assert postmaster.ask(REVISION, database) == [("next",)]
    postmaster.ask(f"SELECT pg_terminate_backend(pid) FROM ({SLEEPS}) AS ended")
    add_migration(copy, ADD.format("new_b"), "last", "next")
    verify(run_command(["migrate"], url, copy))
    assert postmaster.ask(ADDED, database) == [("new_a",), ("new_b",)]


@pytest.mark.slow
def test_what_was_taken_back_is_told(postmaster: Postmaster, copy: Path) -> None:
    """Where a later one cannot be taken back, the database stays in between."""
    url = postmaster.url(postmaster.new_database())
    add_migration(copy, "pass")
    add_migration(copy, "pass", "last", "next")
    verify(run_command(["migrate"], url, copy))
    file = copy / "app/migrations/versions/next.py"
    file.write_text(file.read_text().replace("def downgrade(): ...", "def downgrade(): op.drop_table('nothing')"))
    line = line_of(run_command(["migrate", LAST, "--down"], url, copy))
    assert line.startswith('The schema cannot be changed: table "nothing" does not exist (next.py, line 11); '), line
    assert line.endswith(". Taken back: last. The database is at next. The next run goes on from there."), line


@pytest.mark.slow
def test_a_backfill_that_failed_goes_on(postmaster: Postmaster, database: str, copy: Path) -> None:
    """A row that it cannot change stops it. The batches before stay, and no row of theirs is changed again."""
    url = postmaster.url(database)
    add_migration(copy, COUNT.format(f"version + 1 + 0 / (id - {ROWS})", ""))
    told = "The schema cannot be changed: division by zero (next.py, line 15)"
    assert line_of(run_command(["migrate"], url, copy)) == told
    assert {version for version, _ in postmaster.ask(VERSIONS, database)} == {1, 2}
    assert postmaster.ask(REVISION, database) == [(LAST,)]
    add_migration(copy, COUNT.format("version + 1", ""))
    verify(run_command(["migrate"], url, copy))
    assert postmaster.ask(VERSIONS, database) == [(2, ROWS)]


@pytest.fixture
def end_busy(postmaster: Postmaster, database: str) -> Iterator[Callable[[], object]]:
    """Let somebody's statement run until the function is called; a backfill that pauses for it may know."""

    def end() -> object:
        return postmaster.ask("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO %pg_sleep%'")

    postmaster.ask("GRANT pg_read_all_stats TO tasks")
    with ThreadPoolExecutor(1) as threads:
        threads.submit(postmaster.ask, BUSY, database)
        yield end
        end()
    postmaster.ask("REVOKE pg_read_all_stats FROM tasks")


@pytest.mark.slow
def test_a_backfill_is_waited_for(
    postmaster: Postmaster, database: str, copy: Path, end_busy: Callable[[], object]
) -> None:
    """Another run waits for it as long as MIGRATE_TIMEOUT_S, then says who it is; with more time both end well."""
    add_migration(copy, COUNT.format("version + 1", ", max_running=0"))
    url = postmaster.url(database)
    first = start_command(["migrate"], url, copy)
    wait_until(lambda: len(postmaster.ask(SESSIONS)) == 4)
    line = line_of(run_command(["migrate"], url, copy, migrate_timeout_s=1))
    told = re.search(r"no lock in 1 s \(MIGRATE_TIMEOUT_S\). It is held by another migration, pid (\d+),", line)
    assert told, line
    assert (int(told[1]),) in postmaster.ask(SESSIONS)
    second = start_command(["migrate"], url, copy)
    wait_until(lambda: len(postmaster.ask(SESSIONS)) == 5)
    end_busy()
    for run in (first, second):
        output, _ = run.communicate(timeout=30)
        assert run.returncode == 0, output
    assert postmaster.ask(VERSIONS, database) == [(2, ROWS)]


@pytest.mark.slow
def test_no_request_fails_for_a_lock_that_stays(postmaster: Postmaster, database: str, copy: Path) -> None:
    """A migration that never gets it tries again and again, and each request of the table is answered meanwhile."""
    url = postmaster.url(database)
    add_migration(copy, ADD.format("new_a"))
    with closing(postmaster.connect(database)) as other, run_process(url) as process, process.client() as alice:
        other.cursor().execute("BEGIN; SELECT count(*) FROM example")
        migrate = start_command(["migrate"], url, copy, migrate_timeout_s=8)
        answers = []
        while migrate.poll() is None:
            answers.append(alice.get("/api/examples"))
    output, _ = migrate.communicate()
    assert {answer.status_code for answer in answers} == {200}
    assert (migrate.returncode, "MIGRATE_TIMEOUT_S" in output) == (1, True), output
    assert postmaster.ask(ADDED, database) == []


@pytest.mark.slow
def test_a_login_that_may_create_nothing_is_told(postmaster: Postmaster) -> None:
    """With what it needs; once it has that, the next run completes."""
    postmaster.ask("CREATE DATABASE closed")
    url = postmaster.url("closed")
    told = "permission denied for schema public; the login needs CREATE on the schema and must own the tables"
    assert line_of(run_command(["migrate"], url)) == f"The schema cannot be changed: {told}"
    assert postmaster.ask("SELECT count(*) FROM pg_class WHERE relowner = 'tasks'::regrole", "closed") == [(0,)]
    postmaster.ask("GRANT CREATE ON SCHEMA public TO tasks", "closed")
    verify(run_command(["migrate"], url))
    postmaster.ask("DROP DATABASE closed")


def warning_of(ended: subprocess.CompletedProcess[str]) -> str:
    """The only line of a run that succeeded and did nothing."""
    assert (ended.returncode, ended.stderr, ended.stdout.count("\n")) == (0, "", 1), ended
    line = json.loads(ended.stdout)
    assert line["level"] == "WARNING"
    return str(line["message"])


def test_a_revision_of_newer_code_is_left(postmaster: Postmaster) -> None:
    """A rollback of the code gets on: its replicas serve such a schema. Nothing is changed. Another target fails.

    The revision was set by hand here, so it may as well be a branch's. The line says so.
    """
    database = postmaster.new_database()
    postmaster.ask("UPDATE alembic_version SET version_num = '9999_next'", database)
    kept = "the schema is newer than this code, at 9999_next: this code was written for {}. Nothing is changed.{}"
    unsure = " Or it is of another line: SQL that was run by hand does not say."
    url = postmaster.url(database)
    assert warning_of(run_command(["migrate"], url)) == kept.format(LAST, unsure)
    told = "the database is at 9999_next, which this code does not know. Newer code has migrated it."
    for target in ([LAST], ["head", "--down"]):
        assert line_of(run_command(["migrate", *target], url)) == f"The schema cannot be changed: {told}"
    assert postmaster.ask(REVISION, database) == [("9999_next",)]


def test_a_database_of_another_application_is_told(postmaster: Postmaster) -> None:
    """A wrong DATABASE_URL must not look like a rollback, after which the good replicas would be replaced."""
    database = postmaster.new_database()
    tables = ", ".join(f'"{name}"' for name in SQLModel.metadata.tables)
    postmaster.ask(f"DROP TABLE {tables}; COMMENT ON TABLE alembic_version IS NULL", database)
    postmaster.ask("UPDATE alembic_version SET version_num = '1f3a'", database)
    line = line_of(run_command(["migrate"], postmaster.url(database)))
    assert line == (
        "The database is at 1f3a, which this code does not know, and has none of its tables: it is of another"
        " application. Name another database."
    )
    assert postmaster.ask(REVISION, database) == [("1f3a",)]


@pytest.mark.slow
def test_newer_code_and_a_branch_are_told_apart(postmaster: Postmaster, copy: Path) -> None:
    """By what the database keeps of its migrations: a branch's never had one that this code has."""
    database = postmaster.new_database()
    url = postmaster.url(database)
    add_migration(copy, ADD.format("new_a"))
    verify(run_command(["migrate"], url, copy))
    (copy / "app/migrations/versions/next.py").unlink()
    told = warning_of(run_command(["migrate"], url, copy))
    assert told.endswith(f", at next: this code was written for {LAST}. Nothing is changed.")
    add_migration(copy, ADD.format("new_b"), "other")
    told = line_of(run_command(["migrate"], url, copy))
    assert told.startswith("The database is at next, which this code does not know, and never had other.py: it is of")
    assert postmaster.ask(REVISION, database) == [("next",)]
    assert postmaster.ask(ADDED, database) == [("new_a",)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (["migrate", "+1"], {}, "Name a revision: "),
        (["migrate"], {"migrate_timeout_s": 0}, "MIGRATE_TIMEOUT_S: "),
        (["migrate"], {"migrate_timeout_s": "soon"}, "MIGRATE_TIMEOUT_S: "),
    ],
)
def test_wrong_settings_are_told(
    postmaster: Postmaster, empty: str, arguments: list[str], variables: dict[str, Any], told: str
) -> None:
    """Exit code 2, and nothing was done."""
    line = line_of(run_command(arguments, postmaster.url(empty), **variables), 2)
    assert line.startswith(told), line
    assert postmaster.ask("SELECT to_regclass('alembic_version')", empty) == [(None,)]
