"""The fields that code adds to a log line by `extra`: as JSON can hold them, and bounded.

https://docs.python.org/3/library/logging.html#logging.Logger.debug describes `extra`.
"""

import json
import logging
from typing import Any

MAX_FIELDS = 32
MAX_NAME = 64
MAX_CHARACTERS = 4096  # of one value
OWN = ("_fields", "_span", "_tree")  # how app.telemetry hands its own to the formatters
UVICORN = "color_message"  # its message once more, for its own formatter
STANDARD = {*vars(logging.makeLogRecord({})), *OWN, "message", "asctime", "taskName", UVICORN}

_encode = json.JSONEncoder(allow_nan=False, default=str).encode


def added(record: logging.LogRecord) -> dict[str, Any]:
    """Return what the `extra` of a line holds; past MAX_FIELDS, how many were left out."""
    facts = vars(record)
    names = [name for name in facts if name not in STANDARD]
    fields = {str(name)[:MAX_NAME]: fit(facts[name]) for name in names[:MAX_FIELDS]}
    return fields | ({"fields_left_out": len(names) - MAX_FIELDS} if len(names) > MAX_FIELDS else {})


def fit(value: Any) -> Any:
    """Return the value if JSON can hold it, else its text; of a long one the beginning."""
    if isinstance(value, str):
        return cut(value)
    try:
        text = _encode(value)
    except Exception:  # noqa: BLE001  whatever a value does when it is read, its line is written
        return cut(text_of(value))
    return value if len(text) <= MAX_CHARACTERS else cut(text)


def text_of(value: Any) -> str:
    """Return the text of a value, or its type where it has none."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001  see above
        return f"<{type(value).__qualname__}>"


def cut(text: str) -> str:
    """Return the first MAX_CHARACTERS of a text, marked where more follow."""
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"
