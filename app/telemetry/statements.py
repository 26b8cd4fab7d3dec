"""Observes each statement once: for its span, the metrics, the request's record, and the log.

The span and the log line of a slow one say why it was slow, and which code sent it.
"""

import logging
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from time import monotonic, perf_counter
from traceback import walk_stack
from typing import Any

import psycopg2
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, get_current_span, set_span_in_context
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

from app.record import CURRENT
from app.telemetry.database_metrics import DatabaseMetrics
from app.telemetry.logs import Line
from app.telemetry.places import find_own
from app.telemetry.plans import estimated_plan, executed_plan, summary
from app.telemetry.shapes import Attributes, Run, Shape, describe, server_attributes

SHAPES = 512  # statements whose description is kept
LOCK_NOT_AVAILABLE = "55P03"
EXPLAIN_EVERY_S = 600.0
MAX_EXPLAINED = 512  # statements for which it is kept when they may be explained again

Explain = Callable[[Any, str, Any], Any]  # principal, statement and parameters -> the document of EXPLAIN

admin_logger = logging.getLogger("app.admin")
slow_logger = logging.getLogger("app.queries")


class SlowStatements:
    """Explains the statements that took `slow_query_ms` or more, and those whose plan the server sent."""

    def __init__(self, slow_query_ms: int, explain: Explain) -> None:
        self._slow_s, self._explain = slow_query_ms / 1000, explain
        self._explain_again: dict[str, float] = {}  # when, by `monotonic`, for each text

    def explain(self, run: Run, facts: Attributes) -> None:
        """Put on the span, and in the log, why a statement was slow; `facts` are those of its plan or its failure."""
        is_slow = run.seconds >= self._slow_s
        if not is_slow and "app.db.plan" not in facts:
            return
        facts = {**facts, **self._estimate(run, facts), **find_caller(), **run.shape.log_fields}
        run.span.set_attributes({"app.db.slow": True, **facts} if is_slow else facts)
        if is_slow:
            log_slowness(run, facts)

    def _estimate(self, run: Run, facts: Attributes) -> Attributes:
        """Return the planner's estimate for a SELECT without a plan, once in ten minutes, if the server answers."""
        is_answered = "error.type" not in facts or "db.response.status_code" in facts
        if not (is_answered and run.principal and run.text.startswith("SELECT")) or "app.db.plan" in facts:
            return {}
        if monotonic() < self._explain_again.get(run.text, 0.0):
            return {}
        if len(self._explain_again) >= MAX_EXPLAINED:
            self._explain_again.clear()
        self._explain_again[run.text] = monotonic() + EXPLAIN_EVERY_S
        try:
            return estimated_plan(self._explain(run.principal, run.text, run.parameters))
        except (SQLAlchemyError, psycopg2.Error):
            return {}


def log_slowness(run: Run, facts: Attributes) -> None:
    """Write the line of a slow statement, without its plan: the span holds it, and a collector would cut the line."""
    milliseconds = round(run.seconds * 1000, 1)
    plan = f": {summary(facts)}" if "app.db.plan" in facts else ""
    others = {name: facts[name] for name in sorted(facts) if name != "app.db.plan"}
    line = Line({"query": run.shape.name, "duration_ms": milliseconds} | others, run.span.get_span_context())
    slow_logger.warning(f"slow query: {run.shape.name} took {milliseconds:,} ms{plan}", extra={"line": line})


def find_caller() -> Attributes:
    """Return the project's own line that sent the statement. Walking the stack is dear: only for slow ones."""
    return find_own(walk_stack(sys._getframe(1)))


class StatementObserver(EngineTracer):
    """Observes the statements of an engine, but for those whose execution option `observed` is False.

    EngineTracer listens, and this is what it does then: its own way costs more, since it works the attributes out for
    each run, and writes the database's messages on spans, literals included. Its Instrumentor refuses SQLAlchemy 2.1.
    """

    def __init__(self, tracer: Tracer, metrics: DatabaseMetrics | None, slow: SlowStatements, engine: Engine) -> None:
        self._metrics, self._slow = metrics, slow
        self._shape_of = lru_cache(SHAPES)(partial(describe, server_attributes(engine.url), metrics))
        super().__init__(tracer, engine, connections_usage=None)  # type: ignore[no-untyped-call]  # it has no types
        event.listen(engine, "after_cursor_execute", self._after_cur_exec)
        event.listen(engine, "handle_error", self._handle_error)

    @classmethod
    def _register_event_listener(cls, target: Any, identifier: str, func: Any, *args: Any, **kw: Any) -> None:
        """Let EngineTracer listen to statements that begin; it would also count connections, and end spans."""
        if identifier == "before_cursor_execute":
            super()._register_event_listener(target, identifier, func, *args, **kw)  # type: ignore[no-untyped-call]

    def _before_cur_exec(
        self, _conn: Any, _cursor: Any, statement: str, params: Any, context: Any, _executemany: Any
    ) -> tuple[str, Any]:
        options = context.execution_options
        if options.get("observed", True):
            shape = self._shape_of(context.compiled or statement, options.get("function"))
            if administrator := options.get("administrator"):
                log_administrator(administrator, shape)
            span, token = self._start_span(shape)
            context.run = Run(shape, statement, params, options.get("principal"), span, token, perf_counter())
        return statement, params

    def _start_span(self, shape: Shape) -> tuple[Span, Any]:
        """Start a statement's span; below one that is not recorded take that one in its place."""
        current = get_current_span()
        if (ids := current.get_span_context()).is_valid and not ids.trace_flags.sampled:
            return current, None
        span = self.tracer.start_span(shape.name, kind=SpanKind.CLIENT, attributes=shape.attributes)
        return span, attach(set_span_in_context(span))

    def _after_cur_exec(self, _conn: Any, cursor: Any, _statement: Any, _params: Any, context: Any, _many: Any) -> None:
        notices = take_notices(cursor)
        if run := self._finish(context):
            run.span.set_attribute("db.response.returned_rows", max(cursor.rowcount, 0))
            self._slow.explain(run, executed_plan(notices) if notices else {})
            run.span.end()

    def _handle_error(self, error: ExceptionContext) -> None:
        cause, context = error.original_exception, error.execution_context
        waited = getattr(cause, "waited_s", 0.0)  # until the deadline, for no answer
        if self._metrics:
            self._metrics.count_failure(cause)
        if context and (run := self._finish(context)):
            take_notices(context.cursor)
            failure = failure_attributes(cause)
            run.span.set_attributes(failure)
            run.span.set_status(StatusCode.ERROR, type(cause).__name__)
            self._slow.explain(run, failure)
            run.span.end()
        elif error.connection and (record := CURRENT.get()):  # a COMMIT, or what sets whose rows they are
            record.query_seconds += waited
        if error.connection and waited and (record := CURRENT.get()):
            record.note_silence("statement")

    def _finish(self, context: Any) -> Run | None:
        """Stop the timer of a statement that has its answer, and count it; None if it is not observed."""
        run: Run | None = vars(context).pop("run", None)
        if run:
            run.seconds = perf_counter() - run.started
            if run.token:
                detach(run.token)
            if record := CURRENT.get():
                record.count_statement(run.text, run.seconds, run.shape)
            if self._metrics and run.shape.series:
                self._metrics.observe(run.shape.series, run.seconds)
        return run


def failure_attributes(error: BaseException) -> Attributes:
    """Return what a failure is called: its SQLSTATE, or the driver's name for what has none."""
    sqlstate = getattr(error, "pgcode", None)
    if sqlstate is None:
        return {"error.type": type(error).__name__}
    waited = {"app.db.lock_wait": True} if sqlstate == LOCK_NOT_AVAILABLE else {}
    return {"db.response.status_code": sqlstate, "error.type": sqlstate, **waited}


def log_administrator(user_id: str, shape: Shape) -> None:
    """Write down what an administrator looks at, before it is sent: whether it succeeds or not."""
    if shape.series:
        shape.series.by_administrators.inc()
    fields = {"user_id": user_id, "query": shape.name} | shape.log_fields
    admin_logger.info("administrator %s: %s", user_id, shape.name, extra={"line": Line(fields)})


def take_notices(cursor: Any) -> list[str]:
    """Return the connection's notices and forget them: SQLAlchemy would log them, literals included."""
    notices: list[str] = list(cursor.connection.notices) if cursor else []
    if notices:
        cursor.connection.notices.clear()
    return notices
