"""A receiver, and an API that sends its spans there."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
import pytest

from app.dev.postgres import Server
from tests.otlp_receiver import Receiver, receiving
from tests.support import Api


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running_receiver:
        yield running_receiver


@pytest.fixture
def traced(
    serve: Callable[..., AbstractContextManager[Api]], receiver: Receiver
) -> Callable[..., AbstractContextManager[Api]]:
    """Serve with spans sent to the receiver, ten times a second."""

    def start(**settings: Any) -> AbstractContextManager[Api]:
        return serve(**({"otel_exporter_otlp_endpoint": receiver.url, "otel_bsp_schedule_delay": 100} | settings))

    return start


@pytest.fixture
def api(traced: Callable[..., AbstractContextManager[Api]]) -> Iterator[Api]:
    with traced() as running_api:
        yield running_api


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
    url = cluster.superuser_url(database_url.partition("?")[0].rpartition("/")[2]).replace("+psycopg2", "")

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
