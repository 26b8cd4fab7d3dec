"""Whether Grafana's dashboards show anything, asked through Grafana as a browser would."""

import re
from collections.abc import Iterator
from typing import Any

import httpx

from devtools.evidence import Missing, Stack, first, get

VARIABLE = re.compile(r'=~?"\$\{?(?!__)[^"]+"')  # the dashboard's own; $__rate_interval is Grafana's


def dashboards(stack: Stack) -> str:
    """Each dashboard has panels that show data."""
    known = first([get(stack.grafana, "/api/search", params={"type": "dash-db"})], "no dashboard")
    return ", ".join(shown(stack.grafana, dashboard["uid"], dashboard["title"]) for dashboard in known)


def shown(grafana: httpx.Client, uid: str, title: str) -> str:
    """Return how many of a dashboard's panels show data.

    Raises:
        Missing: none does.

    """
    panels = list(flat(get(grafana, f"/api/dashboards/uid/{uid}")["dashboard"]["panels"]))
    full = sum(any(map(bool, (values(grafana, target["expr"]) for target in asked(panel)))) for panel in panels)
    if not full:
        raise Missing(f"{title}: none of {len(panels)} panels shows data")
    return f"{title}: {full} of {sum(bool(asked(panel)) for panel in panels)} panels"


def flat(panels: list[Any]) -> Iterator[Any]:
    """Return the panels, those inside collapsed rows included."""
    for panel in panels:
        yield panel
        yield from flat(panel.get("panels", []))


def asked(panel: Any) -> list[Any]:
    """Return the queries of a panel that go to Prometheus."""
    return [target for target in panel.get("targets", []) if target.get("expr")]


def values(grafana: httpx.Client, expression: str) -> list[Any]:
    """Return what a query gives now, any value of the dashboard's variables admitted."""
    query = {
        "refId": "A",
        "datasource": {"uid": "prometheus"},
        "expr": VARIABLE.sub('=~".*"', expression),
        "instant": True,
    }
    body = {"queries": [query | {"intervalMs": 15_000, "maxDataPoints": 100}], "from": "now-15m", "to": "now"}
    answer = grafana.post("/api/ds/query", json=body)
    frames = answer.json().get("results", {}).get("A", {}).get("frames", [])
    return [column for frame in frames for column in frame["data"]["values"] if column]
