"""Observes each statement once: for its span, the metrics, the request's record, and the log where it was slow."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic, perf_counter
from typing import Any, NamedTuple

import psycopg2
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from sqlalchemy import Compiled, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

from app.record import CURRENT
from app.telemetry.database_metrics import DatabaseMetrics, Series
from app.telemetry.log_fields import Line
from app.telemetry.plans import estimated_plan, executed_plan, summary
from app.telemetry.statement_attributes import (
    Attributes,
    failure_attributes,
    find_caller,
    operation_of,
    server_attributes,
    statement_attributes,
    tables_of,
)

SHAPES = 512  # statements whose description is kept
EXPLAIN_EVERY_S = 600.0

logger = logging.getLogger("app.queries")
admin_logger = logging.getLogger("app.admin")

Explain = Callable[[Any, str, Any], Any]  # principal, statement and parameters -> the document of EXPLAIN


class Shape(NamedTuple):
    """What all runs of one statement have in common."""

    name: str
    attributes: Attributes
    series: Series | None

    @property
    def log_fields(self) -> Attributes:
        """What its log lines say of it."""
        names = ("db.query.text", "code.function.name")
        return {name: self.attributes[name] for name in names if name in self.attributes}


@dataclass(slots=True)
class Run:
    """One run of a statement. While it runs, its span is the current one in the OpenTelemetry context of `token`."""

    shape: Shape
    text: str  # as the driver gets it
    parameters: Any
    principal: Any  # opaque here: Explain wants it back
    span: Span
    token: Any
    started: float
    seconds: float = 0.0


class StatementObserver(EngineTracer):
    """Observes the statements of an engine, but for those whose execution option `observed` is False.

    EngineTracer listens, and this is what it does then: its own way costs more, since it works the attributes out for
    each run, and writes the database's messages on spans, literals included. Its Instrumentor refuses SQLAlchemy 2.1.
    """

    def __init__(
        self, tracer: Tracer, metrics: DatabaseMetrics | None, slow_query_ms: int, explain: Explain, engine: Engine
    ) -> None:
        self._metrics, self._slow_s, self._explain = metrics, slow_query_ms / 1000, explain
        self._server = server_attributes(engine.url)
        self._shape_of = lru_cache(SHAPES)(self._describe)
        self._explain_again: dict[str, float] = {}  # when, by `monotonic`, for each text
        super().__init__(tracer, engine, connections_usage=None)  # type: ignore[no-untyped-call]  # it has no types
        event.listen(engine, "after_cursor_execute", self._after_cur_exec)
        event.listen(engine, "handle_error", self._handle_error)

    @classmethod
    def _register_event_listener(cls, target: Any, identifier: str, func: Any, *args: Any, **kw: Any) -> None:
        """Let EngineTracer listen to statements that begin; it would also count connections, and end spans."""
        if identifier == "before_cursor_execute":
            super()._register_event_listener(target, identifier, func, *args, **kw)  # type: ignore[no-untyped-call]

    def _describe(self, compiled: Compiled | str, function: str | None) -> Shape:
        operation, tables = operation_of(compiled), tables_of(compiled)
        attributes = self._server | statement_attributes(compiled, operation, tables, function)
        series = self._metrics.series_of(operation, tables) if self._metrics else None
        return Shape(" ".join((operation, *tables)), attributes, series)

    def _before_cur_exec(
        self, _conn: Any, _cursor: Any, statement: str, params: Any, context: Any, _executemany: Any
    ) -> tuple[str, Any]:
        options = context.execution_options
        if options.get("observed", True):
            shape = self._shape_of(context.compiled or statement, options.get("function"))
            if administrator := options.get("administrator"):
                log_administrator(administrator, shape)
            span = self.tracer.start_span(shape.name, kind=SpanKind.CLIENT, attributes=shape.attributes)
            token = attach(set_span_in_context(span))
            context.run = Run(shape, statement, params, options.get("principal"), span, token, perf_counter())
        return statement, params

    def _after_cur_exec(self, _conn: Any, cursor: Any, _statement: Any, _params: Any, context: Any, _many: Any) -> None:
        notices = take_notices(cursor)
        if run := self._finish(context):
            if run.span.is_recording():
                run.span.set_attribute("db.response.returned_rows", max(cursor.rowcount, 0))
            plan = executed_plan(notices) if notices else {}
            if plan or run.seconds >= self._slow_s:
                self._explain_slowness(run, plan)
            run.span.end()

    def _handle_error(self, error: ExceptionContext) -> None:
        cause, context = error.original_exception, error.execution_context
        if self._metrics:
            self._metrics.count_failure(cause)
        if context and (run := self._finish(context)):
            take_notices(context.cursor)
            failure = failure_attributes(cause)
            run.span.set_attributes(failure)
            run.span.set_status(StatusCode.ERROR, type(cause).__name__)
            if run.seconds >= self._slow_s:
                self._explain_slowness(run, failure)
            run.span.end()

    def _finish(self, context: Any) -> Run | None:
        """Stop the timer of a statement that has its answer, and count it; None if it is not observed."""
        run: Run | None = vars(context).pop("run", None)
        if run:
            run.seconds = perf_counter() - run.started
            detach(run.token)
            if record := CURRENT.get():
                record.count_statement(run.text, run.seconds)
            if self._metrics and run.shape.series:
                self._metrics.observe(run.shape.series, run.seconds)
        return run

    def _explain_slowness(self, run: Run, facts: Attributes) -> None:
        """Say on the span and in the log why a statement was slow, and which code sent it."""
        if "app.db.plan" not in facts:
            facts |= self._estimate(run, facts)
        facts |= find_caller() | run.shape.log_fields
        is_slow = run.seconds >= self._slow_s  # else the server's threshold is lower than ours
        run.span.set_attributes({"app.db.slow": True, **facts} if is_slow else facts)
        if is_slow:
            log_slowness(run, facts)

    def _estimate(self, run: Run, facts: Attributes) -> Attributes:
        """Return the planner's estimate for a SELECT, once in ten minutes, unless a failure shows no server answers."""
        is_answered = "error.type" not in facts or "db.response.status_code" in facts
        now = monotonic()
        if not (is_answered and run.principal and run.text.startswith("SELECT")):
            return {}
        if now < self._explain_again.get(run.text, 0.0):
            return {}
        if len(self._explain_again) >= SHAPES:
            self._explain_again.clear()
        self._explain_again[run.text] = now + EXPLAIN_EVERY_S
        try:
            return estimated_plan(self._explain(run.principal, run.text, run.parameters))
        except (SQLAlchemyError, psycopg2.Error):
            return {}


def log_administrator(user_id: str, shape: Shape) -> None:
    """Write down what an administrator looks at, before it is sent: whether it succeeds or not."""
    if shape.series:
        shape.series.by_administrators.inc()
    fields = {"user_id": user_id, "query": shape.name} | shape.log_fields
    admin_logger.info("administrator %s: %s", user_id, shape.name, extra={"line": Line(fields)})


def log_slowness(run: Run, facts: Attributes) -> None:
    """Write the line of a slow statement, without its plan: the span holds it, and a collector would cut the line."""
    milliseconds = round(run.seconds * 1000, 1)
    plan = f": {summary(facts)}" if "app.db.plan" in facts else ""
    others = {name: facts[name] for name in sorted(facts) if name != "app.db.plan"}
    line = Line({"query": run.shape.name, "duration_ms": milliseconds} | others, run.span.get_span_context())
    logger.warning(f"slow query: {run.shape.name} took {milliseconds:,} ms{plan}", extra={"line": line})


def take_notices(cursor: Any) -> list[str]:
    """Return the connection's notices and forget them: SQLAlchemy would log them, literals included."""
    notices: list[str] = list(cursor.connection.notices) if cursor and cursor.connection.notices else []
    if notices:
        cursor.connection.notices.clear()
    return notices
