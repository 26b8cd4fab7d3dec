"""A receiver, and an API that sends its spans there."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from io import StringIO
from typing import Any

import psycopg2
import pytest
from fastapi import APIRouter
from sqlalchemy import text

from app.auth import CurrentUser
from app.db import CurrentDatabase
from app.main import ENTITIES, create_app
from app.settings import Settings
from app.telemetry.logs import ConsoleFormatter, JsonFormatter
from app.web.route import ApiRoute
from devtools.postgres import Server
from tests import process
from tests.otlp_receiver import Receiver, run_receiver
from tests.process import Process, run_process
from tests.support import SECRET, UNLIMITED, Api, run_api, run_sql


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with run_receiver() as running_receiver:
        yield running_receiver


@pytest.fixture
def traced(database_url: str, receiver: Receiver) -> Callable[..., AbstractContextManager[Api]]:
    """Serve with spans sent to the receiver, ten times a second; `entities` stand in for the application's own."""

    @contextmanager
    def start(entities: Sequence[APIRouter] = ENTITIES, **given: Any) -> Iterator[Api]:
        usual: dict[str, Any] = {"otel_exporter_otlp_endpoint": receiver.url, "otel_bsp_schedule_delay": 100}
        usual |= {"database_url": database_url, "better_auth_secret": SECRET} | UNLIMITED
        settings = Settings(**(usual | given))
        with run_api(settings, partial(create_app, entities=entities)) as api:
            yield api

    return start


@pytest.fixture
def database() -> Callable[..., APIRouter]:
    """An entity of one route, `/api/ask`, that runs a statement as the user who asks."""

    def asking(statement: str, times: int = 1) -> APIRouter:
        router = APIRouter(prefix="/api", route_class=ApiRoute)

        @router.get("/ask")
        def ask(database: CurrentDatabase, user: CurrentUser) -> int:
            rows = [database.execute(user, text(statement), {}) for _ in range(times)]
            return len(rows)

        return router

    return asking


@pytest.fixture
def api(traced: Callable[..., AbstractContextManager[Api]]) -> Iterator[Api]:
    with traced() as running_api:
        yield running_api


def database_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


@dataclass
class Held:
    """A transaction that holds locks until it is told to let go."""

    connection: Any
    watcher: Any

    def waiting(self, at_least_s: float = 0.0) -> str:
        """The message of whoever waits for the locks, once it has waited for so long."""
        deadline = time.monotonic() + 10
        query = (
            "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
            "AND clock_timestamp() - query_start >= make_interval(secs => %s)"
        )
        with self.watcher.cursor() as cursor:
            while time.monotonic() < deadline:
                cursor.execute(query, (at_least_s,))
                if found := cursor.fetchone():
                    return str(found[0])
                time.sleep(0.01)
        raise AssertionError("nobody waits")

    def release(self) -> None:
        self.connection.rollback()


@pytest.fixture
def holding(cluster: Server, database_url: str) -> Callable[[str], AbstractContextManager[Held]]:
    """Run a statement in a transaction of the superuser's, which stays open."""
    url = cluster.superuser_url(database_of(database_url)).replace("+psycopg2", "")

    @contextmanager
    def hold(statement: str) -> Iterator[Held]:
        connection, watcher = psycopg2.connect(url), psycopg2.connect(url)
        watcher.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
            yield Held(connection, watcher)
        finally:
            connection.close()
            watcher.close()

    return hold


@pytest.fixture
def superuser(cluster: Server, database_url: str) -> Callable[[str], None]:
    """Run one statement as the superuser in the test's own database."""
    return partial(run_sql, cluster.superuser_url(database_of(database_url)))


@pytest.fixture
def many_examples(superuser: Callable[[str], None]) -> None:
    """20,000 examples of alice's, with statistics."""
    superuser(
        "INSERT INTO example (user_id, title, description, completed) "
        "SELECT 'alice', 'example ' || n, repeat('word ', 20), n % 50 > 0 FROM generate_series(1, 20000) n"
    )
    superuser("VACUUM ANALYZE example")


@pytest.fixture
def run(database_url: str) -> Callable[..., AbstractContextManager[Process]]:
    """Run the application as a process with these environment variables."""
    return lambda **variables: run_process(database_url, **variables)


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What this process logs meanwhile, in both forms."""
    stream = StringIO()
    handlers = [logging.StreamHandler(stream), logging.StreamHandler(stream)]
    handlers[0].setFormatter(JsonFormatter())
    handlers[1].setFormatter(ConsoleFormatter(colours=False))
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.DEBUG)
    for handler in handlers:
        handler.addFilter(lambda record: not record.name.startswith(("httpx", "httpcore")))  # the test's own client
        root.addHandler(handler)
    yield stream
    root.setLevel(level)
    for handler in handlers:
        root.removeHandler(handler)


@pytest.fixture
def login(admin: Callable[[str], None], database_url: str) -> Callable[[str, str], None]:
    """Set a parameter of the application's login in the test's own database."""
    database = database_of(database_url)

    def set_parameter(name: str, value: str) -> None:
        admin(f"ALTER ROLE tasks IN DATABASE {database} SET {name} = {value}")

    return set_parameter


@pytest.fixture
def refused(database_url: str) -> Callable[..., str]:
    """The message with which the application refuses to start with these environment variables."""

    def start(**variables: str) -> str:
        done = process.run_command(["serve"], database_url, **variables)
        assert (done.returncode, done.stdout) == (2, ""), done
        return done.stderr

    return start
