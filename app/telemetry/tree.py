"""A request's trace as an indented tree, for the terminal of whoever develops."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind

from app.telemetry.plans import rows_removed

MAX_TRACES = 256  # at once; more are not under development
MAX_SPANS = 200


class Trees(SpanProcessor):
    """Keeps the ended spans of each request until its line is written."""

    def __init__(self) -> None:
        self._traces: OrderedDict[int, list[ReadableSpan]] = OrderedDict()
        self._lock = Lock()

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span with the others of its trace."""
        assert span.context
        with self._lock:
            spans = self._traces.setdefault(span.context.trace_id, [])
            if len(spans) < MAX_SPANS:
                spans.append(span)
            if len(self._traces) > MAX_TRACES:
                self._traces.popitem(last=False)

    def take(self, trace_id: int) -> list[ReadableSpan]:
        """Return the spans of a trace and forget them."""
        with self._lock:
            return self._traces.pop(trace_id, [])


def draw_tree(spans: list[ReadableSpan]) -> list[str]:
    """Return the lines of the tree that `spans`, of one trace, form."""
    known = {span.context.span_id for span in spans if span.context}
    children: dict[int | None, list[ReadableSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        parent = span.parent.span_id if span.parent and span.parent.span_id in known else None
        children.setdefault(parent, []).append(span)
    return draw_children(None, children, "  ")


def draw_children(span_id: int | None, children: dict[int | None, list[ReadableSpan]], indent: str) -> list[str]:
    """Return the lines of the spans below one."""
    lines = []
    for span in children.get(span_id, []):
        assert span.context
        lines.append(indent + describe(span))
        lines += [f"{indent}              {detail}" for detail in statement_details(span.attributes or {})]
        lines += draw_children(span.context.span_id, children, indent + "  ")
    return lines


def describe(span: ReadableSpan) -> str:
    """Return how long a span took, its name, and how it failed."""
    milliseconds = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    attributes = span.attributes or {}
    target = f" ({attributes['app.pool']!s})" if "app.pool" in attributes else ""
    if span.kind is SpanKind.CLIENT and "http.request.method" in attributes:
        target = f" {attributes.get('server.address')} {attributes.get('http.response.status_code', 'no answer')}"
    reason = (span.status.description or "").partition("\n")[0]
    failure = f"  failed: {reason}" if reason and not span.status.is_ok else ""
    return f"{milliseconds:8.1f} ms  {span.name.partition(chr(10))[0]}{target}{failure}"


def statement_details(attributes: Mapping[str, Any]) -> list[str]:
    """Return which function ran a slow statement, its text, and its plan."""
    if not attributes.get("app.db.slow"):
        return []
    function, path, line = (attributes.get(f"code.{name}") for name in ("function.name", "file.path", "line.number"))
    plan = json.loads(str(attributes.get("app.db.plan", "null")))
    statement = " ".join(str(attributes.get("db.query.text")).split())
    return [f"{function or '?'} ({path}:{line})", statement, *(draw_plan(plan, "") if plan else [])]


def draw_plan(node: Mapping[str, Any], indent: str) -> list[str]:
    """Return the lines of a plan's node and of those below it."""
    kind = ("Parallel " if node.get("Parallel Aware") else "") + node["Node Type"]
    table = f" on {node['Relation Name']}" if "Relation Name" in node else ""
    index = f" using {node['Index Name']}" if "Index Name" in node else ""
    loops = node.get("Actual Loops", 1)  # PostgreSQL gives averages of these
    rows = f"{node['Actual Rows'] * loops:,.0f}" if "Actual Rows" in node else f"about {node['Plan Rows']:,}"
    thrown = f", {removed:,} thrown away" if (removed := rows_removed(node)) else ""
    below = [line for child in node.get("Plans", ()) for line in draw_plan(child, indent + "  ")]
    return [f"{indent}-> {kind}{table}{index}: {rows} rows{thrown}", *below]
