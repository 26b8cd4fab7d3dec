"""A request's trace as an indented tree, for the terminal of whoever develops."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind

MAX_TRACES = 256  # at once; more are not under development
MAX_SPANS = 200


class Trees(SpanProcessor):
    """Keeps the ended spans of the requests at hand until their line is written."""

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


def drawn(spans: list[ReadableSpan]) -> list[str]:
    """Return the lines of the tree that `spans`, of one trace, form."""
    known = {span.context.span_id for span in spans if span.context}
    children: dict[int | None, list[ReadableSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        parent = span.parent.span_id if span.parent and span.parent.span_id in known else None
        children.setdefault(parent, []).append(span)
    return [line for root in children.get(None, []) for line in _branch(root, children, "  ")]


def _branch(span: ReadableSpan, children: dict[int | None, list[ReadableSpan]], indent: str) -> list[str]:
    assert span.context
    milliseconds = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    reason = (span.status.description or "").partition("\n")[0]
    failed = f"  failed: {reason}" if reason and not span.status.is_ok else ""
    facts = span.attributes or {}
    of = f" ({facts['app.pool']!s})" if "app.pool" in facts else ""
    if span.kind is SpanKind.CLIENT and "http.request.method" in facts:
        of = f" {facts.get('server.address')} {facts.get('http.response.status_code', 'no answer')}"
    name = span.name.partition("\n")[0]
    lines = [f"{indent}{milliseconds:8.1f} ms  {name}{of}{failed}"]
    lines += [f"{indent}              {detail}" for detail in _details(facts)]
    below = children.get(span.context.span_id, [])
    return lines + [line for child in below for line in _branch(child, children, indent + "  ")]


def _details(facts: Mapping[str, Any]) -> list[str]:
    """Return what a slow statement's span says, for a reader: who asked, what, and how it was run."""
    if not facts.get("app.db.slow"):
        return []
    asked = f"{facts.get('code.function.name', '?')} ({facts.get('code.file.path')}:{facts.get('code.line.number')})"
    plan = json.loads(str(facts.get("app.db.plan", "null")))
    return [asked, " ".join(str(facts.get("db.query.text")).split()), *(_plan_lines(plan, "") if plan else [])]


def _plan_lines(node: Mapping[str, Any], indent: str) -> list[str]:
    on = f" on {node['Relation Name']}" if "Relation Name" in node else ""
    via = f" using {node['Index Name']}" if "Index Name" in node else ""
    loops = node.get("Actual Loops", 1)  # PostgreSQL gives averages of these
    rows = f"{node['Actual Rows'] * loops:,.0f}" if "Actual Rows" in node else f"about {node['Plan Rows']:,}"
    removed = sum(node[key] * loops for key in node if key.startswith("Rows Removed by"))
    thrown = f", {removed:,} thrown away" if removed else ""
    below = [line for child in node.get("Plans", ()) for line in _plan_lines(child, indent + "  ")]
    kind = ("Parallel " if node.get("Parallel Aware") else "") + node["Node Type"]
    return [f"{indent}-> {kind}{on}{via}: {rows} rows{thrown}", *below]
