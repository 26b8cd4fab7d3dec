"""Spans and log lines as OTLP's JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).

An encoder of our own because the official ones cost three to five times as much, in a thread that shares the
interpreter's lock with the requests. Attributes repeat from item to item, so the form of each is kept.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from time import sleep
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext
from pydantic_core import to_json

from app.telemetry.log_line import LogLine

CACHED_ATTRIBUTES = 4096
CACHED_CHARACTERS = 1024  # longer values are plans: rare, never the same twice, and 4096 of them are many megabytes
YIELD_EVERY = 8  # spans, or lines
INT64 = 2**63  # a receiver refuses the whole batch for a number beyond
HAS_IS_REMOTE, IS_REMOTE = 0x100, 0x200  # opentelemetry.proto.trace.v1.SpanFlags

Json = dict[str, Any]


def encode_spans(spans: Sequence[ReadableSpan]) -> bytes:
    """Return the body of an ExportTraceServiceRequest with `spans`, all of one resource."""
    scopes: dict[Any, list[Json]] = {}
    for number, span in enumerate(spans):
        scopes.setdefault(span.instrumentation_scope, []).append(_span(span))
        if number % YIELD_EVERY == 0:
            sleep(0)  # a request that waits for the interpreter's lock gets it now, not in 5 ms
    resource = spans[0].resource
    group = {
        "resource": {"attributes": _attributes(resource.attributes)},
        "schemaUrl": resource.schema_url,
        "scopeSpans": [_scope(scope, found) for scope, found in scopes.items()],
    }
    return to_json({"resourceSpans": [group]}, inf_nan_mode="strings")


def encode_lines(lines: Sequence[LogLine]) -> bytes:
    """Return the body of an ExportLogsServiceRequest with `lines`, all of one resource."""
    records = []
    for number, line in enumerate(lines):
        records.append(_line(line))
        if number % YIELD_EVERY == 0:
            sleep(0)  # as above
    resource = lines[0].resource
    group = {
        "resource": {"attributes": _attributes(resource.attributes)},
        "schemaUrl": resource.schema_url,
        "scopeLogs": [{"logRecords": records}],
    }
    return to_json({"resourceLogs": [group]}, inf_nan_mode="strings")


def _line(line: LogLine) -> Json:
    context = line.context
    return {
        "timeUnixNano": str(line.time),
        "observedTimeUnixNano": str(line.time),
        "severityNumber": line.severity.value,
        "severityText": line.level,
        "body": {"stringValue": line.message},
        "attributes": _attributes(line.attributes),
        "traceId": f"{context.trace_id:032x}" if context.is_valid else "",
        "spanId": f"{context.span_id:016x}" if context.is_valid else "",
        "flags": context.trace_flags,
    }


def _scope(scope: Any, spans: list[Json]) -> Json:
    named = {"name": scope.name, "version": scope.version or "", "attributes": _attributes(scope.attributes)}
    return {"scope": named, "schemaUrl": scope.schema_url or "", "spans": spans}


def _span(span: ReadableSpan) -> Json:
    context, parent, status = span.context, span.parent, span.status
    assert context
    return {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "parentSpanId": f"{parent.span_id:016x}" if parent else "",
        "traceState": context.trace_state.to_header() if context.trace_state else "",
        "flags": _flags(parent),
        "name": _text(span.name),
        "kind": span.kind.value + 1,
        "startTimeUnixNano": str(span.start_time or 0),
        "endTimeUnixNano": str(span.end_time or 0),
        "attributes": _attributes(span.attributes),
        "droppedAttributesCount": span.dropped_attributes,
        "events": [_event(event) for event in span.events],
        "droppedEventsCount": span.dropped_events,
        "links": [_link(link) for link in span.links],
        "droppedLinksCount": span.dropped_links,
        "status": {"code": status.status_code.value, "message": _text(status.description or "")},
    }


def _flags(context: SpanContext | None) -> int:
    return HAS_IS_REMOTE | (IS_REMOTE if context and context.is_remote else 0)


def _event(event: Event) -> Json:
    return {
        "name": _text(event.name),
        "timeUnixNano": str(event.timestamp),
        "attributes": _attributes(event.attributes),
        "droppedAttributesCount": event.dropped_attributes,
    }


def _link(link: Link) -> Json:
    return {
        "traceId": f"{link.context.trace_id:032x}",
        "spanId": f"{link.context.span_id:016x}",
        "flags": _flags(link.context),
        "attributes": _attributes(link.attributes),
        "droppedAttributesCount": link.dropped_attributes,
    }


def _attributes(attributes: Mapping[str, Any] | None) -> list[Json]:
    return [_attribute(name, value) for name, value in attributes.items()] if attributes else []


def _attribute(name: str, value: Any) -> Json:
    if isinstance(value, int) or (isinstance(value, str) and len(value) < CACHED_CHARACTERS):
        return _cached_pair(name, value)
    return _pair(name, value)


def _pair(name: str, value: Any) -> Json:
    return {"key": _text(name), "value": _value(value)}


_cached_pair = lru_cache(CACHED_ATTRIBUTES, typed=True)(_pair)  # typed: 1 and True are equal, and not the same


def _value(value: Any) -> Json:  # noqa: PLR0911  one line for each kind of AnyValue
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, str):
        return {"stringValue": _text(value)}
    if isinstance(value, int):
        return {"intValue": int.__repr__(value)} if -INT64 <= value < INT64 else {"stringValue": hex(value)}
    if isinstance(value, float):
        return {"doubleValue": float(value)}
    if isinstance(value, bytes):
        return {"bytesValue": b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _attributes(value)}}
    if isinstance(value, Sequence):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {}


def _text(text: str) -> str:
    """Return `text`; a lone surrogate, which is no text in any encoding, becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
