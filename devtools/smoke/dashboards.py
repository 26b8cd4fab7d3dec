"""Whether Grafana's dashboards show data. Grafana is asked as a browser would ask it."""

import re
from collections.abc import Iterator
from typing import Any

import httpx

from devtools.smoke.checks import Missing, Stack, get_json, require_first

VARIABLE = re.compile(r'=~?"\$\{?(?!__)[^"]+"')  # the dashboard's own; $__rate_interval is Grafana's


def dashboards(stack: Stack) -> str:
    """Each dashboard has panels that show data."""
    known = require_first([get_json(stack.grafana, "/api/search", params={"type": "dash-db"})], "no dashboard")
    return ", ".join(_count_panels(stack.grafana, dashboard["uid"], dashboard["title"]) for dashboard in known)


def _count_panels(grafana: httpx.Client, uid: str, title: str) -> str:
    """Return how many of a dashboard's panels show data. Raise Missing if none does."""
    panels = list(_flatten(get_json(grafana, f"/api/dashboards/uid/{uid}")["dashboard"]["panels"]))
    queries = [[target for target in panel.get("targets", []) if target.get("expr")] for panel in panels]
    full = sum(any(_run_query(grafana, target) for target in targets) for targets in queries)
    if not full:
        raise Missing(f"{title}: none of {len(panels)} panels shows data")
    return f"{title}: {full} of {sum(map(bool, queries))} panels"


def _flatten(panels: list[Any]) -> Iterator[Any]:
    """Yield the panels, and those inside collapsed rows."""
    for panel in panels:
        yield panel
        yield from _flatten(panel.get("panels", []))


def _run_query(grafana: httpx.Client, target: dict[str, Any]) -> list[Any]:
    """Return the columns of a query's answer now, for any value of the dashboard's variables."""
    query = {"refId": "A", "datasource": target["datasource"], "expr": VARIABLE.sub('=~".+"', target["expr"])}
    query |= {"instant": True, "queryType": target.get("queryType", "")}  # the first is for Prometheus
    body = {"queries": [query | {"intervalMs": 15_000, "maxDataPoints": 100}], "from": "now-15m", "to": "now"}
    answer = grafana.post("/api/ds/query", json=body)
    frames = answer.json().get("results", {}).get("A", {}).get("frames", [])
    return [column for frame in frames for column in frame["data"]["values"] if column]
