"""What a plan says: the one PostgreSQL ran (auto_explain's notice), or EXPLAIN's estimate, without a literal in it.

https://www.postgresql.org/docs/current/auto-explain.html
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.util.types import AttributeValue

MAX_PLAN_BYTES = 16 * 1024
MAX_TEXT = 500
MISESTIMATE = 10  # times: an order of magnitude
LOCKING = {"LockRows", "ModifyTable"}
LEFT_OUT = {"Output", "Query Text", "Query Parameters"}  # long, and nothing but what the statement says
NOTICE = re.compile(r"duration: ([\d.]+) ms  plan:\s*(\{.*\})", re.DOTALL)
# A quoted name may hold an apostrophe or a digit, so names are matched first, and stay.
LITERAL = re.compile(r"""("(?:[^"]|"")*")|'(?:[^']|'')*'|\b\d+(?:\.\d+)?[eE][+-]?\d+\b|\b\d\w*(?:\.\d\w*)?""")

Node = Mapping[str, Any]
Attributes = dict[str, AttributeValue]

_encode = json.JSONEncoder(separators=(",", ":")).encode


def mask(text: str) -> str:
    """Return `text`, SQL or an expression of it, with a question mark for each literal."""
    return LITERAL.sub(lambda match: match[1] or "?", text)


def executed_plan(notices: Iterable[str]) -> Attributes:
    """Return the span attributes of the last plan that auto_explain sent among `notices`; empty if there is none."""
    found = [match for notice in notices if (match := NOTICE.search(notice))]
    try:
        return _attributes(json.loads(found[-1][2]), float(found[-1][1])) if found else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # of another version's making
        return {}


def estimated_plan(document: Any) -> Attributes:
    """Return the span attributes of the plan that EXPLAIN (FORMAT JSON) gave."""
    return _attributes(document[0], None)


def summary(facts: Mapping[str, Any]) -> str:
    """Return a plan's attributes in a few words."""
    parts = [f"{'estimated ' if 'app.db.plan.estimated' in facts else ''}{facts['app.db.plan.root']}"]
    if tables := facts.get("app.db.plan.seq_scan_tables"):
        parts.append(f"sequential scan of {', '.join(tables)}")
    if removed := facts.get("app.db.plan.rows_removed"):
        parts.append(f"{removed:,} rows thrown away")
    if (error := facts.get("app.db.plan.estimate_error", 1)) >= MISESTIMATE:
        parts.append(f"row estimate wrong by a factor of {error:,.0f}")
    if "app.db.lock_wait" in facts:
        parts.append("waited for a lock")
    return "; ".join(parts)


def _attributes(document: Node, server_ms: float | None) -> Attributes:
    root, query_id = document["Plan"], document.get("Query Identifier")
    nodes = list(_nodes(root))
    facts = {
        "plan": _fit(_clean(root)),
        "plan.root": root["Node Type"],
        "plan.seq_scan_tables": sorted({str(n.get("Relation Name")) for n in nodes if n["Node Type"] == "Seq Scan"}),
        "plan.query_id": None if query_id is None else str(query_id),
        **({"plan.estimated": True} if server_ms is None else _measurements(root, nodes, server_ms)),
    }
    return {f"app.db.{name}": value for name, value in facts.items() if value is not None and value != []}


def _measurements(root: Node, nodes: list[Node], server_ms: float) -> dict[str, Any]:
    removed = sum(rows_removed(node) for node in nodes)
    hit, read = root.get("Shared Hit Blocks"), root.get("Shared Read Blocks")
    rows = sum(round(float(node.get("Actual Rows", 0)) * int(node.get("Actual Loops", 1))) for node in nodes)
    locks = any(node["Node Type"] in LOCKING for node in nodes)
    return {
        "server_ms": server_ms,
        "plan.rows_removed": removed,
        "plan.estimate_error": round(_estimate_error(root), 1),
        "plan.shared_hit_blocks": hit,
        "plan.shared_read_blocks": read,
        # There are no times of single nodes (log_timing costs too much): over a millisecond for each row and block.
        "lock_wait": True if locks and server_ms > removed + rows + (hit or 0) + (read or 0) else None,
    }


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def rows_removed(node: Node) -> int:
    """Return the rows a node threw away; PostgreSQL gives the average of its loops."""
    return sum(round(node[key] * node.get("Actual Loops", 1)) for key in node if key.startswith("Rows Removed by"))


def _estimate_error(node: Node, *, is_cut: bool = False) -> float:
    """Return how many times too high or low the worst estimate of rows is. What a Limit cut short is not too high."""
    actual, expected = max(node.get("Actual Rows", 0), 1), max(node["Plan Rows"], 1)
    has_run = node.get("Actual Loops", 0) > 0
    error = max(actual / expected, 1 if is_cut else expected / actual) if has_run else 1.0
    is_cut = is_cut or node["Node Type"] == "Limit"
    return max([error, *(_estimate_error(child, is_cut=is_cut) for child in node.get("Plans", ()))])


def _clean(value: Any) -> Any:
    """Return a part of a plan without literals, without flags that are off and without counters at zero."""
    if isinstance(value, str):
        return mask(value)[:MAX_TEXT]
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {
            key: _clean(item)
            for key, item in value.items()
            if key not in LEFT_OUT and item is not False and not (item == 0 and key.endswith((" Blocks", " Time")))
        }
    return value


def _fit(plan: Node) -> str:
    """Return `plan` as JSON of at most MAX_PLAN_BYTES: the deepest subtrees go first."""
    for levels in range(_depth(plan), 0, -1):
        text = _encode(_cut(plan, levels))
        if len(text) <= MAX_PLAN_BYTES:
            return text
    return _encode({"Node Type": plan["Node Type"]})


def _depth(node: Node) -> int:
    return 1 + max((_depth(child) for child in node.get("Plans", ())), default=0)


def _cut(node: Node, levels: int) -> dict[str, Any]:
    """Return a node with so many levels of its tree."""
    own, children = dict(node), node.get("Plans", ())
    if children and levels == 1:
        own["Plans Omitted"] = len(own.pop("Plans"))
    elif children:
        own["Plans"] = [_cut(child, levels - 1) for child in children]
    return own
