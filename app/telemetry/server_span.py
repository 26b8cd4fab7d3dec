"""The server span, which the instrumentation makes: what is kept from it, and what is put on it, in the answer and log.

One layer is just outside of the instrumentation, one just inside.
"""

import logging
from asyncio import CancelledError, get_running_loop
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from time import perf_counter
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from opentelemetry.trace import Tracer, get_current_span
from starlette._utils import get_route_path
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.record import N_PLUS_ONE, PROBES, Headers, Record, current
from app.settings import Settings
from app.telemetry.database_metrics import DatabaseMetrics
from app.telemetry.event_loop import EventLoopWatch
from app.telemetry.failures import PROBLEM, failure_event, note_failure
from app.telemetry.logs import Line
from app.telemetry.repeats import Repeats
from app.telemetry.sampling import Callers, Sampling
from app.telemetry.shapes import Attributes
from app.telemetry.sizes import note_sizes, size_fields
from app.telemetry.tracing import Tracing
from app.telemetry.tree import draw_tree
from app.telemetry.waits import record_span, record_waits

with suppress_http_instrumentation():
    UNTRACED = get_current()  # the context of probes, which would outnumber the users

logger = logging.getLogger("app.requests")


class RequestObserver:
    """Tells of each request: in its answer, on its span and in the log."""

    def __init__(
        self, settings: Settings, tracing: Tracing, metrics: DatabaseMetrics | None, event_loop: EventLoopWatch
    ) -> None:
        self._slow_ms, self._metrics, self._event_loop = settings.slow_query_ms, metrics, event_loop
        self._tracer, self._trees = tracing.tracer, tracing.trees
        self._repeats = Repeats()

    def answer(self, record: Record) -> Headers:
        """Put what is known now on the span, which ends with the answer; return the headers that lead to the trace."""
        if record.span.is_recording():
            block = self._event_loop.find_block(record.started)
            record.span.set_attributes(request_attributes(record) | (block.attributes if block else {}))
            record_waits(self._tracer, record)
        if record.queries >= N_PLUS_ONE:
            self._repeats.tell(record)
        if self._metrics and record.connection_wait is not None:
            self._metrics.observe_wait(record.thread_wait + record.connection_wait)
        headers: Headers = []
        context, timing = record.span.get_span_context(), b""
        if context.is_valid:
            headers.append((b"x-trace-id", b"%032x" % context.trace_id))
            ids = context.trace_id, context.span_id, context.trace_flags.sampled
            timing = b', traceparent;desc="00-%032x-%016x-%02x"' % ids
        if record.is_api:
            database_ms, total_ms = record.query_seconds * 1000, (perf_counter() - record.started) * 1000
            headers.append((b"server-timing", b"db;dur=%.1f, total;dur=%.1f%b" % (database_ms, total_ms, timing)))
        return headers

    def end(self, record: Record) -> None:
        """Put the sizes on the span, and write the request's line once the layers inside have ended theirs."""
        note_sizes(record)
        get_running_loop().call_soon(self._log, record)

    def _log(self, record: Record) -> None:
        """Write the line; in a terminal a slow or failed request's trace with it."""
        context = record.span.get_span_context()
        spans = self._trees.take(context.trace_id) if self._trees else []
        failed = record.broken or record.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if record.route in PROBES and not (failed and record.code):  # the verdict `unhealthy` is a 503 without a code
            level = logging.DEBUG
        else:
            level = logging.WARNING if failed else logging.INFO
        if not logger.isEnabledFor(level):
            return
        fields = request_fields(record)
        is_slow = fields["duration_ms"] >= self._slow_ms and not record.is_event_stream
        tree = draw_tree(spans) if failed or is_slow else []
        message = f"{fields['method']} {record.route or '-'} {record.status or 'unanswered'}"
        logger.log(level, "%s", message, extra={"line": Line(fields, context, tree)})


def request_fields(record: Record) -> dict[str, Any]:
    """Return what a request's line says."""
    client = record.scope.get("client")
    fields = {
        "method": record.scope["method"],
        "route": record.route,
        "status": record.status or None,
        "duration_ms": round(((record.ended or perf_counter()) - record.started) * 1000, 1),
        "db_ms": round(record.query_seconds * 1000, 1),
        "db_queries": record.queries,
        **size_fields(record),
        "user_id": record.principal and record.principal.user_id,
        "code": record.code,
        "spent": record.spent,
        "unanswered": record.unanswered,
        "client": client[0] if client else None,
    }
    if record.spent and record.longest_query:
        fields |= {"longest_query": record.longest_query, "longest_query_ms": round(record.longest_seconds * 1000, 1)}
    return {name: value for name, value in fields.items() if value is not None}


def request_attributes(record: Record) -> Attributes:
    """Return what the server span says of the whole request."""
    repeat = max(record.repeats.values(), default=0)
    server = record.scope.get("server")
    found: Attributes = {
        "server.address": server[0] if server else "",  # the instrumentation's has the port in it
        "app.db.query_count": record.queries,
        "app.db.duration_ms": round(record.query_seconds * 1000, 3),
        "app.db.max_repeat": repeat,
    }
    if repeat >= N_PLUS_ONE:
        found["app.db.n_plus_one"] = True
    if record.principal:
        found["user.id"] = record.principal.user_id
    if record.unanswered:
        found["app.db.unanswered"] = record.unanswered
    if record.code:
        found[PROBLEM] = record.code
    return found


class BeforeSpan:
    """Outside of the server span: decides whether there will be one, and hides what must not be on it.

    That is the query string, and all headers but a few.
    """

    def __init__(self, app: ASGIApp, settings: Settings, sampling: Sampling | None) -> None:
        self._app, self._callers, self._sampling = app, Callers(settings), sampling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record, headers = current(), scope["headers"]
        record.hidden = headers, scope["query_string"]
        scope = {**scope, "headers": self._callers.filter_headers(headers, record), "query_string": b""}
        if get_route_path(scope) not in PROBES and self._sampling:
            record.context = self._sampling.decide(record, scope["headers"])
        # Not the context at hand: a server begins a pipelined request in that of the one before.
        token = attach(Context() if record.is_traced else UNTRACED)
        try:
            await self._app(scope, receive, send)
        finally:
            detach(token)


class WithinSpan:
    """Inside of the server span: gives the request back whole, and lets no exception reach the span with its message.

    `answer` makes the answer to an exception that nobody caught.
    """

    def __init__(
        self, app: ASGIApp, tracer: Tracer, answer: Callable[[Request, BaseException], Awaitable[Response]]
    ) -> None:
        self._app, self._tracer, self._answer = app, tracer, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = current()
        if record.hidden:
            scope["headers"], scope["query_string"] = record.hidden
        if record.context:
            attach(record.context)  # until BeforeSpan detaches its own
        record.span = get_current_span()
        if record.caller and record.caller.trace_id != record.span.get_span_context().trace_id:
            record.span.add_link(record.caller)  # otherwise it is the parent
        late: BaseException | None = None
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:  # nobody is there any more
            pass
        except (Exception, CancelledError) as error:  # noqa: BLE001  whatever it is, it gets its answer
            if record.ended and record.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                late = error
            elif record.status or not isinstance(error, CancelledError):
                note_failure(record, error)
            if not record.status:
                response = await self._answer(Request(scope, receive), error)
                await response(scope, receive, send)
        self._note_work_after(record, late)

    def _note_work_after(self, record: Record, error: BaseException | None) -> None:
        """Tell what went on after the answer: background tasks, and whatever failed."""
        note_sizes(record)
        record_waits(self._tracer, record)
        if error:
            logger.error("work after the answer failed: %s", type(error).__qualname__, exc_info=error)
        if record.ended and (record.goes_on or error):
            name = "background task" if record.goes_on else "end of a dependency"
            failure = failure_event(error) if error else None
            record_span(self._tracer, name, record.ended, perf_counter(), failure=failure)
