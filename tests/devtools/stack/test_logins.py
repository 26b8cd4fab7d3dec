"""The logins of the stack's database, made by the file that makes them there, on a real PostgreSQL."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from devtools.postgres import Server, postgres

ROOT = Path(__file__).parents[3]
PASSWORD = "it's 100% :odd @/ $"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A cluster of its own, since what a login may do is the whole cluster's."""
    with postgres(tmp_path_factory.mktemp("stack"), durable=False) as server:
        yield server


def make_logins(server: Server, folder: Path, slow_query_ms: int) -> None:
    """Run the file as `docker compose up` does at each start."""
    psql = shutil.which("psql") or pytest.fail("psql is missing (Debian package postgresql-client)")
    for name in ("observability/postgres/logins.sql", "devtools/postgres/cluster.sql"):
        shutil.copy(ROOT / name, folder)
    variables = {"SLOW_QUERY_MS": f"{slow_query_ms}", "DATABASE_PASSWORD": PASSWORD, "EXPORTER_PASSWORD": PASSWORD}
    target = {"PGHOST": str(server.socket), "PGPORT": "5432", "PGUSER": "postgres"}
    command = (psql, "-Xq", "-vON_ERROR_STOP=1", "-f", folder / "logins.sql")
    subprocess.run(command, env=os.environ | target | variables, check=True, capture_output=True)


def row(server: Server, login: str, statement: str) -> Any:
    connected = psycopg2.connect(host=str(server.socket), port=5432, user=login, dbname="tasks")
    with closing(connected) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()


def test_the_applications_login_is_no_superuser(server: Server, tmp_path: Path) -> None:
    """It may create roles, as its migration must, and is bound by row-level security."""
    make_logins(server, tmp_path, 100)
    traits = "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = current_user"
    assert row(server, "tasks", traits) == (False, False, True)
    assert row(server, "tasks", "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'tasks'") == ("tasks",)


def test_a_changed_threshold_counts_from_the_next_start(server: Server, tmp_path: Path) -> None:
    """The plan of a slow statement is asked for by SLOW_QUERY_MS, also where the database is an old one."""
    for milliseconds in (100, 42):
        make_logins(server, tmp_path, milliseconds)
        shown = row(server, "tasks", "SHOW auto_explain.log_min_duration")
        assert shown == (f"{milliseconds}ms",)


def test_the_exporter_reads_statistics_and_no_more(server: Server, tmp_path: Path) -> None:
    """It sees everybody's statements, and may make no roles."""
    make_logins(server, tmp_path, 100)
    assert row(server, "exporter", "SELECT count(*) > 0 FROM pg_stat_statements WHERE query LIKE '%CREATE ROLE%'") == (
        True,
    )
    assert row(server, "exporter", "SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user") == (
        False,
        False,
    )
