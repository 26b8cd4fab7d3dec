"""What statements and connections cost."""

from functools import cache, lru_cache
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import Compiled, Engine
from sqlalchemy.pool import QueuePool
from sqlmodel import SQLModel

from app.telemetry.exemplars import exemplar
from app.telemetry.statements import operation_of, tables_of

SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5)
WAIT_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
OPERATIONS = ("SELECT", "INSERT", "UPDATE", "DELETE")
STATEMENTS = 512  # shapes of statements whose names are kept
NO_TABLE = "none"
# Errors that alerts watch begin at 0: of a counter that begins at 1 Prometheus sees no increase.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
WATCHED = ("40P01", "55P03", "57014")  # deadlock, lock_timeout, statement_timeout


class DatabaseMetrics:
    """Measures an engine: statements by operation and table, failures by SQLSTATE, the pool and the wait for it.

    A statement whose execution option `observed` is False counts where it fails alone.
    """

    def __init__(self, registry: CollectorRegistry, slow_query_ms: int) -> None:
        self._slow_s = slow_query_ms / 1000
        labels = ("operation", "table")
        duration = Histogram(
            "db_client_operation_duration_seconds",
            "Statements, answer included.",
            labels,
            registry=registry,
            buckets=SECONDS,
        )
        slow = Counter("db_slow_queries", f"Statements of {slow_query_ms} ms or more.", labels, registry=registry)
        errors = Counter("db_errors", "Failures by SQLSTATE, or the driver's class.", ("code",), registry=registry)
        looks = Counter(
            "admin_statements", "Statements of administrators, who see all rows.", labels, registry=registry
        )
        self._looks = cache(looks.labels)
        self._duration, self._slow, self._errors = cache(duration.labels), cache(slow.labels), cache(errors.labels)
        for code in WATCHED:
            self._errors(code)
        for names in product(OPERATIONS, SQLModel.metadata.tables):
            self._duration(*names), self._slow(*names), self._looks(*names)
        self._wait = Histogram(
            "db_client_connection_wait_seconds",
            "What a request waited for a worker thread and a connection.",
            registry=registry,
            buckets=WAIT_SECONDS,
        )
        self._connections = Gauge("db_client_connections", "Pooled connections.", ("state",), registry=registry)
        self._most = Gauge("db_client_connections_max", "Connections the pool may open.", registry=registry)
        self._names = lru_cache(STATEMENTS)(names_of)

    def watch(self, engine: Engine) -> None:
        """Measure the pool of `engine`."""
        self._connections.labels("used").set_function(lambda: pool_of(engine).checkedout())
        self._connections.labels("idle").set_function(lambda: pool_of(engine).checkedin())
        self._most.set_function(lambda: pool_of(engine).size())

    def look(self, shape: Compiled | str) -> None:
        """Count a statement of an administrator, who sees every user's rows."""
        self._looks(*self._names(shape)).inc()

    def observe(self, shape: Compiled | str, seconds: float) -> None:
        """Count a statement that had its answer after `seconds`."""
        names = self._names(shape)
        slow = self._slow(*names)  # there, at 0, before the first slow one
        self._duration(*names).observe(seconds, exemplar())
        if seconds >= self._slow_s:
            slow.inc(exemplar=exemplar())

    def fail(self, cause: BaseException) -> None:
        """Count a failure of a statement or a connection."""
        self._errors(getattr(cause, "pgcode", None) or type(cause).__name__).inc()

    def wait(self, seconds: float) -> None:
        """Count a request's wait for a thread and its first connection."""
        self._wait.observe(seconds, exemplar())


def pool_of(engine: Engine) -> QueuePool:
    """Return the engine's pool of the moment: `dispose()` gives it another one."""
    assert isinstance(engine.pool, QueuePool)
    return engine.pool


def names_of(compiled: Compiled | str) -> tuple[str, str]:
    """Return the labels of a statement: bounded, since the code knows a bounded number of them."""
    return operation_of(compiled), " ".join(tables_of(compiled)) or NO_TABLE
