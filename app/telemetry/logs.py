"""Log lines of one shape, whoever writes them: JSON for a collector, or readable text in a terminal.

In JSON no line holds the message of an exception: it may quote what a client sent. A database's message is in none.
"""

import json
import logging
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg2
from opentelemetry.trace import SpanContext, format_span_id, format_trace_id, get_current_span
from sqlalchemy.exc import DBAPIError

from app.settings import NO_REVISION, Settings

PLAIN, FAINT, YELLOW, RED = "\033[0m", "\033[2m", "\033[33m", "\033[31m"
COLOURS = {"DEBUG": FAINT, "WARNING": YELLOW, "ERROR": RED, "CRITICAL": RED}
FIRST_LINE_ONLY = {"asyncio", "py.warnings"}  # values follow on the lines after it
# Below WARNING they write values, queries and headers; Alembic writes each of its steps.
TALKATIVE = ("alembic", "httpcore", "httpx", "sqlalchemy", "urllib3")
# Of what code adds to a line by `extra` (https://docs.python.org/3/library/logging.html#logging.Logger.debug):
MAX_FIELDS = 32
MAX_NAME = 64
MAX_CHARACTERS = 4096  # of one value
STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
STANDARD.add("color_message")  # uvicorn's message once more, for its own formatter

encode = json.JSONEncoder(allow_nan=False, default=str).encode  # `json.dumps` would make one for each line


class Line(NamedTuple):
    """What app.telemetry itself adds to a line, as the field `line` of `extra`."""

    fields: Mapping[str, Any] = {}
    span: SpanContext | None = None  # the span that the line belongs to, if it is not the current one
    tree: Sequence[str] | None = None  # a request's trace, for a terminal


def in_terminal(settings: Settings) -> bool:
    """Tell whether lines are for a reader rather than for a collector."""
    return settings.log_format == "console" or (settings.log_format == "auto" and sys.stdout.isatty())


def configure(settings: Settings) -> None:
    """Send every logger's lines to standard output, in one form. For a whole process, at its start."""
    handler = logging.StreamHandler(sys.stdout)
    for_reader = in_terminal(settings)
    formatter = ConsoleFormatter(colours=sys.stdout.isatty()) if for_reader else JsonFormatter(settings.revision)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=settings.log_level, force=True)
    logging.captureWarnings(capture=True)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line names them
    logging._srcfile = None  # nor where it was written (Logging HOWTO, "Optimization")
    for library in TALKATIVE:
        logging.getLogger(library).setLevel(logging.WARNING)
    threading.excepthook = log_thread


def log_thread(failed: threading.ExceptHookArgs) -> None:
    """Log what ended a thread; Python would print it, with its message."""
    if failed.exc_value and not isinstance(failed.exc_value, SystemExit):
        kind = type(failed.exc_value).__qualname__
        logging.getLogger(__name__).error("a thread failed: %s", kind, exc_info=failed.exc_value)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII: nothing in it can end the line or move a cursor."""

    def __init__(self, revision: str = NO_REVISION) -> None:
        super().__init__()
        self._revision = {} if revision == NO_REVISION else {"revision": revision}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry = entry_of(record)
        entry["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return encode(self._revision | entry)


class ConsoleFormatter(logging.Formatter):
    """A readable line, and under it what explains it: a stack, or a trace."""

    lead = "trace "  # what stands before the id of a trace

    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """Return the line and what belongs to it."""
        own = line_of(record)
        details = [] if own.tree is None else [summarize(own.fields)]  # only a request's line has a tree
        details += [f"{encode(name)[1:-1]}={encode(value)}" for name, value in extra_fields(record).items()]
        time = datetime.fromtimestamp(record.created)  # noqa: DTZ006  the reader's own clock
        line = printable("  ".join([f"{time:%H:%M:%S} {record.levelname:7} {message_of(record)}", *details]))
        if self._colours:
            line = f"{COLOURS.get(record.levelname, '')}{line}{PLAIN}"
        if (context := context_of(record)).is_valid:
            line += f"  {self.lead}{format_trace_id(context.trace_id)}"
        below = [*(own.tree or ()), *([record.stack_info] if record.stack_info else [])]
        if record.exc_info and (error := record.exc_info[1]):
            below.append(stack(error, messages=True))
        return "\n".join([line, *map(printable, below)])


def entry_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a line says, wherever it goes. No exception's message is in it."""
    context = context_of(record)
    entry = {"time": record.created, "level": record.levelname, "logger": record.name, "message": message_of(record)}
    if context.is_valid:
        entry |= {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}
    entry |= line_of(record).fields
    if record.exc_info and (error := record.exc_info[1]):
        entry["stack"] = stack(error)
    elif record.stack_info:
        entry["stack"] = record.stack_info
    for name, value in extra_fields(record).items():
        entry[f"extra.{name}" if name in entry else name] = value
    return entry


def printable(text: str) -> str:
    """Return the text without what would move a terminal's cursor or change its colours."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def message_of(record: logging.LogRecord) -> str:
    """Return the message of a line, or only its first line."""
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001  arguments that do not fit, which Python would print with a stack
        return text_of(record.msg)
    return message.partition("\n")[0] if record.name in FIRST_LINE_ONLY else message


def context_of(record: logging.LogRecord) -> SpanContext:
    """Return the span that a line belongs to: the one it names, or the current one."""
    return line_of(record).span or get_current_span().get_span_context()


def stack(error: BaseException, *, messages: bool = False) -> str:
    """Return where `error` and what caused it were raised. Their `messages` are only for a developer's eyes."""
    parts: list[str] = []
    link: BaseException | None = error
    while link and len(parts) < sys.getrecursionlimit():  # causes may form a circle
        message = f": {text_of(link)}" if messages and not isinstance(link, (DBAPIError, psycopg2.Error)) else ""
        parts.append("".join(traceback.format_tb(link.__traceback__)) + type(link).__qualname__ + message)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\ncaused by\n".join(parts)


def summarize(fields: Mapping[str, Any]) -> str:
    """Return what a reader in a terminal wants to know of a request beside the message."""
    parts = [f"{fields['duration_ms']} ms"]
    if count := fields["db_queries"]:
        parts.append(f"{count} {'query' if count == 1 else 'queries'} of {fields['db_ms']} ms")
    parts += [fields[name] for name in ("user_id", "code") if name in fields]
    if spent := fields.get("spent"):
        parts.append("spent: " + " ".join(f"{name.removesuffix('_ms')} {value} ms" for name, value in spent.items()))
    if "longest_query" in fields:
        parts.append(f"longest query: {fields['longest_query']} {fields['longest_query_ms']} ms")
    return ", ".join(parts)


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
        text = encode(value)
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
