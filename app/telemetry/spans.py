"""Spans that are made when what they tell of is over."""

from collections.abc import Mapping
from time import perf_counter, time_ns

from opentelemetry.trace import SpanKind, StatusCode, Tracer, get_current_span

from app.record import Record


def record_waits(tracer: Tracer, record: Record) -> None:
    """Make a span of each wait of a request that was long or in vain."""
    while record.waits:
        pool, start, end, error = record.waits.pop()
        attributes = {"app.pool": pool} | ({"error.type": error} if error else {})
        record_span(tracer, "pool wait", start, end, attributes, {"exception.type": error} if error else None)


def record_span(
    tracer: Tracer,
    name: str,
    start: float,
    end: float,
    attributes: Mapping[str, str] | None = None,
    failure: Mapping[str, str] | None = None,
) -> None:
    """Make a span below the current one, from `start` to `end` by `perf_counter`; `failure` is what went wrong."""
    if not get_current_span().get_span_context().is_valid:
        return
    since_epoch = time_ns() - int(perf_counter() * 1e9)
    span = tracer.start_span(name, None, SpanKind.INTERNAL, dict(attributes or {}), (), since_epoch + int(start * 1e9))
    if failure:
        span.set_status(StatusCode.ERROR, failure["exception.type"])
        if "exception.stacktrace" in failure:
            span.add_event("exception", dict(failure))
    span.end(since_epoch + int(end * 1e9))
