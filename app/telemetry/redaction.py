"""What a span must not tell, whoever made it: the message of an exception, and the query of a URL.

Both may hold what a client sent. OpenTelemetry's SDK records an exception with its message, which is in its stack and
in the status too. Instrumentations of HTTP clients record the URL that they call.
"""

import re
from collections.abc import Mapping
from os.path import isfile
from typing import Any, cast

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
    return cast(ReadableSpan, RedactedSpan(span))


class RedactedSpan:
    """Reads as the span does, but for the fields that are set here."""

    def __init__(self, span: ReadableSpan) -> None:
        self._span = span
        self.name = replace_surrogates(span.name)
        self.attributes = remove_queries(span.attributes or {})
        self.events = [remove_message(event) for event in span.events]
        self.status = Status(span.status.status_code, find_reason(span))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._span, name)


def replace_surrogates(text: str) -> str:
    """Return a text that can be encoded: a lone surrogate becomes a question mark."""
    return str(text).encode("utf-8", "replace").decode()


def remove_queries(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes, with URLs that end before query and fragment."""
    kept = {name: value for name, value in attributes.items() if name != QUERY}
    return kept | {name: re.split(r"[?#]", str(kept[name]), maxsplit=1)[0] for name in URLS & kept.keys()}


def remove_message(event: Event) -> Event:
    """Return the event of an exception with its type and, of the stack, only the lines that name a file."""
    attributes = remove_queries(event.attributes or {})
    has_message = attributes.pop(MESSAGE, None) is not None
    stack = str(attributes.get(STACK, ""))
    if has_message or TRACEBACK in stack:
        frames = (frame[0] for frame in FRAME.finditer(stack) if isfile(frame[1]))  # noqa: PTH113  pathlib may raise
        attributes[STACK] = "\n".join(frames)
    return Event(replace_surrogates(event.name), attributes, event.timestamp)


def find_reason(span: ReadableSpan) -> str | None:
    """Return the status's description if it is ours, else at most the type of an exception that is an event too."""
    description = span.status.description or ""
    if span.instrumentation_scope and span.instrumentation_scope.name == APP:
        return description
    kind = description.partition(":")[0]  # the SDK's is `ValueError: its message`
    recorded = [str((event.attributes or {}).get(TYPE, "")) for event in span.events]
    return kind if kind in {part for name in recorded for part in (name, name.rpartition(".")[2])} else None
