"""The layers that see each request: one around everything, one on each side of the instrumentation's server span.

They decide whom to believe, keep from the span what must not be on it, and write headers, totals and the log's line.
"""

import logging
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from time import perf_counter

from opentelemetry.propagate import get_global_textmap
from opentelemetry.trace import StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import AppError, problem
from app.setting_types import Network
from app.telemetry.context import CURRENT, Headers, Record
from app.telemetry.logs import RequestLog, stack

API = "/api/"
N_PLUS_ONE = 5  # runs of one statement in one request
MAX_USER_AGENT = 256
PEERS = 1024  # whose addresses are kept with the verdict on them

logger = logging.getLogger("app.requests")


class Observed:
    """Around everything: begins the record, sets the headers that lead to the trace, and has the line written."""

    def __init__(self, app: ASGIApp, tracer: Tracer, log: RequestLog) -> None:
        self._app, self._tracer, self._log = app, tracer, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        client = scope.get("client")
        record = Record(self._tracer, scope, peer=client[0] if client else None)

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered(record, message)
            await send(message)

        CURRENT.set(record)
        try:
            await self._app(scope, receive, tell)
        finally:
            self._log.write(record)


def answered(record: Record, message: Message) -> None:
    """Put what is known now on the answer and on the span, which ends with the answer."""
    record.status = message["status"]
    headers, context = message.setdefault("headers", []), record.span.get_span_context()
    if context.is_valid:
        headers.append((b"x-trace-id", b"%032x" % context.trace_id))
    database_ms, total_ms = record.query_seconds * 1000, (perf_counter() - record.started) * 1000
    if record.scope["path"].startswith(API):
        headers.append((b"server-timing", b"db;dur=%.1f, total;dur=%.1f" % (database_ms, total_ms)))
    if record.span.is_recording():
        record.span.set_attributes(totals(record))
        handover = record.scope["state"].get("handover")
        if handover and handover.taken:
            record.waited("threads", handover.handed, handover.taken)


def totals(record: Record) -> dict[str, str | int | float | bool]:
    """Return what the server span says of the whole request."""
    repeat = max(record.repeats.values(), default=0)
    found: dict[str, str | int | float | bool] = {
        "server.address": record.scope["server"][0],  # the instrumentation's has the port in it
        "app.db.query_count": record.queries,
        "app.db.duration_ms": round(record.query_seconds * 1000, 3),
        "app.db.max_repeat": repeat,
    }
    if repeat >= N_PLUS_ONE:
        found["app.db.n_plus_one"] = True
    if record.user_id:
        found["user.id"] = record.user_id
    return found


class Veil:
    """Just outside the server span: hides the query string and all headers but those that may be on it.

    The instrumentation would also raise for some bytes, and believe any caller. Whom an untrusted `traceparent` names
    is linked to, not followed (https://www.w3.org/TR/trace-context/#security-considerations).
    """

    def __init__(self, app: ASGIApp, trusted: tuple[Network, ...]) -> None:
        self._app, self._trusted = app, trusted
        self._fields = frozenset(name.encode() for name in get_global_textmap().fields)
        self._trusts = lru_cache(PEERS)(self._is_trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if record := CURRENT.get():
            headers: Headers = scope["headers"]
            record.hidden = headers, scope["query_string"]
            scope = {**scope, "headers": self._shown(headers, record), "query_string": b""}
        await self._app(scope, receive, send)

    def _shown(self, headers: Headers, record: Record) -> Headers:
        agents = [(name, _text(value)) for name, value in headers if name == b"user-agent"]
        context = [(name, value) for name, value in headers if name in self._fields and value.isascii()]
        if context and not self._trusts(record.peer):
            parent = {name.decode(): value.decode("ascii") for name, value in context if name == b"traceparent"}
            named = get_current_span(TraceContextTextMapPropagator().extract(parent)).get_span_context()
            record.caller = named if named.is_valid else None
            return agents
        return agents + context

    def _is_trusted(self, peer: str | None) -> bool:
        try:
            address = ip_address(peer or "")
        except ValueError:  # a unix socket has no address
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._trusted)


def _text(value: bytes) -> bytes:
    return value[:MAX_USER_AGENT].decode("utf-8", "replace").encode()


class Unveiled:
    """Inside the server span: gives the request back whole, and answers what nobody caught.

    An exception that passed the instrumentation would leave its message on the span, and with it what a client sent.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = CURRENT.get()
        if record is None:
            await self._app(scope, receive, send)
            return
        if record.hidden:
            scope["headers"], scope["query_string"] = record.hidden
        record.scope, record.span = scope, get_current_span()
        if record.caller:
            record.span.add_link(record.caller)
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001  whatever it is, it gets its answer
            failed(record, error)
            if not record.status:
                await problem(AppError())(scope, receive, send)


def failed(record: Record, error: Exception) -> None:
    """Leave an unexpected exception on the span and in the log, without its message."""
    kind = type(error).__qualname__
    record.span.set_status(StatusCode.ERROR, kind)
    record.span.add_event("exception", {"exception.type": kind, "exception.stacktrace": stack(error)})
    logger.error("unexpected error: %s", kind, exc_info=error)
