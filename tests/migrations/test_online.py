"""Indexes that are built and dropped while others read and write."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.migrations.locks import KEY
from tests.migrations.support import WAITS
from tests.migrations.team import LAST, add_migration
from tests.postmaster import Postmaster
from tests.process import run_command, start_command
from tests.support import wait_until

CREATE = 'create_index("example_title", "example", ["title"], unique=True, concurrently=True)'
DROP = 'drop_index("example_completed", "example", concurrently=True)'
FILL = """backfill("example", "description = title", where="description IS NULL")"""
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('example_title')"
ROWS = "INSERT INTO example (user_id, title, completed) VALUES ('alice', 'same', true), ('bob', 'same', true)"


@contextmanager
def transaction(postmaster: Postmaster, database: str) -> Iterator[Any]:
    """An open transaction of somebody else, who has written to the table."""
    with closing(postmaster.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; UPDATE example SET completed = completed")
        yield cursor


@pytest.mark.slow
@pytest.mark.parametrize("code", [CREATE, DROP])
def test_nobody_waits_behind_an_index(copy: Path, postmaster: Postmaster, code: str) -> None:
    """While it waits for an old transaction, others read and write; then it is done."""
    database = postmaster.new_database()
    postmaster.ask("INSERT INTO example (user_id, title, completed) VALUES ('alice', 'one', true)", database)
    add_migration(copy, code)
    with ThreadPoolExecutor(1) as threads:
        with transaction(postmaster, database):
            migrated = threads.submit(run_command, ["migrate"], postmaster.url(database), copy)
            wait_until(lambda: postmaster.ask(WAITS) == [(1,)], seconds=20)
            others = (
                "SET lock_timeout = '1s'; INSERT INTO example (user_id, title, completed) VALUES ('bob', 'b', true)"
            )
            postmaster.ask(others, database)
            assert postmaster.ask("SELECT count(*) FROM example", database) == [(2,)]
        ended = migrated.result()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert postmaster.ask(VALID, database) == ([(True,)] if code == CREATE else [])
    assert postmaster.ask("SELECT to_regclass('example_completed') IS NULL", database) == [(code == DROP,)]


@pytest.mark.slow
def test_an_index_does_not_wait_for_its_own_migration(copy: Path, postmaster: Postmaster) -> None:
    """Nothing that orders or watches migrations holds a snapshot then, which each index waits for."""
    database = postmaster.new_database()
    build = "create_index(f'a_{n}', 'example', ['title'], concurrently=True)"
    add_migration(copy, f"for n in range(300):\n    {build}")
    postmaster.ask(f"ALTER DATABASE {database} SET default_transaction_isolation = 'repeatable read'")
    migrated = run_command(["migrate"], postmaster.url(database), copy, migrate_timeout_s=2)
    assert (migrated.returncode, migrated.stderr) == (0, "")


@pytest.mark.slow
def test_an_index_does_not_wait_for_a_migration_that_waits(copy: Path, postmaster: Postmaster) -> None:
    """The transaction that asks for the lock of migrations is over before the next one asks."""
    database = postmaster.new_database()
    add_migration(copy, CREATE)
    with closing(postmaster.connect(database)) as first, first.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_lock({KEY})")
        migrating = start_command(["migrate"], postmaster.url(database), copy)
        rests = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'migrate' AND state = 'idle'"
        wait_until(lambda: postmaster.ask(rests) == [(1,)], seconds=20)
    output, _ = migrating.communicate()
    assert migrating.returncode == 0, output


@pytest.mark.slow
def test_what_failed_is_built_anew(copy: Path, postmaster: Postmaster) -> None:
    """Rows that are not unique leave an invalid index. Once they are, the next run drops it first and is complete."""
    database = postmaster.new_database()
    postmaster.ask(ROWS, database)
    add_migration(copy, CREATE)
    failed = run_command(["migrate"], postmaster.url(database), copy)
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1), failed.stderr
    assert 'could not create unique index "example_title" (next.py, line 15)' in failed.stderr
    assert postmaster.ask(VALID, database) == [(False,)]
    assert postmaster.ask("SELECT version_num FROM alembic_version", database) == [(LAST,)]
    postmaster.ask("DELETE FROM example WHERE user_id = 'bob'", database)
    migrated = run_command(["migrate"], postmaster.url(database), copy)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert postmaster.ask(VALID, database) == [(True,)]


@pytest.mark.slow
def test_an_index_that_is_there_is_kept(copy: Path, postmaster: Postmaster) -> None:
    """A run that was killed after it had built the index is not in vain."""
    database = postmaster.new_database()
    postmaster.ask("CREATE UNIQUE INDEX example_title ON example (title)", database)
    before = postmaster.ask("SELECT 'example_title'::regclass::oid", database)
    add_migration(copy, CREATE)
    assert run_command(["migrate"], postmaster.url(database), copy).returncode == 0
    assert postmaster.ask("SELECT 'example_title'::regclass::oid", database) == before


@pytest.mark.slow
def test_an_index_of_another_table_is_in_the_way(copy: Path, postmaster: Postmaster) -> None:
    """A name that is taken is told, as without `concurrently`: the index would never be built."""
    database = postmaster.new_database()
    add_migration(copy, CREATE.replace("example_title", "task_user_id"))
    failed = run_command(["migrate"], postmaster.url(database), copy)
    told = 'The schema cannot be changed: relation "task_user_id" already exists (next.py, line 15); '
    assert (failed.returncode, failed.stderr.count("\n"), failed.stderr.startswith(told)) == (1, 1, True)


@pytest.mark.slow
@pytest.mark.parametrize("there", ["(title)", "(title, completed)", "(title) WHERE completed", "(lower(title))"])
@pytest.mark.parametrize("unique", ["", "UNIQUE"])
def test_an_index_that_differs_is_refused(copy: Path, postmaster: Postmaster, there: str, unique: str) -> None:
    """One of the same name is kept only if it is what the migration would build."""
    database = postmaster.new_database()
    postmaster.ask(f"CREATE {unique} INDEX example_title ON example {there}", database)
    add_migration(copy, CREATE)
    ended = run_command(["migrate"], postmaster.url(database), copy)
    if (unique, there) == ("UNIQUE", "(title)"):
        assert (ended.returncode, ended.stderr) == (0, "")
    else:
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
        told = "next.py, line 15: example has another index of this name already: `CREATE "
        assert ended.stderr.startswith(told), ended.stderr


@pytest.mark.slow
def test_an_index_that_is_not_there_is_told(copy: Path, postmaster: Postmaster) -> None:
    """To drop it does nothing: an earlier run may have done so."""
    database = postmaster.new_database()
    add_migration(copy, 'drop_index("example_titel", "example", concurrently=True)')
    migrated = run_command(["migrate"], postmaster.url(database), copy)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    told = "drop_index: example has no index example_titel, so nothing is dropped. Its name is misspelled, or an"
    assert migrated.stdout.count(told) == 1, migrated.stdout


@pytest.mark.slow
@pytest.mark.parametrize("code", [CREATE, FILL, DROP], ids=["index", "backfill", "drop"])
def test_what_stands_before_is_named(copy: Path, postmaster: Postmaster, code: str) -> None:
    """With its line, and that of the step that must come first; nothing is changed."""
    database = postmaster.new_database()
    first = 'op.execute("SELECT 1")\nop.add_column(\n    "example", sa.Column("color", sa.Text)\n)'
    add_migration(copy, f"{first}\nop.execute('DELETE FROM example')\n{code}")
    failed = run_command(["migrate"], postmaster.url(database), copy)
    step, why = code.partition("(")[0], "because it commits by itself"
    told = f"next.py, line 20: {step}() must come before op.add_column() of line 16, {why}."
    assert (failed.returncode, failed.stderr) == (1, f"{told} Put it in a migration of its own, or first.\n")
    assert postmaster.ask("SELECT version_num FROM alembic_version", database) == [(LAST,)]


@pytest.mark.slow
@pytest.mark.parametrize("is_all", [False, True], ids=["one", "all"])
@pytest.mark.parametrize("code", [CREATE, FILL], ids=["index", "backfill"])
def test_a_lost_connection_is_told_as_such(copy: Path, postmaster: Postmaster, code: str, is_all: bool) -> None:  # noqa: FBT001
    """By what the server said. The next run is complete."""
    database = postmaster.new_database()
    postmaster.ask("INSERT INTO example (user_id, title, completed) VALUES ('alice', 'one', true)", database)
    add_migration(copy, code)
    with transaction(postmaster, database):
        migrating = start_command(["migrate"], postmaster.url(database), copy)
        wait_until(lambda: postmaster.ask(WAITS) == [(1,)], seconds=20)
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'migrate'"
        postmaster.ask(end + ("" if is_all else " AND wait_event_type = 'Lock'"))
        output, _ = migrating.communicate()
    lines = [line for line in output.splitlines() if '"level": "WARNING"' not in line]
    assert (migrating.returncode, len(lines)) == (1, 1), output
    assert lines[0].startswith("The schema cannot be changed: server closed the connection unexpectedly")
    assert run_command(["migrate"], postmaster.url(database), copy).returncode == 0


@pytest.mark.slow
def test_a_session_may_be_idle_beside_a_backfill(copy: Path, postmaster: Postmaster) -> None:
    """Where the login's idle sessions end soon, that of the migration stays."""
    database = postmaster.new_database()
    postmaster.ask(f"ALTER DATABASE {database} SET idle_session_timeout = '1s'")
    rows = "INSERT INTO example (user_id, title, completed) SELECT 'alice', 'a', true FROM generate_series(1, 500)"
    postmaster.ask(rows, database)
    add_migration(copy, FILL.replace("= title", "= pg_sleep(0.004)::text || title").replace('NULL"', 'NULL", batch=50'))
    migrated = run_command(["migrate"], postmaster.url(database), copy)
    assert (migrated.returncode, migrated.stderr) == (0, "")


@pytest.mark.slow
def test_an_index_waits_no_longer_than_it_may(copy: Path, postmaster: Postmaster) -> None:
    """A transaction that never ends is named in one line, and the next run is complete."""
    database = postmaster.new_database()
    postmaster.ask("INSERT INTO example (user_id, title, completed) VALUES ('alice', 'one', true)", database)
    add_migration(copy, CREATE)
    with transaction(postmaster, database) as cursor:
        pid = cursor.connection.info.backend_pid
        failed = run_command(["migrate"], postmaster.url(database), copy, migrate_timeout_s=1)
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1), failed.stderr
    assert f"no lock in 1 s (MIGRATE_TIMEOUT_S) (next.py, line 15). It is held by pid {pid}" in failed.stderr
    assert f"Waiting for a lock, 0 of 1 s: pid {pid}" in failed.stdout, failed.stdout
    assert run_command(["migrate"], postmaster.url(database), copy).returncode == 0
    assert postmaster.ask(VALID, database) == [(True,)]


@pytest.mark.slow
def test_a_killed_run_leaves_no_index_building(copy: Path, postmaster: Postmaster) -> None:
    """The server ends what nobody waits for any more, so that the next run need not wait for it."""
    database = postmaster.new_database()
    postmaster.ask("INSERT INTO example (user_id, title, completed) VALUES ('alice', 'one', true)", database)
    add_migration(copy, CREATE)
    with transaction(postmaster, database):
        killed = start_command(["migrate"], postmaster.url(database), copy)
        wait_until(lambda: postmaster.ask(WAITS) == [(1,)], seconds=20)
        killed.kill()
        killed.communicate()
        wait_until(lambda: postmaster.ask(WAITS) == [(0,)], seconds=10)
    assert run_command(["migrate"], postmaster.url(database), copy).returncode == 0
    assert postmaster.ask(VALID, database) == [(True,)]
