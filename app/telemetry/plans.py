"""What a plan says: PostgreSQL's own (auto_explain's notice, or EXPLAIN's estimate), without a literal in it.

https://www.postgresql.org/docs/current/auto-explain.html
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.util.types import AttributeValue

MAX_PLAN_BYTES = 16 * 1024
MAX_TEXT = 500
LOCKING = {"LockRows", "ModifyTable"}
UNSAID = {"Output", "Query Text", "Query Parameters"}  # long, and nothing but what the statement says
NOTICE = re.compile(r"duration: ([\d.]+) ms  plan:\s*(\{.*\})", re.DOTALL)
# A quoted name may hold an apostrophe or a digit, so names are matched first, and stay.
LITERAL = re.compile(r"""("(?:[^"]|"")*")|'(?:[^']|'')*'|\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b""")

Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan's facts, as span attributes, and in a few words."""

    attributes: dict[str, AttributeValue]
    summary: str


def masked(text: str) -> str:
    """Return `text`, SQL or an expression of it, with a question mark for each literal."""
    return LITERAL.sub(lambda match: match[1] or "?", text)


def executed(notices: Iterable[str]) -> Plan | None:
    """Return the plan that auto_explain sent among `notices`, the last one where there are several."""
    found = [match for notice in notices if (match := NOTICE.search(notice))]
    if not found:
        return None
    try:
        return _plan(json.loads(found[-1][2]), float(found[-1][1]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # of another version's making
        return None


def estimated(document: Any) -> Plan:
    """Return the plan that EXPLAIN (FORMAT JSON) gave."""
    return _plan(document[0], None)


def _plan(document: Node, server_ms: float | None) -> Plan:
    root = document["Plan"]
    nodes = list(_nodes(root))
    scanned = sorted({str(node.get("Relation Name")) for node in nodes if node["Node Type"] == "Seq Scan"})
    facts: dict[str, AttributeValue | None] = {
        "plan": _fitting(_clean(root)),
        "plan.root": root["Node Type"],
        "plan.seq_scan_tables": scanned or None,
        "plan.query_id": str(document["Query Identifier"]) if "Query Identifier" in document else None,
    }
    if server_ms is None:
        facts["plan.estimated"] = True
    else:
        facts |= _measured(root, nodes, server_ms)
    attributes: dict[str, AttributeValue] = {
        f"app.db.{name}": value for name, value in facts.items() if value is not None
    }
    return Plan(attributes, _summary(attributes))


def _measured(root: Node, nodes: list[Node], server_ms: float) -> dict[str, AttributeValue | None]:
    removed = sum(_removed(node) for node in nodes)
    hit, read = root.get("Shared Hit Blocks"), root.get("Shared Read Blocks")
    touched = removed + sum(_rows(node) for node in nodes) + (hit or 0) + (read or 0)
    waited = any(node["Node Type"] in LOCKING for node in nodes) and server_ms > touched
    return {
        "server_ms": server_ms,
        "plan.rows_removed": removed,
        "plan.estimate_error": round(_estimate_error(root), 1),
        "plan.shared_hit_blocks": hit,
        "plan.shared_read_blocks": read,
        # There are no times of single nodes (log_timing costs too much): over a millisecond for each row and block.
        "lock_wait": True if waited else None,
    }


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _rows(node: Node) -> int:
    return round(float(node.get("Actual Rows", 0)) * int(node.get("Actual Loops", 1)))


def _removed(node: Node) -> int:
    """Return the rows a node threw away; PostgreSQL gives the average of its loops."""
    return sum(round(node[key] * node.get("Actual Loops", 1)) for key in node if key.startswith("Rows Removed by"))


def _estimate_error(node: Node, *, cut: bool = False) -> float:
    """Return how many times too high or low the worst estimate of rows is. What a Limit cut short is not too high."""
    actual, expected = max(node.get("Actual Rows", 0), 1), max(node["Plan Rows"], 1)
    ran = node.get("Actual Loops", 0) > 0
    error = max(actual / expected, 1 if cut else expected / actual) if ran else 1.0
    below = cut or node["Node Type"] == "Limit"
    return max([error, *(_estimate_error(child, cut=below) for child in node.get("Plans", ()))])


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)[:MAX_TEXT]
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items() if key not in UNSAID and not _says_nothing(key, item)}
    return value


def _says_nothing(key: str, value: Any) -> bool:
    """Tell a flag that is off and a counter of buffers at zero, of which a node has twenty."""
    return value is False or (value == 0 and key.endswith((" Blocks", " Time")))


def _fitting(plan: dict[str, Any]) -> str:
    """Return `plan` as JSON within MAX_PLAN_BYTES: the deepest subtrees go first."""
    text = _json(plan)
    while len(text) > MAX_PLAN_BYTES and "Plans" in plan:
        _prune(plan, _depth(plan) - 1)
        text = _json(plan)
    return text if len(text) <= MAX_PLAN_BYTES else _json({"Node Type": plan["Node Type"]})


def _json(plan: Node) -> str:
    return json.dumps(plan, separators=(",", ":"))


def _depth(node: Node) -> int:
    return 1 + max((_depth(child) for child in node.get("Plans", ())), default=0)


def _prune(node: dict[str, Any], depth: int) -> None:
    if depth == 1:
        if "Plans" in node:
            node["Plans Omitted"] = len(node.pop("Plans"))
        return
    for child in node.get("Plans", ()):
        _prune(child, depth - 1)


def _summary(facts: Mapping[str, Any]) -> str:
    parts = [f"{'estimated ' if 'app.db.plan.estimated' in facts else ''}{facts['app.db.plan.root']}"]
    if tables := facts.get("app.db.plan.seq_scan_tables"):
        parts.append(f"sequential scan of {', '.join(tables)}")
    if removed := facts.get("app.db.plan.rows_removed"):
        parts.append(f"{removed:,} rows thrown away")
    if (error := facts.get("app.db.plan.estimate_error", 1)) >= 10:  # noqa: PLR2004  an order of magnitude
        parts.append(f"row estimate off {error:,.0f} times")
    if "app.db.lock_wait" in facts:
        parts.append("waited for a lock")
    return "; ".join(parts)
