"""What a migration does while somebody else has the lock that it needs, and how long it keeps others waiting."""

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from app.migrations.holders import describe
from tests.migrations.support import WAITS
from tests.migrations.team import LAST, add_migration
from tests.postmaster import Postmaster
from tests.process import run_command, run_process, start_command
from tests.support import slow, wait_until

COLUMN = 'op.add_column("example", sa.Column("color", sa.Text))'
HAS_COLUMN = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'example'::regclass AND attname = 'color'"
SECRET_QUERY = "/* secret */ SELECT count(*) FROM example WHERE title IN ('a secret', E'it\\'s secret', $$secret$$)"


@contextmanager
def reader(postmaster: Postmaster, database: str, login: str = "tasks") -> Iterator[Any]:
    """A transaction that has read the table and does not end."""
    with closing(postmaster.connect(database, login)) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(SECRET_QUERY)
        yield cursor


@pytest.mark.slow
def test_it_tries_again_until_the_lock_is_free(copy: Path, postmaster: Postmaster) -> None:
    """The log says for whom it waits. Requests are answered in between, and the column is there in the end."""
    database = postmaster.new_database()
    url = postmaster.url(database)
    add_migration(copy, COLUMN)
    with run_process(url) as process, process.client() as alice:
        with reader(postmaster, database) as cursor:
            pid = cursor.connection.info.backend_pid
            migrating = start_command(["migrate"], url, copy)
            assert migrating.stdout
            line = migrating.stdout.readline()
            assert alice.get("/api/examples").status_code == 200
            cursor.execute("COMMIT")
        rest, _ = migrating.communicate()
    assert f"Waiting for a lock, 0 of 60 s (next.py, line 15): pid {pid}, user tasks, since 20" in line
    assert line.count("last statement `SELECT count(*) FROM example WHERE title IN (?,`") == 1, line
    assert f". End that transaction, or run SELECT pg_terminate_backend({pid})." in line
    assert "secret" not in line + rest
    assert (migrating.returncode, postmaster.ask(HAS_COLUMN, database)) == (0, [(1,)])


@pytest.mark.slow
def test_it_says_how_long_it_has_waited(copy: Path, postmaster: Postmaster) -> None:
    """Now and then, by the clock; and it ends when MIGRATE_TIMEOUT_S have passed, or a try later."""
    database = postmaster.new_database()
    add_migration(copy, COLUMN)
    started = monotonic()
    with reader(postmaster, database):
        failed = run_command(["migrate"], postmaster.url(database), copy, migrate_timeout_s=14)
    took = monotonic() - started
    assert failed.returncode == 1
    waited = [int(seconds) for seconds in re.findall(r"Waiting for a lock, (\d+) of 14 s", failed.stdout)]
    assert len(waited) == 2, failed.stdout
    assert (waited[0], 8 <= waited[1] <= 14) == (0, True)
    assert 14 <= took < 14 + 4  # it takes a second or two to start


@pytest.mark.slow
def test_a_request_never_waits_longer_than_a_short_try(copy: Path, postmaster: Postmaster) -> None:
    """It waits behind the migration, which gives up, and is answered long before its own deadline."""
    database = postmaster.new_database()
    url = postmaster.url(database)
    add_migration(copy, COLUMN)
    with run_process(url) as process, process.client() as alice, reader(postmaster, database):
        migrating = start_command(["migrate"], url, copy, migrate_timeout_s=1)
        wait_until(lambda: postmaster.ask(WAITS) == [(1,)], seconds=20)
        started = monotonic()
        assert alice.get("/api/examples").status_code == 200
        assert monotonic() - started < 1.5
        migrating.communicate()
    assert migrating.returncode == 1


@pytest.mark.parametrize("login", ["tasks", slow("postgres")])
def test_a_lock_that_stays_is_told_in_a_line(copy: Path, postmaster: Postmaster, login: str) -> None:
    """Whose it is; since when and what for, if this login may see it. Nothing of the migration is left."""
    database = postmaster.new_database()
    url = postmaster.url(database)
    add_migration(copy, f'op.create_table("half", sa.Column("id", sa.Integer))\n{COLUMN}')
    with reader(postmaster, database, login) as cursor:
        pid = cursor.connection.info.backend_pid
        failed = run_command(["migrate"], url, copy, migrate_timeout_s=1)
    told = f"no lock in 1 s (MIGRATE_TIMEOUT_S) (next.py, line 16). It is held by pid {pid}, user {login}"
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1), failed.stderr
    assert failed.stderr.startswith(f"The schema cannot be changed: {told}")
    assert ("since 20" if login == "tasks" else "GRANT pg_read_all_stats would show") in failed.stderr
    assert postmaster.ask("SELECT to_regclass('half')", database) == [(None,)]
    assert postmaster.ask("SELECT version_num FROM alembic_version", database) == [(LAST,)]
    assert run_command(["migrate"], url, copy).returncode == 0
    assert postmaster.ask(HAS_COLUMN, database) == [(1,)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        "SELECT 0x5ec7e7, 5_432, 0b1101, 1.5e+7, 5.4_3e2",
        "SELECT B'secret', X'5ec7e7', N'secret', 'a' 'secret'",
        "SELECT E'\\'secret'",
        "SELECT 'it\\'s secret'",  # where standard_conforming_strings is off
        'SELECT U&"a", $tag$secret$tag$',
        "/* a /* nested */ secret */ SELECT 'secret'",
        "SELECT 'cut off: secret",
        "SELECT set_config('role', 'tasks_api', true), set_config('app.user_id', 'a true); secret', true); SELECT 'x'",
        "SELECT set_config('role', 'tasks_api', true), set_config('app.user_id', 'cut off: true); secret",
    ],
)
def test_no_literal_of_a_statement_is_told(query: str) -> None:
    """However PostgreSQL lets it be written, and wherever the server cut the statement."""
    holder: Any = SimpleNamespace(pid=1, usename="tasks", since="", query=query)
    told = describe(holder).partition("statement")[2]
    assert "secret" not in told, told
    assert not re.search(r"[0-9]|5ec7e7", told), told


@pytest.mark.slow
def test_one_migration_at_a_time(copy: Path, postmaster: Postmaster) -> None:
    """Who comes second waits. A line names the first, if it does not end in time."""
    database = postmaster.new_database()
    url = postmaster.url(database)
    add_migration(copy, 'create_index("example_title", "example", ["title"], concurrently=True)')
    with ThreadPoolExecutor(1) as threads, reader(postmaster, database) as cursor:
        cursor.execute("UPDATE example SET completed = completed")
        first = threads.submit(run_command, ["migrate"], url, copy)
        holds = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
        wait_until(lambda: len(postmaster.ask(holds)) == 1, seconds=20)
        ((pid,),) = postmaster.ask(holds)
        second = run_command(["migrate"], url, copy, migrate_timeout_s=1)
        told = f"Waiting for a lock, 0 of 1 s: another migration, pid {pid}, user tasks, since 20"
        assert second.stdout.count(told) == 1, second.stdout
        cursor.execute("COMMIT")
        ended = first.result()
    assert (second.returncode, second.stderr.count("\n")) == (1, 1), second.stderr
    assert f"(MIGRATE_TIMEOUT_S). It is held by another migration, pid {pid}, user tasks, since 20" in second.stderr
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.slow
def test_who_has_lost_the_lock_changes_nothing(copy: Path, postmaster: Postmaster) -> None:
    """Another migration may be running by then. The next one is complete."""
    database = postmaster.new_database()
    url = postmaster.url(database)
    add_migration(copy, COLUMN)
    holds = "SELECT {} FROM pg_locks WHERE locktype = 'advisory'"
    with reader(postmaster, database) as cursor:
        migrating = start_command(["migrate"], url, copy)
        wait_until(lambda: postmaster.ask(holds.format("count(*)")) == [(1,)], seconds=20)
        assert postmaster.ask(holds.format("pg_terminate_backend(pid)")) == [(True,)]
        cursor.execute("COMMIT")
    output, _ = migrating.communicate()
    assert migrating.returncode == 1
    assert output.endswith("The schema cannot be changed: server closed the connection unexpectedly\n"), output
    assert postmaster.ask(HAS_COLUMN, database) == [(0,)]
    assert run_command(["migrate"], url, copy).returncode == 0


@pytest.mark.slow
def test_a_statement_that_takes_too_long_is_cancelled(copy: Path, postmaster: Postmaster) -> None:
    """The line says what to do; a migration gives its own statements more or less time."""
    database = postmaster.new_database()
    add_migration(copy, """op.execute("SET LOCAL statement_timeout = '50ms'")\nop.execute("SELECT pg_sleep(20)")""")
    failed = run_command(["migrate"], postmaster.url(database), copy)
    cancelled = "The schema cannot be changed: canceling statement due to statement timeout (next.py, line 16)"
    remedy = "let backfill() change rows, or give the statement more time: `SET LOCAL statement_timeout = '10min'`"
    assert (failed.returncode, failed.stderr) == (1, f"{cancelled}; {remedy}\n")


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_frozen_server_holds_nobody(copy: Path, postmaster: Postmaster, signum: signal.Signals) -> None:
    """Ctrl-C ends `migrate` at once, in the middle of a statement. The next one is complete."""
    database = postmaster.new_database()
    add_migration(copy, f'op.execute("SELECT pg_sleep(1)")\n{COLUMN}')
    runs = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(1)'"
    migrating = start_command(["migrate"], postmaster.url(database), copy)
    wait_until(lambda: postmaster.ask(runs) == [(1,)], seconds=20)
    with postmaster.freeze():
        migrating.send_signal(signum)
        output, _ = migrating.communicate(timeout=10)
    told = f"No migration was completed. The database is at {LAST}. The next run goes on from there.\n"
    assert (migrating.returncode, output) == (128 + signum, f"Ended by {signum.name}. {told}")
    assert run_command(["migrate"], postmaster.url(database), copy).returncode == 0
    assert postmaster.ask(HAS_COLUMN, database) == [(1,)]


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_given_up(postmaster: Postmaster) -> None:
    """In one line, where it takes no connection in ten seconds."""
    with postmaster.freeze():
        failed = run_command(["migrate"], postmaster.url("postgres"))
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert "timeout expired" in failed.stderr


@pytest.mark.slow
def test_each_transaction_has_its_limits(copy: Path, postmaster: Postmaster) -> None:
    """Also the one that comes after a step outside of it."""
    database = postmaster.new_database()
    limits = "current_setting('lock_timeout') || current_setting('statement_timeout')"
    code = f"""op.execute("INSERT INTO example (user_id, title, completed) SELECT 'alice', {limits}, true")"""
    with_every_row = f"with every_row():\n    {code}"
    add_migration(copy, f'create_index("example_title", "example", ["title"], concurrently=True)\n{with_every_row}')
    assert run_command(["migrate"], postmaster.url(database), copy).returncode == 0
    assert postmaster.ask("SELECT title FROM example", database) == [("250ms15s",)]
