"""Whether the server is there: the look-up of its name, each new connection, and the ping of an idle one.

Each is told apart from the wait for a place in the pool, and counted by how it ended: so a server that is frozen or
gone is not taken for a busy one.
"""

import re
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from itertools import product
from threading import Lock
from time import monotonic, perf_counter
from typing import Any

import psycopg2
from sqlalchemy import Engine, event, exc
from sqlalchemy.pool import ConnectionPoolEntry

from app.db.addresses import needs_look_up, resolve_hosts
from app.db.deadline import DeadlineExceeded
from app.record import CURRENT
from app.telemetry.tracing import SERVICE  # pg_stat_activity shows it

STEPS = ("look-up", "connect", "ping")
OUTCOMES = ("answered", "refused", "unanswered")
PING_AFTER_S = 1.0
# libpq keeps the SQLSTATE of a connection that is refused to itself, so it is told by the server's message.
# https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/tcop/backend_startup.c
REFUSALS = {
    "28P01": re.compile("password authentication failed"),
    "53300": re.compile("too many c|remaining connection slots are reserved"),
    "57P03": re.compile("the database system is "),  # starting up, shutting down, in recovery mode
}


class Refused(psycopg2.OperationalError):
    """The server let nobody in, and said why."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.pgcode = sqlstate

    pgcode: str | None = None  # else it is the driver's own, which cannot be set


class Checks:
    """Makes and pings the connections of engines, and counts the answers by step and outcome. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.numbers = dict.fromkeys(product(STEPS, OUTCOMES), 0)

    def listen(self, engine: Engine) -> None:
        """Make the connections of `engine`, and ping those that were idle."""
        event.listen(engine, "do_connect", self._connect)
        event.listen(engine, "connect", _note_use)
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", self._ping)

    def _connect(self, dialect: Any, entry: Any, arguments: Any, parameters: MutableMapping[str, Any]) -> Any:
        if needs_look_up(parameters):
            with self._noting("look-up"):
                resolve_hosts(dialect, entry, arguments, parameters)
        with self._noting("connect"):
            try:
                return dialect.connect(*arguments, fallback_application_name=SERVICE, **parameters)
            except psycopg2.OperationalError as error:
                if sqlstate := sqlstate_of(str(error)):
                    raise Refused(str(error), sqlstate) from error
                raise

    def _ping(self, connection: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        """Ask a connection that was idle for a while whether its server is still there."""
        if monotonic() - entry.info["used"] < PING_AFTER_S:
            return
        try:
            with self._noting("ping"), connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except psycopg2.Error as error:
            raise exc.InvalidatePoolError("the connection was closed while it was idle") from error

    @contextmanager
    def _noting(self, step: str) -> Iterator[None]:
        """Count how the step ends, and let the request's record learn how long it took."""
        started, outcome, failure = perf_counter(), "answered", None
        try:
            yield
        except psycopg2.Error as error:
            failure = type(error).__name__
            outcome = "unanswered" if isinstance(error, DeadlineExceeded) else "refused"
            raise
        finally:
            with self._lock:
                self.numbers[step, outcome] += 1
            if record := CURRENT.get():
                record.note_wait(step, started, failure)
                if outcome == "unanswered":
                    record.note_silence(step)


def sqlstate_of(message: str) -> str | None:
    """Return the SQLSTATE of a refused connection, if the server's message is one of those known here, in English."""
    return next((sqlstate for sqlstate, pattern in REFUSALS.items() if pattern.search(message)), None)


def _note_use(_connection: Any, entry: ConnectionPoolEntry) -> None:
    entry.info["used"] = monotonic()
