"""A saved trace in the same page: OTLP's JSON, as the exporter writes it (one document, or one a line), or Jaeger's."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import socket
from typing import Any

import uvicorn
from opentelemetry.trace import SpanKind
from starlette.responses import RedirectResponse

from devtools.page.now import Now
from devtools.page.server import ROOT, Page
from devtools.page.store import FIELDS, Json, Store

FAILED = 2  # opentelemetry.proto.trace.v1.Status.StatusCode


class NoTrace(RuntimeError):
    """A file holds no trace; the message is one line."""


def replay(file: Path, port: int, say: Callable[[str], None]) -> None:
    """Show the traces of a file on a port of 127.0.0.1, or on any free one for 0, until Ctrl-C.

    Raises: NoTrace, or OSError for a port that is taken.
    """
    facts = {"title": "Replay", "replay": file.name, "slow_ms": 100, "started": time.time() * 1000}
    page = Page(RedirectResponse(f"{ROOT}/"), load(file), Now(None), facts, str)
    with socket() as listener:
        listener.bind(("127.0.0.1", port))
        say(f"  page   http://127.0.0.1:{listener.getsockname()[1]}{ROOT}/")
        uvicorn.Server(uvicorn.Config(page, log_level="warning", lifespan="off")).run(sockets=[listener])


def load(file: Path) -> Store:
    """Return a store with all spans of a file.

    Raises: NoTrace.
    """
    store = Store(max_items=2**20, max_bytes=2**40)
    try:
        text = file.read_text()
        documents = text.splitlines() if text.count('{"resourceSpans"') > 1 else [text]
        for document in map(json.loads, filter(str.strip, documents)):
            for trace, *span in (*otlp(document), *jaeger(document)):
                store.add_span(int(trace, 16), dict(zip(FIELDS, span, strict=True)))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise NoTrace(f"{file} cannot be read: {type(error).__name__}: {error}") from None
    if not store.changes(0)["traces"]:
        raise NoTrace(f"{file} holds neither OTLP's resourceSpans nor Jaeger's data.")
    return store


def otlp(document: Json) -> Iterator[tuple[Any, ...]]:
    """Give the trace's id and the FIELDS of each span of an ExportTraceServiceRequest."""
    for scope in (scope for group in document.get("resourceSpans", ()) for scope in group["scopeSpans"]):
        for span in scope["spans"]:
            ids = int(span["spanId"], 16), int(span.get("parentSpanId") or "0", 16)
            times, status = (int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])), span.get("status", {})
            error = status.get("message") or "error" if status.get("code") == FAILED else ""
            events = [(event["name"], int(event["timeUnixNano"]), values(event)) for event in span.get("events", ())]
            about = span["name"], SpanKind(max(span.get("kind", 0) - 1, 0))
            yield span["traceId"], *ids, *about, *times, error, values(span), events


def values(holder: Json) -> Json:
    """Return OTLP's list of attributes as a dictionary."""
    return {pair["key"]: value_of(pair["value"]) for pair in holder.get("attributes", ())}


def value_of(value: Json) -> Any:
    """Return an AnyValue of OTLP."""
    if "arrayValue" in value:
        return [value_of(item) for item in value["arrayValue"].get("values", ())]
    return int(value["intValue"]) if "intValue" in value else next(iter(value.values()), None)


def jaeger(document: Json) -> Iterator[tuple[Any, ...]]:
    """Give the same of each span in what Jaeger's /api/traces/… answers; its times are microseconds."""
    for span in (span for trace in document.get("data", ()) for span in trace["spans"]):
        tags = {tag["key"]: list_of(tag["value"]) for tag in span["tags"]}
        parents = [other["spanID"] for other in span.get("references", ()) if other["refType"] == "CHILD_OF"]
        ids, start = (int(span["spanID"], 16), int([*parents, "0"][0], 16)), span["startTime"] * 1000
        error = tags.get("otel.status_description", "error") if tags.pop("error", False) else ""
        logs = [({pair["key"]: pair["value"] for pair in log["fields"]}, log["timestamp"]) for log in span["logs"]]
        events = [(fields.pop("event", "log"), at * 1000, fields) for fields, at in logs]
        kind, end = SpanKind[str(tags.pop("span.kind", "internal")).upper()], start + span["duration"] * 1000
        yield span["traceID"], *ids, span["operationName"], kind, start, end, error, tags, events


def list_of(value: Any) -> Any:
    """Return the list that Jaeger made a text of, or the value."""
    return json.loads(value) if isinstance(value, str) and value.startswith('["') else value
