"""A backfill that makes room for others, where it is told to."""

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest

from devtools.postgres.cluster import give_to_server, start_program
from tests.migrations.team import add_migration
from tests.postmaster import Postmaster
from tests.process import Running, start_command
from tests.support import wait_until

ROWS = "INSERT INTO example (user_id, title, completed) SELECT 'alice', 'a', true FROM generate_series(1, 100)"
FILL = 'backfill("example", "description = title", where="description IS NULL", {limit})'
LEFT = "SELECT count(*) FROM example WHERE description IS NULL"
FEW_MIB = "CREATE TABLE written AS SELECT repeat('x', 100) FROM generate_series(1, 50000)"
REPLICA_PORT = 5433


@pytest.fixture
def database(postmaster: Postmaster) -> Iterator[str]:
    """The name of a database with rows, whose login may see what others do."""
    name = postmaster.new_database()
    postmaster.ask(ROWS, name)
    postmaster.ask("GRANT pg_read_all_stats TO tasks")
    yield name
    postmaster.ask("REVOKE pg_read_all_stats FROM tasks")


@contextmanager
def paused(copy: Path, postmaster: Postmaster, database: str, limit: str, words: str) -> Iterator[Running]:
    """Run a backfill with the limit, wait for the line that says why it pauses, and let it end after the block."""
    add_migration(copy, FILL.format(limit=limit))
    migrating = start_command(["migrate"], postmaster.url(database), copy)
    assert migrating.stdout
    line = migrating.stdout.readline()
    assert f"backfill of example: pauses, since {words}" in line, line
    assert postmaster.ask(LEFT, database) == [(100,)]
    yield migrating
    output, _ = migrating.communicate()
    assert migrating.returncode == 0, output
    assert postmaster.ask(LEFT, database) == [(0,)]


@pytest.mark.slow
def test_it_waits_until_fewer_statements_run(copy: Path, postmaster: Postmaster, database: str) -> None:
    """Those of others, in this database."""
    lock = "SELECT pg_advisory_lock(1)"
    with closing(postmaster.connect(database)) as other, ThreadPoolExecutor(1) as threads:
        other.cursor().execute(lock)
        running = threads.submit(postmaster.ask, lock, database)
        with paused(copy, postmaster, database, "max_running=0", "1 statements run"):
            other.close()
            running.result()


@pytest.fixture
def replica(postmaster: Postmaster) -> Iterator[str]:
    """The URL of a server that follows the first."""
    folder = Path(tempfile.mkdtemp(prefix="task-api-", dir="/var/tmp"))
    give_to_server(folder)
    address = [f"--host={postmaster.socket}", "--username=postgres"]
    options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--wal-method=stream"]
    data = folder / "data"
    assert not start_program(postmaster.programs / "pg_basebackup", *address, f"--pgdata={data}", *options).wait(60)
    given = (f"--port={REPLICA_PORT}", "--listen_addresses=", f"--unix_socket_directories={postmaster.socket}")
    server = start_program(postmaster.programs / "postgres", "-D", str(data), *given, "--max_connections=30")
    url = postmaster.url("postgres", "postgres").replace("+psycopg2", "").replace("5432", str(REPLICA_PORT))

    def answers() -> bool:
        with suppress(psycopg2.OperationalError), closing(psycopg2.connect(url)):
            return True
        return False

    wait_until(answers, seconds=30)
    yield url
    server.kill()
    server.wait()
    shutil.rmtree(folder)


@pytest.mark.slow
def test_it_waits_for_a_replica(copy: Path, postmaster: Postmaster, database: str, replica: str) -> None:
    """One that is further behind than it may be."""
    with closing(psycopg2.connect(replica)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SELECT pg_wal_replay_pause()")
        postmaster.ask(FEW_MIB, database)
        with paused(copy, postmaster, database, "max_lag_mib=2", "a replica is "):
            cursor.execute("SELECT pg_wal_replay_resume()")
