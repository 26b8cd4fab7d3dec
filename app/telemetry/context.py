"""What is known of the request at hand. Its event loop and its worker thread share one record, never at one time."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter, time_ns

from opentelemetry.trace import INVALID_SPAN, Span, SpanContext, SpanKind, StatusCode, Tracer, set_span_in_context
from starlette.types import Scope

WAIT_S = 0.005  # a wait worth a span: shorter ones are the interpreter's own switching (sys.getswitchinterval)

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Record:
    """One request: its span, what it asked of the database, and how it was answered."""

    tracer: Tracer
    scope: Scope
    started: float = field(default_factory=perf_counter)
    hidden: tuple[Headers, bytes] | None = None  # headers and query string, while the span must not see them
    peer: str | None = None  # at the other end of the socket, whatever a proxy says of its client
    caller: SpanContext | None = None  # whom an untrusted traceparent named
    span: Span = INVALID_SPAN
    status: int = 0
    queries: int = 0
    query_seconds: float = 0.0
    repeats: dict[str, int] = field(default_factory=dict)

    @property
    def user_id(self) -> str | None:
        """Who asks, once that is verified."""
        principal = self.scope["state"].get("principal")
        return str(principal.user_id) if principal else None

    @property
    def route(self) -> str | None:
        """The template of the route that answered."""
        return getattr(self.scope.get("route"), "path", None)

    def asked(self, statement: str, seconds: float) -> None:
        """Count one statement that took `seconds`."""
        self.queries += 1
        self.query_seconds += seconds
        self.repeats[statement] = self.repeats.get(statement, 0) + 1

    def waited(self, pool: str, start: float, end: float, error: str | None = None) -> None:
        """Note a wait for one of `pool`, from `start` to `end` by `perf_counter`, where it was long or in vain."""
        if (end - start < WAIT_S and not error) or not self.span.is_recording():
            return
        attributes = {"app.pool": pool} | ({"error.type": error} if error else {})
        parent, since_epoch = set_span_in_context(self.span), time_ns() - int(perf_counter() * 1e9)
        span = self.tracer.start_span(
            "pool wait", parent, SpanKind.INTERNAL, attributes, (), since_epoch + int(start * 1e9)
        )
        if error:
            span.set_status(StatusCode.ERROR, error)
        span.end(since_epoch + int(end * 1e9))


CURRENT: ContextVar[Record | None] = ContextVar("request", default=None)
