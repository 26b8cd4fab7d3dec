"""How long statements take, how they fail, and how long requests wait for a connection."""

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram
from sqlmodel import SQLModel

from app.telemetry.exposition import exemplar

STATEMENT_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5)
WAIT_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
OPERATIONS = ("SELECT", "INSERT", "UPDATE", "DELETE")
# Errors that alerts watch begin at 0: of a counter that begins at 1 Prometheus sees no increase.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
WATCHED = (
    *("08000", "08001", "08003", "08004", "08006", "08P01"),  # the connection is lost, as a pooler says it
    *("25006", "53000", "53100", "53200", "53400", "58030"),  # read-only, no resources, disk, memory, limit, I/O error
    *("28P01", "53300"),  # wrong password, too many connections
    *("40P01", "55P03", "57014"),  # deadlock, lock_timeout, statement_timeout
    *("57P01", "57P02", "57P03"),  # terminated by an administrator, by a crash, not ready for connections
    *("DeadlineExceeded", "HostNotFound", "InterfaceError", "OperationalError"),  # not in time, no host, closed, none
)


class Series(NamedTuple):
    """The series of the statements of one operation and table."""

    duration: Histogram
    slow: Counter
    by_administrators: Counter


class DatabaseMetrics:
    """Counts and times statements, their failures and the waits for a connection."""

    def __init__(self, registry: CollectorRegistry, slow_query_ms: int) -> None:
        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        labels = ("operation", "table")
        self._slow_s = slow_query_ms / 1000
        self._duration = histogram(
            "db_client_operation_duration_seconds", "Statements, answer included.", labels, buckets=STATEMENT_SECONDS
        )
        self._slow = counter("db_slow_queries", f"Statements of {slow_query_ms} ms or more.", labels)
        self._looks = counter("admin_statements", "Statements of administrators, who see all rows.", labels)
        self._errors = counter("db_errors", "Failures by SQLSTATE, or the driver's class.", ("code",))
        self._wait = histogram(
            "db_client_connection_wait_seconds",
            "What a request waited for a worker thread and a connection.",
            buckets=WAIT_SECONDS,
        )
        for code in WATCHED:
            self._errors.labels(code)
        for operation, table in product(OPERATIONS, SQLModel.metadata.tables):
            self.series_of(operation, (table,))

    def series_of(self, operation: str, tables: Sequence[str]) -> Series:
        """Return the series of an operation and its tables, which begin at 0 now."""
        names = operation, " ".join(tables) or "none"
        return Series(self._duration.labels(*names), self._slow.labels(*names), self._looks.labels(*names))

    def observe(self, series: Series, seconds: float) -> None:
        """Count a statement that had its answer after `seconds`."""
        series.duration.observe(seconds, exemplar())
        if seconds >= self._slow_s:
            series.slow.inc(exemplar=exemplar())

    def count_failure(self, cause: BaseException) -> None:
        """Count a failure of a statement or a connection."""
        self._errors.labels(getattr(cause, "pgcode", None) or type(cause).__name__).inc()

    def observe_wait(self, seconds: float) -> None:
        """Count a request's wait for a thread and its first connection."""
        self._wait.observe(seconds, exemplar())
