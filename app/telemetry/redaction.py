"""What a span must not tell, whoever made it: the message of an exception, and the query of a URL.

Both may hold what a client sent. OpenTelemetry's SDK records an exception with its message and a stack that repeats it;
instrumentations of HTTP clients record the URL that they ask.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Status

OWN = {"app", "opentelemetry.instrumentation.fastapi"}  # scopes whose attributes hold no URL with a query
URLS = ("http.target", "http.url", "url.full")  # https://opentelemetry.io/docs/specs/semconv/registry/attributes/url/
QUERY = "url.query"
MESSAGE, STACK, TYPE = "exception.message", "exception.stacktrace", "exception.type"
FRAME = re.compile(r'^  File ".*", line \d+, in .*$', re.MULTILINE)  # the lines of a stack that hold no message


def redacted(span: ReadableSpan) -> ReadableSpan:
    """Return the span without messages and queries."""
    scope, events = span.instrumentation_scope, span.events
    if not events and scope and scope.name in OWN:
        return span
    return ReadableSpan(
        span.name,
        span.context,
        span.parent,
        span.resource,
        _without_queries(span.attributes or {}),
        [_without_message(event) for event in events],
        span.links,
        span.kind,
        status=_without_messages(span.status, events),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=scope,
    )


def _without_queries(attributes: Mapping[str, Any]) -> dict[str, Any]:
    urls = {name: str(attributes[name]).partition("?")[0] for name in URLS if name in attributes}
    return {name: value for name, value in attributes.items() if name != QUERY} | urls


def _without_message(event: Event) -> Event:
    attributes = dict(event.attributes or {})
    if attributes.pop(MESSAGE, None) is None:
        return event
    attributes[STACK] = "\n".join(FRAME.findall(str(attributes.get(STACK, ""))))
    return Event(event.name, attributes, event.timestamp)


def _without_messages(status: Status, events: Sequence[Event]) -> Status:
    """Return the status; where the SDK described it by an exception, only with the exception's type."""
    for event in events:
        kind, message = (str((event.attributes or {}).get(name, "")) for name in (TYPE, MESSAGE))
        if message and status.description == f"{kind.rpartition('.')[2]}: {message}":
            return Status(status.status_code, kind)
    return status
