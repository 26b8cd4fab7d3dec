"""What telemetry makes of a request's record, and the two layers around the instrumentation's server span.

They decide whom to believe, keep from the span what must not be on it, and write headers, totals and the log's line.
"""

import logging
from asyncio import CancelledError, get_running_loop
from functools import lru_cache
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from time import perf_counter
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from opentelemetry.propagate import get_global_textmap
from opentelemetry.trace import INVALID_SPAN, SpanContext, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette._utils import get_route_path, is_async_callable
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import UNKNOWN, AppError, Unavailable, problem
from app.record import CURRENT, PROBES, Headers, Record
from app.settings import Settings
from app.telemetry.logs import RequestLog, stack
from app.telemetry.metrics import Metrics
from app.telemetry.spans import record_span, record_waits

N_PLUS_ONE = 5  # runs of one statement in one request
MAX_USER_AGENT = 256
PEERS = 1024  # whose addresses are kept with the verdict on them
BROKEN = "answer_broken"
SAFE = {"GET", "HEAD"}  # RFC 9110, 9.2.1: a request that was cut changed nothing
with suppress_http_instrumentation():
    UNTRACED = get_current()  # of probes, which would outnumber the users

logger = logging.getLogger("app.requests")


class RequestObserver:
    """Tells of each request: on its answer, on its span and in the log."""

    def __init__(self, tracer: Tracer, metrics: Metrics | None, log: RequestLog) -> None:
        self._tracer, self._metrics, self._log = tracer, metrics, log

    def answer(self, record: Record) -> Headers:
        """Put what is known now on the span, which ends with the answer; return the headers that lead to the trace."""
        headers: Headers = []
        context = record.span.get_span_context()
        timing = b""
        if context.is_valid:
            headers.append((b"x-trace-id", b"%032x" % context.trace_id))
            ids = context.trace_id, context.span_id, context.trace_flags.sampled
            timing = b', traceparent;desc="00-%032x-%016x-%02x"' % ids
        if record.is_api:
            database_ms, total_ms = record.query_seconds * 1000, (perf_counter() - record.started) * 1000
            headers.append((b"server-timing", b"db;dur=%.1f, total;dur=%.1f%b" % (database_ms, total_ms, timing)))
        if record.span.is_recording():
            record.span.set_attributes(totals(record))
            record_waits(self._tracer, record)
        if self._metrics and record.connection_wait is not None:
            self._metrics.database.wait(record.thread_wait + record.connection_wait)
        return headers

    def end(self, record: Record) -> None:
        """Write the request's line, once the layers inside have ended their spans."""
        get_running_loop().call_soon(self._log.write, record)


def totals(record: Record) -> dict[str, str | int | float | bool]:
    """Return what the server span says of the whole request."""
    repeat = max(record.repeats.values(), default=0)
    server = record.scope.get("server")
    found: dict[str, str | int | float | bool] = {
        "server.address": server[0] if server else "",  # the instrumentation's has the port in it
        "app.db.query_count": record.queries,
        "app.db.duration_ms": round(record.query_seconds * 1000, 3),
        "app.db.max_repeat": repeat,
    }
    if repeat >= N_PLUS_ONE:
        found["app.db.n_plus_one"] = True
    if record.principal:
        found["user.id"] = record.principal.user_id
    return found


class BeforeSpan:
    """Just outside the server span: hides the query string and all headers but those that may be on it.

    The instrumentation would also raise for some bytes, and believe any caller. An untrusted `traceparent`
    becomes a link (https://www.w3.org/TR/trace-context/#security-considerations). For a browser that is followed, only
    its two ids are passed on.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._trusted = app, settings.trust_traceparent
        followed = settings.cors_origins if settings.trust_browser_traceparent else ()
        self._followed = [[origin.encode()] for origin in followed]
        self._fields = frozenset(name.encode() for name in get_global_textmap().fields)
        self._trusts = lru_cache(PEERS)(self._is_trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if record := CURRENT.get():
            headers: Headers = scope["headers"]
            record.hidden = headers, scope["query_string"]
            scope = {**scope, "headers": self._shown(headers, record), "query_string": b""}
        if scope["type"] == "http" and get_route_path(scope) in PROBES:
            context = UNTRACED
        elif get_current_span() is INVALID_SPAN:
            await self._app(scope, receive, send)
            return
        else:
            context = Context()  # a server begins a pipelined request in the context of the one before
        token = attach(context)
        try:
            await self._app(scope, receive, send)
        finally:
            detach(token)

    def _shown(self, headers: Headers, record: Record) -> Headers:
        agents = [(name, _text(value)) for name, value in headers if name == b"user-agent"]
        context = [(name, value) for name, value in headers if name in self._fields and value.isascii()]
        if not context or self._trusts(record.peer):
            return agents + context
        record.caller = caller = _named(context)
        if caller and [value for name, value in headers if name == b"origin"] in self._followed:
            return [*agents, (b"traceparent", b"00-%032x-%016x-00" % (caller.trace_id, caller.span_id))]
        return agents

    def _is_trusted(self, peer: str | None) -> bool:
        try:
            address = ip_address(peer or "")
        except ValueError:  # a unix socket has no address
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._trusted)


def _named(context: Headers) -> SpanContext | None:
    """Return the caller's span, where exactly one `traceparent` names one."""
    parents = [value.decode("ascii") for name, value in context if name == b"traceparent"]
    carrier = {"traceparent": parents[0]} if len(parents) == 1 else {}
    named = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    return named if named.is_valid else None


def _text(value: bytes) -> bytes:
    return value[:MAX_USER_AGENT].decode("utf-8", "replace").encode()


class WithinSpan:
    """Inside the server span: gives the request back whole, and answers what nobody caught.

    An exception that passed the instrumentation would leave its message on the span, and with it what a client sent.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = CURRENT.get()
        if record is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if record.hidden:
            scope["headers"], scope["query_string"] = record.hidden
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
                fail(record, error)
            if not record.status:
                response = await answer_unexpected(Request(scope, receive), error)
                await response(scope, receive, send)
        self._follow(record, late)

    def _follow(self, record: Record, error: BaseException | None) -> None:
        """Tell what went on after the answer: background tasks, and whatever failed."""
        record_waits(self._tracer, record)
        if error:
            logger.error("work after the answer failed: %s", type(error).__qualname__, exc_info=error)
        if record.ended and (record.goes_on or error):
            name = "background task" if record.goes_on else "end of a dependency"
            record_span(
                self._tracer, name, record.ended, perf_counter(), failure=failure_event(error) if error else None
            )


def fail(record: Record, error: BaseException) -> None:
    """Leave what nobody caught on the span and in the log, without its message."""
    event = failure_event(error)
    kind = event["exception.type"]
    record.span.set_status(StatusCode.ERROR, kind)
    record.span.add_event("exception", event)
    if record.status and not record.ended:
        record.broken = True
        record.code, record.status = BROKEN, HTTPStatus.INTERNAL_SERVER_ERROR
        logger.error("the answer broke off: %s", kind, exc_info=error)
    else:
        logger.error("unexpected error: %s", kind, exc_info=error)


def failure_event(error: BaseException) -> dict[str, str]:
    """Return what is told of an exception: its type and where it was raised."""
    return {"exception.type": type(error).__qualname__, "exception.stacktrace": stack(error)}


async def answer_unexpected(request: Request, error: Any) -> Response:
    """Return the answer to what nobody caught, by the application's handler for it, which may be a team's.

    A request is cancelled where the process leaves and cannot wait for it any longer.
    """
    if isinstance(error, CancelledError):
        return problem(Unavailable(None if request.method in SAFE else UNKNOWN))
    handlers = request.app.exception_handlers
    handler = handlers.get(500) or handlers[Exception]
    try:
        if is_async_callable(handler):
            response: Response = await handler(request, error)
            return response
        return await run_in_threadpool(handler, request, error)
    except Exception as second:
        logger.exception("the handler of unexpected errors failed: %s", type(second).__qualname__)
        return problem(AppError())
