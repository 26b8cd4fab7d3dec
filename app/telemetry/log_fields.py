"""The fields that code adds to a log line by `extra`: as JSON can hold them, and bounded.

https://docs.python.org/3/library/logging.html#logging.Logger.debug describes `extra`.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.trace import SpanContext

MAX_FIELDS = 32
MAX_NAME = 64
MAX_CHARACTERS = 4096  # of one value
UVICORN = "color_message"  # its message once more, for its own formatter
STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", UVICORN}

_encode = json.JSONEncoder(allow_nan=False, default=str).encode


class Line(NamedTuple):
    """What app.telemetry itself adds to a line, as the field `line` of `extra`."""

    fields: Mapping[str, Any] = {}
    span: SpanContext | None = None  # the span that the line belongs to, if it is not the current one
    tree: Sequence[str] | None = None  # a request's trace, for a terminal


def line_of(record: logging.LogRecord) -> Line:
    """Return what app.telemetry added; what others call `line` is a field like any other."""
    line = vars(record).get("line")
    return line if isinstance(line, Line) else Line()


def extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what others added; past MAX_FIELDS, how many were left out."""
    extra = {
        name: value for name, value in vars(record).items() if name not in STANDARD and not isinstance(value, Line)
    }
    fields = {text_of(name)[:MAX_NAME]: json_value(extra[name]) for name in [*extra][:MAX_FIELDS]}
    return fields | ({"fields_left_out": len(extra) - MAX_FIELDS} if len(extra) > MAX_FIELDS else {})


def json_value(value: Any) -> Any:
    """Return the value as JSON holds it, else its text; of a long one the beginning."""
    if type(value) is str:
        return cut(value)
    try:
        text = _encode(value)
    except Exception:  # noqa: BLE001  whatever a value does when it is read, its line is written
        return cut(text_of(value))
    return json.loads(text) if len(text) <= MAX_CHARACTERS else cut(text)


def text_of(value: Any) -> str:
    """Return the text of a value, or its type where it has none."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001  see above
        return f"<{type(value).__qualname__}>"


def cut(text: str) -> str:
    """Return the first MAX_CHARACTERS of a text, marked where more follow."""
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"
