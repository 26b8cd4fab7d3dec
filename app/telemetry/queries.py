"""What is told of a statement: which one, of which table, for whom in the code, how it went, and why it was slow.

Each is timed once, here, for its span, the metrics, the request's record and the log. Built on the EngineTracer of
opentelemetry-instrumentation-sqlalchemy. Its Instrumentor refuses SQLAlchemy 2.1, and it works the same attributes out
anew for each statement, and writes the database's messages, literals included, on spans.
"""

import logging
from collections.abc import Callable
from functools import lru_cache, partial
from time import monotonic, perf_counter
from typing import Any

from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

from app.auth.principal import Administrator, Principal
from app.errors import AppError
from app.record import CURRENT
from app.telemetry import plans
from app.telemetry.database_metrics import DatabaseMetrics
from app.telemetry.log_fields import Line
from app.telemetry.statements import (
    Attributes,
    Statement,
    administrator_of,
    caller,
    described,
    failure_attributes,
    static_attributes,
)

STATEMENTS = 512  # shapes of statements whose description is kept
LISTENED = {"before_cursor_execute", "after_cursor_execute", "handle_error"}  # not the pool's: those count connections
EXPLAIN_EVERY_S = 600.0

logger = logging.getLogger("app.queries")
admin_logger = logging.getLogger("app.admin")

Explain = Callable[[Principal, str, Any], Any]


class QueryObserver(EngineTracer):
    """Observes each statement of an engine, but for those whose execution option `observed` is False."""

    def __init__(
        self, tracer: Tracer, metrics: DatabaseMetrics | None, slow_query_ms: int, explain: Explain, engine: Engine
    ) -> None:
        self._metrics, self._slow_s, self._explain = metrics, slow_query_ms / 1000, explain
        self._describe = lru_cache(STATEMENTS)(partial(described, static_attributes(engine.url)))
        self._explained: dict[str, float] = {}
        # Ours come first, while the span is open: SQLAlchemy knows no order but that of registration.
        event.listen(engine, "after_cursor_execute", self._succeed)
        event.listen(engine, "handle_error", self._fail)
        super().__init__(tracer, engine, connections_usage=None)  # type: ignore[no-untyped-call]  # it has no types

    @classmethod
    def _register_event_listener(cls, target: Any, identifier: str, func: Any, *args: Any, **kw: Any) -> None:
        if identifier in LISTENED:
            super()._register_event_listener(target, identifier, func, *args, **kw)  # type: ignore[no-untyped-call]

    def _before_cur_exec(
        self, _conn: Any, _cursor: Any, statement: str, params: Any, context: Any, *_: Any
    ) -> tuple[str, Any]:
        if context.execution_options.get("observed") is False:
            return statement, params
        function = context.execution_options.get("function")
        name, attributes = self._describe(context.compiled or statement, function)
        if administrator := administrator_of(context):
            tell(administrator, name, attributes)
            if self._metrics:
                self._metrics.look(context.compiled or statement)
        context._otel_span = self.tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        context._sent_at = perf_counter()
        return statement, params

    def _succeed(self, _conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, *_: Any) -> None:
        notices = take_notices(cursor)
        if getattr(context, "_otel_span", None) is None:
            return
        span, seconds = self._finish(context, statement)
        plan = plans.executed(notices) if notices else None
        if span.is_recording():
            span.set_attribute("db.response.returned_rows", max(cursor.rowcount, 0))
        if plan or seconds >= self._slow_s:
            self._explain_slowness(span, Statement(statement, parameters, context, seconds), plan)
        span.end()

    def _fail(self, error: ExceptionContext) -> None:
        if self._metrics:
            self._metrics.fail(error.original_exception)
        context: Any = error.execution_context
        if getattr(context, "_otel_span", None) is None:
            return
        take_notices(context.cursor)
        span, seconds = self._finish(context, error.statement or "")
        failure = failure_attributes(error.original_exception)
        span.set_attributes(failure)
        span.set_status(StatusCode.ERROR, type(error.original_exception).__name__)
        if seconds >= self._slow_s:
            statement = Statement(error.statement or "", error.parameters, context, seconds, failure)
            self._explain_slowness(span, statement, None)
        span.end()

    def _finish(self, context: Any, statement: str) -> tuple[Span, float]:
        """Return the span of the statement that has its answer, and how long that took in seconds; count it."""
        seconds = perf_counter() - context._sent_at
        span: Span = context._otel_span
        context._otel_span = None  # or the library's own listeners end it again, with the database's message
        if record := CURRENT.get():
            record.count_statement(statement, seconds)
        if self._metrics:
            self._metrics.observe(context.compiled or statement, seconds)
        return span, seconds

    def _explain_slowness(self, span: Span, statement: "Statement", plan: plans.Plan | None) -> None:
        """Say on the span and in the log why a statement was slow, and who asked."""
        plan = plan or self._estimated(statement)
        facts = {**statement.failure, **(plan.attributes if plan else {}), **caller(statement.function)}
        if statement.seconds < self._slow_s:  # the server's threshold is lower than ours
            span.set_attributes(facts)
            return
        span.set_attributes({"app.db.slow": True, **facts})
        name, described = self._describe(statement.context.compiled or statement.text, statement.function)
        facts |= {name: described[name] for name in ("db.query.text", "code.function.name") if name in described}
        milliseconds = round(statement.seconds * 1000, 1)
        message = f"slow query: {name} took {milliseconds:,} ms" + (f": {plan.summary}" if plan else "")
        facts.pop("app.db.plan", None)  # the span holds it; a line would be cut by whoever collects it
        fields = {"query": name, "duration_ms": milliseconds} | {key: facts[key] for key in sorted(facts)}
        logger.warning(message, extra={"line": Line(fields, span.get_span_context())})

    def _estimated(self, statement: "Statement") -> plans.Plan | None:
        """Return the planner's estimate, for the first of a SELECT's slow runs in ten minutes."""
        if not statement.explainable or monotonic() < self._explained.get(statement.text, 0.0):
            return None
        if len(self._explained) >= STATEMENTS:
            self._explained.clear()
        self._explained[statement.text] = monotonic() + EXPLAIN_EVERY_S
        try:
            return plans.estimated(self._explain(statement.principal, statement.text, statement.parameters))
        except (SQLAlchemyError, AppError):
            return None


def tell(administrator: Administrator, name: str, attributes: Attributes) -> None:
    """Write down what an administrator looks at, before it is sent: whether it succeeds or not."""
    fields: Attributes = {"user_id": administrator.user_id, "query": name}
    fields |= {key: attributes[key] for key in ("db.query.text", "code.function.name") if key in attributes}
    admin_logger.info("administrator %s: %s", administrator.user_id, name, extra={"line": Line(fields)})


def take_notices(cursor: Any) -> list[str]:
    """Return the connection's notices and forget them: SQLAlchemy would log them, literals included."""
    notices: list[str] = list(cursor.connection.notices) if cursor and cursor.connection.notices else []
    if notices:
        cursor.connection.notices.clear()
    return notices
