"""What a span must not tell, whoever made it: the message of an exception, and the query of a URL.

Both may hold what a client sent. OpenTelemetry's SDK records an exception with its message, in its stack and in the
status too; instrumentations of HTTP clients record the URL that they ask.
"""

import re
from collections.abc import Mapping
from os.path import isfile
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanKind, Status

APP = "app"  # the scope of our own spans
OWN = {APP, "opentelemetry.instrumentation.fastapi"}  # scopes whose attributes hold no URL with a query
URLS = {"http.target", "http.url", "url.full"}  # https://opentelemetry.io/docs/specs/semconv/registry/attributes/url/
QUERY = "url.query"
MESSAGE, STACK, TYPE = "exception.message", "exception.stacktrace", "exception.type"
TRACEBACK = "Traceback (most recent call last)"  # the stack is the SDK's; ours holds no message
FRAME = re.compile(r'^ +(?:\| )*File "(.*)", line \d+, in [\w.<>]+$', re.MULTILINE)
MAX_TIME = 2**64  # nanoseconds


def redact(span: ReadableSpan) -> ReadableSpan:
    """Return the span without messages and queries.

    Raises:
        ValueError: its kind is none, or one of its times; a receiver would refuse the whole batch.

    """
    scope, events = span.instrumentation_scope, span.events
    if scope and scope.name in OWN and not events and not span.status.description and span.name.isascii():
        return span
    times = [span.start_time, span.end_time, *(event.timestamp for event in events)]
    if not isinstance(span.kind, SpanKind) or not all(isinstance(time, int) and 0 <= time < MAX_TIME for time in times):
        raise ValueError("a span without a kind or a time")
    return Redacted(span)


class Redacted(ReadableSpan):
    """A copy of a span, whose status names at most the type of an exception that is on the span as an event."""

    def __init__(self, span: ReadableSpan) -> None:
        self._whole = span
        super().__init__(
            encodable(span.name),
            span.context,
            span.parent,
            span.resource,
            without_queries(span.attributes or {}),
            [_without_message(event) for event in span.events],
            span.links,
            span.kind,
            status=Status(span.status.status_code, _reason(span)),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    @property
    def dropped_attributes(self) -> int:
        """Attributes beyond the limits."""
        return self._whole.dropped_attributes

    @property
    def dropped_events(self) -> int:
        """Events beyond the limit."""
        return self._whole.dropped_events

    @property
    def dropped_links(self) -> int:
        """Links beyond the limit."""
        return self._whole.dropped_links


def encodable(text: str) -> str:
    """Return a text that can be encoded: a lone surrogate becomes a question mark."""
    return str(text).encode("utf-8", "replace").decode()


def without_queries(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes whose URLs end before query and fragment."""
    kept = {name: value for name, value in attributes.items() if name != QUERY}
    return kept | {name: re.split(r"[?#]", str(kept[name]), maxsplit=1)[0] for name in URLS & kept.keys()}


def _without_message(event: Event) -> Event:
    attributes = without_queries(event.attributes or {})
    told = attributes.pop(MESSAGE, None) is not None
    stack = str(attributes.get(STACK, ""))
    if told or TRACEBACK in stack:
        frames = (frame[0] for frame in FRAME.finditer(stack) if isfile(frame[1]))  # noqa: PTH113  pathlib may raise
        attributes[STACK] = "\n".join(frames)
    return Event(encodable(event.name), attributes, event.timestamp)


def _reason(span: ReadableSpan) -> str | None:
    description = span.status.description or ""
    if span.instrumentation_scope and span.instrumentation_scope.name == APP:
        return description
    kind = description.partition(":")[0]  # the SDK's: `ValueError: its message`
    recorded = [str((event.attributes or {}).get(TYPE, "")) for event in span.events]
    return kind if kind in {part for name in recorded for part in (name, name.rpartition(".")[2])} else None
