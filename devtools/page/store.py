"""The last requests with their spans and log lines, and every statement since the start. All of it is bounded.

What ends is only kept here. What a page shows of it is worked out in the browser.
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import log2
from threading import Lock
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind

from app.telemetry.log_export import Handler
from app.telemetry.logs import context_of, entry_of, line_of, stack

MAX_TRACES, MAX_BYTES, MAX_ITEMS, MAX_STATEMENTS = 500, 4 * 2**20, 200, 500  # items: spans of a trace, or lines
ITEM, LONG = 1000, 64  # an item's bytes beside its long texts, which have so many characters
STEPS = 8  # of durations, for each power of two: 9 %
REQUESTS = "app.requests"
FIELDS = ("id", "parent", "name", "kind", "start", "end", "error", "attributes", "events")  # of a span
Json = dict[str, Any]


@dataclass
class Trace:
    """What is known of a trace: of one request, where no caller's trace is continued."""

    id: int
    changed: int = 0  # larger than that of any trace that changed before
    size: int = 0
    left_out: int = 0
    spans: list[Json] = field(default_factory=list)
    lines: list[Json] = field(default_factory=list)


@dataclass
class Statement:
    """All runs of a statement; durations in nanoseconds."""

    text: str
    name: str
    function: Any
    calls: int = 0
    total: int = 0
    rows: int = 0
    longest: int = -1
    slowest: int = 0  # the trace of that one
    repeated: int = 0  # the last trace in which it ran again and again
    tables: set[str] = field(default_factory=set)  # that it read from end to end
    steps: Counter[int] = field(default_factory=Counter)  # of its durations

    def count(self, span: Json, trace: int) -> None:
        """Count a run."""
        duration, own = max(span["end"] - span["start"], 1), span["attributes"]
        self.calls += 1
        self.total += duration
        self.rows += own.get("db.response.returned_rows", 0)
        self.steps[int(log2(duration) * STEPS)] += 1
        if duration > self.longest:
            self.longest, self.slowest = duration, trace
        self.tables.update(own.get("app.db.plan.seq_scan_tables", ()))


class Store(SpanProcessor):
    """Keeps what ends. Threads may call it at the same time."""

    def __init__(self, max_items: int = MAX_ITEMS, max_bytes: int = MAX_BYTES) -> None:
        self._max_items, self._max_bytes = max_items, max_bytes
        self._traces: OrderedDict[int, Trace] = OrderedDict()
        self._statements: dict[str, Statement] = {}
        self._lock = Lock()
        self._changes = self._size = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span of the application, by its parts: the SDK's own object is far larger."""
        ended: Any = span  # what its property `attributes` gives is five times as slow to read
        context, parent, status, own = ended.context, span.parent, span.status, ended._attributes
        error = "" if status.is_unset or status.is_ok else status.description or "error"
        events = [(event.name, event.timestamp, event.attributes) for event in ended._events or ()]
        about = context.span_id, parent.span_id if parent else 0, span.name, span.kind, span.start_time, span.end_time
        parts = *about, error, own.copy() if own else {}, events
        self.add_span(context.trace_id, dict(zip(FIELDS, parts, strict=True)))

    def add_span(self, trace_id: int, span: Json) -> None:
        """Keep a span, and count it if it is a statement's."""
        own = span["attributes"]
        text = own.get("db.query.text")
        with self._lock:
            size = ITEM * (1 + len(span["events"])) + long_texts(own)
            trace = self._keep(trace_id, "spans", span, size, is_head=span["kind"] is SpanKind.SERVER)
            if text and text not in self._statements and len(self._statements) < MAX_STATEMENTS:
                self._statements[text] = Statement(text, span["name"], own.get("code.function.name"))
            if statement := self._statements.get(text):
                statement.count(span, trace_id)
            if "app.db.n_plus_one" in own:
                texts = [other["attributes"].get("db.query.text") for other in trace.spans]
                if most := max(filter(self._statements.get, texts), key=texts.count, default=None):
                    self._statements[most].repeated = trace_id

    def add_line(self, trace_id: int, line: Json) -> None:
        """Keep a log line. A request that was refused before it had a trace, with the id 0, gets one below 0."""
        with self._lock:
            key, is_head = trace_id or -1 - self._changes, line["logger"] == REQUESTS
            self._keep(key, "lines", line, ITEM + long_texts(line["fields"]), is_head=is_head)

    def changes(self, after: int) -> Json:
        """Return what changed after the change of that number: the traces, with what tells of their requests."""
        with self._lock:
            traces = self._traces.values()
            return {"last": self._changes, "traces": [brief(trace) for trace in traces if trace.changed > after]}

    def trace(self, name: str) -> Json | None:
        """Return all that is known of a trace, or None."""
        with self._lock, suppress(ValueError, KeyError):
            trace = self._traces[int(name, 16)]
            return {**brief(trace), "spans": [*map(show, trace.spans)], "lines": [*trace.lines]}
        return None

    def statements(self) -> list[Json]:
        """Return every statement since the start."""
        with self._lock:
            return [
                {**vars(one), "slowest": name_of(one.slowest), "repeated": name_of(one.repeated)}
                | {"tables": sorted(one.tables), "steps": dict(one.steps)}
                for one in self._statements.values()
            ]

    def _keep(self, key: int, place: str, item: Any, size: int, *, is_head: bool = False) -> Trace:
        """Keep an item of a trace, and forget the oldest traces when there is too much."""
        trace = self._traces.get(key) or self._traces.setdefault(key, Trace(key))
        trace.changed = self._changes = self._changes + 1
        if len(items := getattr(trace, place)) < self._max_items or is_head:
            items.append(item)
        else:
            trace.left_out, size = trace.left_out + 1, 0
        trace.size += size
        self._size += size
        while len(self._traces) > MAX_TRACES or self._size > self._max_bytes:
            self._size -= self._traces.popitem(last=False)[1].size
        return trace


class Lines(Handler):
    """Keeps the log lines of requests."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line that belongs to a trace, or tells of a request that was refused before it had one."""
        own, context = line_of(record).fields, context_of(record)
        is_request = record.name == REQUESTS and "method" in own
        if context.is_valid or (is_request and record.levelno > logging.DEBUG):
            with suppress(Exception):  # whoever logs must not fail for it
                line = {"created": record.created, "level": record.levelname, "logger": record.name}
                line |= {"message": record.getMessage(), "fields": own if is_request else entry_of(record)}
                if record.exc_info and record.exc_info[1]:  # with its messages: they are for a developer's eyes
                    line["stack"] = stack(record.exc_info[1], messages=True)
                self._store.add_line(context.trace_id, line)


def brief(trace: Trace) -> Json:
    """Return a trace with the spans and lines that tell of its requests; of a trace without any, its first spans."""
    known = {span["id"] for span in trace.spans}
    spans = [show(span) for span in trace.spans if span["kind"] is SpanKind.SERVER or span["parent"] not in known]
    lines = [line for line in trace.lines if line["logger"] == REQUESTS]
    return {**vars(trace), "id": name_of(trace.id), "spans": spans, "lines": lines}


def show(span: Json) -> Json:
    """Return a span as JSON has it."""
    return span | {"id": f"{span['id']:x}", "parent": f"{span['parent']:x}", "kind": span["kind"].name}


def name_of(trace_id: int) -> str:
    """Return the id of a trace as it is written; 0 is none."""
    return f"{trace_id:032x}" if trace_id > 0 else f"{trace_id:x}" if trace_id else ""


def long_texts(values: Mapping[str, Any]) -> int:
    """Return how many characters the long texts among `values` have; short ones are shared, or small."""
    return sum([len(value) for value in values.values() if type(value) is str and len(value) > LONG])
