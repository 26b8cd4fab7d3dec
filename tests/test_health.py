"""Health: who may be restarted, who gets requests, and what asking costs."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Event

import httpx
import psycopg2
import pytest
from sqlalchemy import make_url

from app import migrations
from app.db import Database
from app.health import CACHE_S, Readiness
from app.migrations import Revisions
from devtools.postgres import Server
from tests.support import Api, run_sql, wait_until

HEALTHY, UNHEALTHY = (200, {"status": "healthy"}), (503, {"status": "unhealthy"})
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
THROW_OUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
PROBES = """
    SELECT coalesce(sum(calls), 0) FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid
    WHERE datname = current_database() AND query LIKE '%alembic_version%'
"""


def ask(client: httpx.Client, path: str) -> tuple[int, object]:
    response = client.get(path)
    return response.status_code, response.json()


def becomes(client: httpx.Client, wanted: object, path: str = "/health/ready", seconds: float = 10) -> bool:
    """Ask until the answer is the wanted one."""
    deadline = time.monotonic() + seconds
    while ask(client, path) != wanted:
        if time.monotonic() > deadline:
            return False
    return True


@contextmanager
def locked_revision(url: str) -> Iterator[Callable[[], int]]:
    """Keep everyone from reading the schema's revision; give a function that counts who is waiting to."""
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")

        def waiting() -> int:
            cursor.execute(WAITING)
            (count,) = cursor.fetchone() or (0,)
            return int(count)

        yield waiting


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_a_healthy_process_says_so_to_anyone(stranger: httpx.Client, path: str) -> None:
    """200 without a token, whatever a prober adds to the URL."""
    assert ask(stranger, path) == HEALTHY
    assert ask(stranger, f"{path}?probe=1") == HEALTHY


def test_a_schema_at_no_revision_is_unready(api: Api, database_url: str) -> None:
    """While nothing is migrated, and no longer."""
    with api.client(None) as client:
        assert ask(client, "/health/ready") == HEALTHY
        run_sql(database_url, "CREATE TABLE kept AS TABLE alembic_version; DELETE FROM alembic_version")
        assert becomes(client, UNHEALTHY)
        assert ask(client, "/health") == UNHEALTHY
        assert ask(client, "/health/live") == HEALTHY
        run_sql(database_url, "INSERT INTO alembic_version TABLE kept")
        assert becomes(client, HEALTHY)


def test_an_older_schema_is_unready(database_url: str) -> None:
    """A revision that this code knows to come before its own is not enough."""
    database = Database(database_url, 1, 2)
    behind = Readiness(database, Revisions("0002_next", frozenset({migrations.revisions().head})), Event())
    assert asyncio.run(behind()) is False
    database.close()


def test_a_missing_schema_is_unready(api: Api, database_url: str) -> None:
    """No table of revisions is not the right revision."""
    with api.client(None) as client:
        run_sql(database_url, "DROP TABLE alembic_version")
        assert becomes(client, UNHEALTHY)
        assert ask(client, "/health/live") == HEALTHY


def test_a_database_that_is_gone_is_unready(api: Api, database_url: str, admin: Callable[[str], None]) -> None:
    """Dropped under the process: unready, unhealthy, alive; the API answers 503 and says when to come back."""
    with api.client() as client:
        assert ask(client, "/health/ready") == HEALTHY
        admin(f"DROP DATABASE {make_url(database_url).database} WITH (FORCE)")
        assert becomes(client, UNHEALTHY)
        assert ask(client, "/health") == UNHEALTHY
        assert ask(client, "/health/live") == HEALTHY
        response = client.get("/api/examples")
        assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
        assert int(response.headers["retry-after"]) > 0


def test_broken_connections_heal(api: Api, database_url: str) -> None:
    """A database that threw everyone out is ready again as soon as it answers."""
    with api.client() as client:
        assert client.get("/api/examples").status_code == 200
        run_sql(database_url, THROW_OUT)
        assert becomes(client, HEALTHY)
        assert client.get("/api/examples").status_code == 200


@pytest.fixture
def probes(cluster: Server, database_url: str) -> Iterator[Callable[[], int]]:
    """Count the probes that the test's database has answered."""
    url = cluster.superuser_url(str(make_url(database_url).database)).replace("+psycopg2", "")
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

        def count() -> int:
            cursor.execute(PROBES)
            (calls,) = cursor.fetchone() or (0,)
            return int(calls)

        yield count


def test_many_questions_are_one_probe(api: Api, database_url: str, probes: Callable[[], int]) -> None:
    """While the database hangs, however many ask: one statement, an answer to each in time, and none left behind."""
    with api.client(None) as client:  # the probe connects before the clock of the questions runs
        assert ask(client, "/health/ready") == HEALTHY
        shared_until = time.monotonic() + CACHE_S
    with locked_revision(database_url) as waiting, ThreadPoolExecutor(21) as threads, api.client(None) as client:
        while time.monotonic() < shared_until:
            assert ask(client, "/health/live") == HEALTHY
        started = time.monotonic()
        answers = [threads.submit(ask, client, "/health/ready") for _ in range(20)]
        while not waiting() and time.monotonic() < started + 5:
            assert ask(client, "/health/live") == HEALTHY
        assert waiting() == 1
        alive = time.monotonic()
        assert ask(client, "/health/live") == HEALTHY
        assert time.monotonic() - alive < 0.5
        assert [answer.result() for answer in answers] == [UNHEALTHY] * 20
        assert time.monotonic() - started < 5
    with api.client(None) as client:
        assert becomes(client, HEALTHY)
    assert probes() < 5


def test_a_slow_database_is_ready_as_soon_as_it_has_answered(
    api: Api, database_url: str, probes: Callable[[], int]
) -> None:
    """Nobody waits for it that long, but its answer counts for the next who asks; it is not asked again meanwhile."""
    with api.client(None) as client:
        with locked_revision(database_url) as waiting:
            started = time.monotonic()
            assert ask(client, "/health/ready") == UNHEALTHY
            wait_until(waiting)
            before = probes()
        assert ask(client, "/health/ready") == HEALTHY
        seconds = time.monotonic() - started
    assert before + 1 <= probes() <= before + 1 + int(seconds)  # where the machine stood still, it is asked again


def test_a_schema_that_is_ahead_is_ready(api: Api, database_url: str, probes: Callable[[], int]) -> None:
    """A rolling deployment has migrated to a revision that this code does not know: it serves on meanwhile."""
    with api.client() as client:
        assert ask(client, "/health/ready") == HEALTHY
        run_sql(database_url, "UPDATE alembic_version SET version_num = '9999_next'")
        seen = probes()
        while probes() < seen + 2:
            assert ask(client, "/health/ready") == HEALTHY
        assert client.get("/api/examples").status_code == 200


def test_an_answer_is_shared_for_a_second(api: Api, probes: Callable[[], int]) -> None:
    """Hundreds of questions reach the database about once a second: nobody makes it work by asking."""
    started = time.monotonic()
    with api.client(None) as client:
        for _ in range(300):
            assert ask(client, "/health/ready") == HEALTHY
    assert 1 <= probes() <= time.monotonic() - started + 2
