"""Observes each statement once: for its span, the metrics, the request's record, and the log."""

import logging
from functools import lru_cache, partial
from time import perf_counter
from typing import Any

from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.trace import SpanKind, StatusCode, Tracer, set_span_in_context
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from app.record import CURRENT
from app.telemetry.database_metrics import DatabaseMetrics
from app.telemetry.log_fields import Line
from app.telemetry.plans import executed_plan
from app.telemetry.shapes import Attributes, Run, Shape, describe, server_attributes
from app.telemetry.slow_statements import SlowStatements

SHAPES = 512  # statements whose description is kept
LOCK_NOT_AVAILABLE = "55P03"

admin_logger = logging.getLogger("app.admin")


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
            span = self.tracer.start_span(shape.name, kind=SpanKind.CLIENT, attributes=shape.attributes)
            token = attach(set_span_in_context(span))
            context.run = Run(shape, statement, params, options.get("principal"), span, token, perf_counter())
        return statement, params

    def _after_cur_exec(self, _conn: Any, cursor: Any, _statement: Any, _params: Any, context: Any, _many: Any) -> None:
        notices = take_notices(cursor)
        if run := self._finish(context):
            if run.span.is_recording():
                run.span.set_attribute("db.response.returned_rows", max(cursor.rowcount, 0))
            self._slow.explain(run, executed_plan(notices) if notices else {})
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
            self._slow.explain(run, failure)
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
    notices: list[str] = list(cursor.connection.notices) if cursor and cursor.connection.notices else []
    if notices:
        cursor.connection.notices.clear()
    return notices
