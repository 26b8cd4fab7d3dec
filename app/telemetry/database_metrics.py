"""What statements and connections cost, learned from the engine's own events."""

from functools import cache, lru_cache
from itertools import product
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import Compiled, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import QueuePool
from sqlmodel import SQLModel

from app.telemetry.exemplars import exemplar
from app.telemetry.statements import administrator_of, operation_of, tables_of
from app.web.threads import HANDOVER

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
        """Measure `engine`. Whoever else listens to a statement's end and takes time should do so later."""
        event.listen(engine, "before_cursor_execute", self._begin)
        event.listen(engine, "after_cursor_execute", self._succeed)
        event.listen(engine, "handle_error", self._fail)
        event.listen(engine, "checkout", self._arrive)
        self._connections.labels("used").set_function(lambda: pool_of(engine).checkedout())
        self._connections.labels("idle").set_function(lambda: pool_of(engine).checkedin())
        self._most.set_function(lambda: pool_of(engine).size())

    def _begin(self, _conn: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool) -> None:  # noqa: FBT001  SQLAlchemy's signature
        context._measured_from = perf_counter()
        if administrator_of(context) and context.execution_options.get("observed") is not False:
            self._looks(*self._names(context.compiled or statement)).inc()

    def _succeed(self, _conn: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool) -> None:  # noqa: FBT001
        self._observe(context, statement)

    def _fail(self, error: ExceptionContext) -> None:
        cause = error.original_exception
        self._errors(getattr(cause, "pgcode", None) or type(cause).__name__).inc()
        context: Any = error.execution_context
        if hasattr(context, "_measured_from"):
            self._observe(context, error.statement or "")

    def _observe(self, context: Any, statement: str) -> None:
        if context.execution_options.get("observed") is False:
            return
        seconds = perf_counter() - context._measured_from
        names = self._names(context.compiled or statement)
        slow = self._slow(*names)  # there, at 0, before the first slow one
        self._duration(*names).observe(seconds, exemplar())
        if seconds >= self._slow_s:
            slow.inc(exemplar=exemplar())

    def _arrive(self, _connection: Any, _record: Any, _proxy: Any) -> None:
        handover = HANDOVER.get()
        if handover and handover.connected is None:
            handover.connected = perf_counter()
            self._wait.observe(handover.connected - handover.handed, exemplar())


def pool_of(engine: Engine) -> QueuePool:
    """Return the engine's pool of the moment: `dispose()` gives it another one."""
    assert isinstance(engine.pool, QueuePool)
    return engine.pool


def names_of(compiled: Compiled | str) -> tuple[str, str]:
    """Return the labels of a statement: bounded, since the code knows a bounded number of them."""
    return operation_of(compiled), " ".join(tables_of(compiled)) or NO_TABLE
