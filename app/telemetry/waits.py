"""What a request waited for, as spans: a place, or a step to the database. They are made when the wait is over."""

from time import perf_counter, time_ns

from opentelemetry.trace import SpanKind, StatusCode, Tracer, get_current_span

from app.record import Record, Wait
from app.telemetry.shapes import Attributes

STEPS = {  # to the database: the name of the span, and what was waited for
    "look-up": ("look-up", "the address of the database's host"),
    "connect": ("connect", "a new connection to PostgreSQL"),
    "ping": ("pool ping", "an answer of PostgreSQL on a connection that was idle"),
}
MAX_HOLDERS = 3  # that a wait names


def record_waits(tracer: Tracer, record: Record) -> None:
    """Make a span of each wait of a request that was long or in vain."""
    while record.waits:
        wait = record.waits.pop()
        name = STEPS[wait.kind][0] if wait.kind in STEPS else "pool wait"
        failure = {"exception.type": wait.error} if wait.error else None
        record_span(tracer, name, wait.start, wait.end, wait_attributes(wait), failure)


def wait_attributes(wait: Wait) -> Attributes:
    """Return what a wait was for, why it was in vain, and the routes and users that had all places, if any had."""
    found: Attributes = {"app.waited_for": STEPS[wait.kind][1]} if wait.kind in STEPS else {"app.pool": wait.kind}
    if wait.error:
        found["error.type"] = wait.error
    if wait.holders:
        routes = dict.fromkeys(f"{one.scope['method']} {one.route}" for one in wait.holders)
        users = dict.fromkeys(one.principal.user_id for one in wait.holders if one.principal)
        found["app.pool.held_by"] = [*routes][:MAX_HOLDERS]
        found["app.pool.held_by_users"] = [*users][:MAX_HOLDERS]
    return found


def record_span(
    tracer: Tracer,
    name: str,
    start: float,
    end: float,
    attributes: Attributes | None = None,
    failure: dict[str, str] | None = None,
) -> None:
    """Make a span below the current one, from `start` to `end` by `perf_counter`; `failure` is what went wrong."""
    if not get_current_span().get_span_context().trace_flags.sampled:
        return
    since_epoch = time_ns() - int(perf_counter() * 1e9)
    span = tracer.start_span(name, None, SpanKind.INTERNAL, attributes, (), since_epoch + int(start * 1e9))
    if failure:
        span.set_status(StatusCode.ERROR, failure["exception.type"])
        if "exception.stacktrace" in failure:
            span.add_event("exception", failure)
    span.end(since_epoch + int(end * 1e9))
