import json
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Barrier
from typing import Any

import psycopg2
import pytest
from psycopg2.errorcodes import DEADLOCK_DETECTED
from sqlalchemy import NullPool, create_engine

from devtools.postgres import Server, postgres
from devtools.postgres.home import remove
from tests.devtools.processes import query
from tests.support import run_sql
from tests.telemetry.scrapes import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("server")
    with postgres(state, durable=False, slow_query_ms=5) as server:
        yield server
    remove(state)


def test_only_a_private_socket_is_listened_on(server: Server) -> None:
    """There is no TCP port, and other accounts cannot enter the folder of the socket."""
    assert query(server.superuser_url(), "SELECT current_setting('listen_addresses')") == ("",)
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700


def test_login_owns_its_database_and_is_no_superuser(server: Server) -> None:
    """Row-level security binds the application's login; it may create the role that the migration needs."""
    attributes = "SELECT rolcanlogin, rolcreaterole, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
    assert query(server.url(), attributes) == (True, True, False, False)
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
    assert query(server.url(), owner) == ("tasks",)


def test_slow_statement_of_the_login_sends_its_plan(server: Server) -> None:
    """auto_explain sends the executed plan as a notice of the same statement."""
    with login(server) as cursor:
        plan = plan_of_a_slow_statement(cursor)
    assert plan["Query Identifier"]
    assert plan["Plan"]["Actual Rows"] == 1
    assert "Shared Hit Blocks" in plan["Plan"]
    assert "Actual Total Time" not in plan["Plan"]


def test_a_running_server_takes_the_times_of_steps_when_it_is_told(server: Server) -> None:
    """So a connection that is open has them, and the next start is without them again."""
    with login(server) as cursor:
        run_sql(server.superuser_url(), "ALTER SYSTEM SET auto_explain.log_timing = on")
        try:
            run_sql(server.superuser_url(), "SELECT pg_reload_conf()")
            until(lambda: plan_of_a_slow_statement(cursor)["Plan"], lambda plan: "Actual Total Time" in plan)
        finally:
            run_sql(server.superuser_url(), "ALTER SYSTEM SET auto_explain.log_timing = off")
            run_sql(server.superuser_url(), "SELECT pg_reload_conf()")


@contextmanager
def login(server: Server) -> Iterator[Any]:
    """Give a cursor of the application's login."""
    with closing(create_engine(server.url(), poolclass=NullPool).raw_connection()) as connection:
        yield connection.cursor()


def plan_of_a_slow_statement(cursor: Any) -> Any:
    cursor.execute("SELECT 1")
    cursor.execute("SELECT pg_sleep(0.02)")
    (notice,) = cursor.connection.notices
    cursor.connection.notices.clear()
    return json.loads(notice[notice.index("{") :])


def test_a_deadlock_of_the_login_is_called_one(server: Server) -> None:
    """It is found before a request's lock_timeout, here of 0.95 s, would end it as a wait for a lock."""
    both = Barrier(2, timeout=10)

    def lock(first: int, second: int) -> str | None:
        with closing(psycopg2.connect(server.url().replace("+psycopg2", ""))) as connection:
            cursor = connection.cursor()
            cursor.execute("SET lock_timeout = 950")
            cursor.execute(f"SELECT pg_advisory_xact_lock({first})")
            both.wait()
            try:
                cursor.execute(f"SELECT pg_advisory_xact_lock({second})")
            except psycopg2.Error as error:
                return error.pgcode
            return None

    with ThreadPoolExecutor(2) as threads:
        assert set(threads.map(lock, (1, 2), (2, 1))) == {None, DEADLOCK_DETECTED}


@pytest.mark.parametrize("database", ["tasks", "made_later"])
def test_login_reads_statement_statistics(server: Server, database: str) -> None:
    """The login can read all logins' statements in pg_stat_statements, in its database and in every later one."""
    if database != "tasks":
        query(server.superuser_url(), f"CREATE DATABASE {database}")
    query(server.superuser_url(), "SELECT 'as the superuser'")
    seen = "SELECT bool_or(query LIKE 'CREATE DATABASE tasks%') FROM pg_stat_statements"
    assert query(server.url(database), seen) == (True,)


def test_settings_for_tests_and_traces(server: Server) -> None:
    """Statements have an id, and are kept long enough to hold the trace. `durable=False` does not wait for the disk."""
    expected = {
        "compute_query_id": "on",
        "track_io_timing": "on",
        "track_activity_query_size": "4kB",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
    }
    for name, value in expected.items():
        assert query(server.url(), f"SHOW {name}") == (value,)


def test_ilike_folds_letters_beyond_ascii(server: Server) -> None:
    """The locale is the builtin C.UTF-8. With plain C, É would not be the capital of é."""
    assert query(server.url(), "SELECT 'CAFÉ' ILIKE 'café'") == (True,)
