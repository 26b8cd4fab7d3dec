"""Spans as OTLP's JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).

An encoder of our own because the official ones cost three to five times as much, in a thread that shares the
interpreter's lock with the requests. Attributes repeat from span to span, so the JSON of each is kept.
"""

# ruff: noqa: UP031  JSON is full of braces, which % leaves as they are
import base64
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from time import sleep
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext

CACHED_ATTRIBUTES = 4096
CACHED_CHARACTERS = 1024  # longer values are plans: rare, never the same twice, and 4096 of them are many megabytes
YIELD_EVERY = 8  # spans
INT64 = 2**63  # a receiver refuses the whole batch for a number beyond
HAS_IS_REMOTE, IS_REMOTE = 0x100, 0x200  # opentelemetry.proto.trace.v1.SpanFlags

REQUEST = '{"resourceSpans":[{"resource":{"attributes":[%s]},"schemaUrl":%s,"scopeSpans":[%s]}]}'
SCOPE = '{"scope":{"name":%s,"version":%s,"attributes":[%s]},"schemaUrl":%s,"spans":[%s]}'
SPAN = (
    '{"traceId":"%032x","spanId":"%016x","parentSpanId":"%s","traceState":%s,"flags":%d,"name":%s,"kind":%d,'
    '"startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[%s],"droppedAttributesCount":%d,'
    '"events":[%s],"droppedEventsCount":%d,"links":[%s],"droppedLinksCount":%d,"status":{"code":%d,"message":%s}}'
)
EVENT = '{"name":%s,"timeUnixNano":"%d","attributes":[%s],"droppedAttributesCount":%d}'
LINK = '{"traceId":"%032x","spanId":"%016x","flags":%d,"attributes":[%s],"droppedAttributesCount":%d}'
ATTRIBUTE = '{"key":%s,"value":%s}'


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """Return the body of an ExportTraceServiceRequest with `spans`, all of one resource."""
    scopes: dict[Any, list[str]] = {}
    for number, span in enumerate(spans):
        scopes.setdefault(span.instrumentation_scope, []).append(_span(span))
        if number % YIELD_EVERY == 0:
            sleep(0)  # a request that waits for the interpreter's lock gets it now, not in 5 ms
    resource = spans[0].resource
    groups = ",".join(map(_scope, scopes, scopes.values()))
    return (REQUEST % (_attributes(resource.attributes), _text(resource.schema_url), groups)).encode("ascii")


def _scope(scope: Any, spans: Sequence[str]) -> str:
    attributes = _attributes(scope.attributes)
    return SCOPE % (_text(scope.name), _text(scope.version), attributes, _text(scope.schema_url), ",".join(spans))


def _span(span: ReadableSpan) -> str:
    context, parent, status = span.context, span.parent, span.status
    assert context
    return SPAN % (
        context.trace_id,
        context.span_id,
        "%016x" % parent.span_id if parent else "",
        _text(context.trace_state.to_header()) if context.trace_state else '""',
        _flags(parent),
        _text(span.name),
        span.kind.value + 1,
        span.start_time or 0,
        span.end_time or 0,
        _attributes(span.attributes),
        span.dropped_attributes,
        ",".join(map(_event, span.events)) if span.events else "",
        span.dropped_events,
        ",".join(map(_link, span.links)) if span.links else "",
        span.dropped_links,
        status.status_code.value,
        _text(status.description),
    )


def _flags(context: SpanContext | None) -> int:
    return HAS_IS_REMOTE | (IS_REMOTE if context and context.is_remote else 0)


def _event(event: Event) -> str:
    return EVENT % (_text(event.name), event.timestamp, _attributes(event.attributes), event.dropped_attributes)


def _link(link: Link) -> str:
    context, attributes = link.context, _attributes(link.attributes)
    return LINK % (context.trace_id, context.span_id, _flags(context), attributes, link.dropped_attributes)


def _attributes(attributes: Mapping[str, Any] | None) -> str:
    return ",".join([_attribute(name, value) for name, value in attributes.items()]) if attributes else ""


def _attribute(name: str, value: Any) -> str:
    if isinstance(value, (bool, int)) or (isinstance(value, str) and len(value) < CACHED_CHARACTERS):
        return _cached_attribute(name, value)
    return ATTRIBUTE % (_text(name), _value(value))


@lru_cache(CACHED_ATTRIBUTES, typed=True)  # typed: 1 and True are equal, and not the same
def _cached_attribute(name: str, value: Any) -> str:
    return ATTRIBUTE % (_text(name), _value(value))


def _value(value: Any) -> str:  # noqa: PLR0911  one line for each kind of AnyValue
    if isinstance(value, bool):
        return '{"boolValue":true}' if value else '{"boolValue":false}'
    if isinstance(value, str):
        return '{"stringValue":%s}' % _text(value)
    if isinstance(value, int):
        return '{"intValue":"%d"}' % value if -INT64 <= value < INT64 else '{"stringValue":"%s"}' % hex(value)
    if isinstance(value, float):
        return '{"doubleValue":%s}' % (float.__repr__(value) if math.isfinite(value) else _non_finite(value))
    if isinstance(value, bytes):
        return '{"bytesValue":"%s"}' % base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return '{"kvlistValue":{"values":[%s]}}' % _attributes(value)
    if isinstance(value, Sequence):
        return '{"arrayValue":{"values":[%s]}}' % ",".join(map(_value, value))
    return "{}"


def _non_finite(value: float) -> str:
    """Return the spelling of protobuf's JSON (https://protobuf.dev/programming-guides/json/)."""
    return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


def _text(text: str | None) -> str:
    """Return `text` quoted. A lone surrogate, which is no text in any encoding, becomes a question mark."""
    text = text or ""
    return encode_basestring_ascii(text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8"))
