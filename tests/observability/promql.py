"""Which metrics an expression speaks of, and what Grafana would send for a panel's."""

import re
from collections.abc import Iterator
from typing import Any

STRINGS = re.compile(r'"(?:\\.|[^"\\])*"')
SELECTORS = re.compile(r"\{[^}]*\}|\[[^\]]*\]")
GROUPINGS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)|\bgroup_(?:left|right)\b")
NAMES = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])")
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
FENCES = re.compile(r"^```promql\n(.*?)^```", re.MULTILINE | re.DOTALL)


def metrics_of(expression: str) -> set[str]:
    """The names of metrics in an expression."""
    bare = GROUPINGS.sub(" ", SELECTORS.sub("", STRINGS.sub("", expression)))
    return set(NAMES.findall(bare)) - WORDS


def in_markdown(text: str) -> list[str]:
    """The queries of a document: one a line in its promql fences, comments aside."""
    lines = [line.partition(" # ")[0].strip() for fence in FENCES.findall(text) for line in fence.splitlines()]
    return [line for line in lines if line]


def of_dashboard(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each query for Prometheus, of a panel or a variable, with every value that a variable begins with or may have."""
    job, *_ = dashboard["templating"]["list"]
    for variable in (variable for variable in dashboard["templating"]["list"] if variable["type"] == "query"):
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert found
        series = f'{found[1]}{{{found[2]}!=""}}' if "{" not in found[1] else found[1]
        yield f"${variable['name']}", as_sent(series, job["current"]["value"])
    for panel in dashboard["panels"]:
        for target in targets_of(panel, "prometheus"):
            for slo in ("availability", "latency") if "$slo" in target["expr"] else ("",):
                yield f"{panel['title']} {target['refId']} {slo}", as_sent(target["expr"], job["current"]["value"], slo)


def targets_of(panel: dict[str, Any], source: str) -> list[dict[str, Any]]:
    """The panel's queries of one data source."""
    return [target for target in panel.get("targets", ()) if target["datasource"]["uid"] == source]


def as_sent(expression: str, job: str, slo: str = "") -> str:
    """The expression with Grafana's variables filled in."""
    values = {"$job": job, "$slo": slo, "$handler": ".+", "$table": ".+", "$__rate_interval": "10s"}
    for name, value in values.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression
