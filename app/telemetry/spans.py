"""What is made of spans: one of what is over already, an exemplar, and the event of a failure."""

from time import perf_counter, time_ns

from opentelemetry.trace import SpanKind, StatusCode, Tracer, format_trace_id, get_current_span

from app.record import Record
from app.telemetry.logs import stack


def exemplar() -> dict[str, str] | None:
    """Return the label that leads from a number to the current trace (OpenMetrics 1.0, "Exemplars"), if it is kept."""
    context = get_current_span().get_span_context()
    return {"trace_id": format_trace_id(context.trace_id)} if context.trace_flags.sampled else None


def failure_event(error: BaseException) -> dict[str, str]:
    """Return the attributes of an exception: its type and where it was raised, without its message."""
    return {"exception.type": type(error).__qualname__, "exception.stacktrace": stack(error)}


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
    attributes: dict[str, str] | None = None,
    failure: dict[str, str] | None = None,
) -> None:
    """Make a span below the current one, from `start` to `end` by `perf_counter`; `failure` is what went wrong."""
    if not get_current_span().get_span_context().is_valid:
        return
    since_epoch = time_ns() - int(perf_counter() * 1e9)
    span = tracer.start_span(name, None, SpanKind.INTERNAL, attributes, (), since_epoch + int(start * 1e9))
    if failure:
        span.set_status(StatusCode.ERROR, failure["exception.type"])
        if "exception.stacktrace" in failure:
            span.add_event("exception", failure)
    span.end(since_epoch + int(end * 1e9))
