"""The checks of the stack. Each asks the real services and returns its evidence; its docstring says what holds."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from devtools.client import ARCHIVIST, SLOW_SEARCH, fill_archive, find_collection

SERVICE = "task-api"
JOB = f'job="{SERVICE}"'
EXEMPLARS_OF_S = 900
RECEIVER = ("docker", "compose", "run", "--rm", "-T", "--use-aliases", "smoke")
TAIL_SAMPLING = '{job="jaeger",__name__=~"otelcol_processor_tail_sampling_.+"}'
NOT_KEPT = "Tail sampling is on. It keeps errors, slow traces, slow queries and a tenth of the rest, but not trace"


class Missing(Exception):
    """What a check looks for is not there, or not yet."""


class CannotTell(Exception):
    """What a check looks for is not there, and need not be."""


@dataclass
class Stack:
    """The running services, and the traces that checks made. `replicas` of the API must run; 0 for any number.

    `receiver` is the command that waits for an alert of the run whose name is appended.
    """

    api: httpx.Client
    jaeger: httpx.Client
    prometheus: httpx.Client
    grafana: httpx.Client
    loki: httpx.Client
    header: Callable[[str], dict[str, str]]
    replicas: int = 0
    receiver: tuple[str, ...] = RECEIVER
    traces: dict[str, str] = field(default_factory=dict)


def ready(stack: Stack) -> str:
    """The API serves."""
    return str(get_json(stack.api, "/health/ready")["status"])


def create_row(stack: Stack) -> str:
    """A row is made, and the answer names its trace."""
    headers = stack.header("smoke")
    answer = stack.api.post(_collection(stack), json={"title": "Smoke"}, headers=headers).raise_for_status()
    stack.traces["created"] = _trace_id(answer)
    stack.api.delete(answer.headers["Location"], headers=headers)
    return f"row {answer.json()['id']}, trace {stack.traces['created']}"


def slow_search(stack: Stack) -> str:
    """A search is slow enough for its plan to be kept."""
    with httpx.Client(base_url=stack.api.base_url, headers=stack.header(ARCHIVIST), timeout=10) as archivist:
        collection = _collection(stack)
        for _ in fill_archive(archivist, collection):
            pass
        answer = archivist.get(collection, params={"q": SLOW_SEARCH}).raise_for_status()
    stack.traces["slow"] = _trace_id(answer)
    return f"{answer.elapsed.total_seconds() * 1000:.0f} ms, trace {stack.traces['slow']}"


def database_span(stack: Stack) -> str:
    """The created row's trace is in Jaeger, the statement included."""
    names = [name for name, attributes in _spans(stack, "created") if "db.system.name" in attributes]
    return str(require_first(names, "no database span in the trace"))


def executed_plan(stack: Stack) -> str:
    """The slow search's trace holds the executed plan."""
    plans = [attributes for _, attributes in _spans(stack, "slow") if "app.db.plan" in attributes]
    plan = require_first(plans, "no app.db.plan in the trace")
    json.loads(plan["app.db.plan"])
    return f"{plan.get('app.db.plan.root')}, {plan.get('app.db.plan.rows_removed')} rows thrown away"


def lines(stack: Stack) -> str:
    """The slow search's lines are in Loki, found by its trace's id."""
    trace_id = require_first([stack.traces.get("slow")], "its trace is not known")
    wanted = {"query": f'{{service_name="task-api"}} | trace_id="{trace_id}"', "since": "15m"}
    streams = get_json(stack.loki, "/loki/api/v1/query_range", params=wanted)["data"]["result"]
    return "; ".join(require_first([[text for one in streams for _, text in one["values"]]], "no line of the trace"))


def targets(stack: Stack) -> str:
    """Prometheus found every replica by DNS and scrapes it."""
    found = get_json(stack.prometheus, "/api/v1/targets", params={"state": "active"})["data"]["activeTargets"]
    up = sum(target["health"] == "up" for target in found if target["labels"]["job"] == SERVICE)
    if up != (stack.replicas or up or 1):
        raise Missing(f"{up} of {stack.replicas or 1} replicas are scraped")
    return f"{up} up"


def series(stack: Stack) -> str:
    """Requests are counted by route and status."""
    answered = query(stack, f'sum(http_requests_total{{{JOB},status=~"2.."}})')
    return f"{answered:.0f} requests answered with 2xx"


def exemplar(stack: Stack) -> str:
    """A latency exemplar leads from Prometheus to a trace in Jaeger."""
    window = {"start": time.time() - EXEMPLARS_OF_S, "end": time.time()}
    wanted = {"query": f"http_request_duration_seconds_bucket{{{JOB}}}", **window}
    data = get_json(stack.prometheus, "/api/v1/query_exemplars", params=wanted)["data"]
    exemplars = [exemplar for series in data for exemplar in series["exemplars"]]
    newest = max(exemplars, key=lambda exemplar: float(exemplar["timestamp"]), default=None)
    stack.traces["exemplar"] = require_first([newest and newest["labels"]["trace_id"]], "no exemplar")
    return f"trace {stack.traces['exemplar']} has {len(_spans(stack, 'exemplar'))} spans"


def rules(stack: Stack) -> str:
    """Prometheus has loaded the alerts, and can evaluate each."""
    groups = get_json(stack.prometheus, "/api/v1/rules")["data"]["groups"]
    loaded = [rule for group in groups for rule in group["rules"]]
    if failing := [rule["name"] for rule in loaded if rule["health"] == "err"]:
        raise Missing(f"cannot be evaluated: {', '.join(failing)}")
    return f"{len(require_first([loaded], 'no rules'))} rules"


def monitor(stack: Stack) -> str:
    """Jaeger's Monitor tab has data: span metrics went to Prometheus and back."""
    wanted = {"service": SERVICE, "step": 60_000, "lookback": 600_000, "ratePer": 600_000}
    metrics = get_json(stack.jaeger, "/api/metrics/calls", params=wanted)["metrics"]
    points = [point for metric in metrics for point in metric["metricPoints"] if point["gaugeValue"]["doubleValue"] > 0]
    return f"{len(require_first([points], 'no calls yet'))} points"


def statements(stack: Stack) -> str:
    """PostgreSQL's statistics arrive by way of the exporter."""
    query(stack, "pg_up == 1")
    return f"{query(stack, 'count(pg_stat_statements_calls_total)'):.0f} statements known"


def limits(stack: Stack) -> str:
    """Limits are counted in Redis, none by the fallback."""
    answer = stack.api.get(f"{_collection(stack)}?limit=1", headers=stack.header("smoke")).raise_for_status()
    header = str(require_first([answer.headers.get("RateLimit")], "no RateLimit header"))
    fallback = query(stack, f'sum(increase(rate_limit_requests_total{{{JOB},outcome="fallback"}}[1m])) or vector(0)')
    if fallback:
        raise Missing(f"{fallback:.0f} requests were counted by the fallback within a minute")
    return header


def data_sources(stack: Stack) -> str:
    """Grafana reaches each of its data sources."""
    sources = get_json(stack.grafana, "/api/datasources")
    for source in sources:
        health = get_json(stack.grafana, f"/api/datasources/uid/{source['uid']}/health")
        if health["status"] != "OK":
            raise Missing(f"{source['name']}: {health['message']}")
    return ", ".join(source["name"] for source in require_first([sources], "no data source"))


def get_json(client: httpx.Client, path: str, **options: Any) -> Any:
    """Return the JSON document at `path`."""
    return client.get(path, **options).raise_for_status().json()


def require_first(candidates: Sequence[Any], otherwise: str) -> Any:
    """Return the first candidate. Raise Missing(otherwise) if there is none or it is empty."""
    if not candidates or not candidates[0]:
        raise Missing(otherwise)
    return candidates[0]


def _collection(stack: Stack) -> str:
    return find_collection(str(stack.api.base_url).rstrip("/"))


def _trace_id(answer: httpx.Response) -> str:
    return str(require_first([answer.headers.get("X-Trace-Id")], "no X-Trace-Id"))


def query(stack: Stack, expression: str) -> float:
    """Return the first value of a Prometheus query."""
    return float(require_first([r["value"][1] for r in find_series(stack, expression)], f"no value of {expression}"))


def find_series(stack: Stack, expression: str) -> list[Any]:
    """Return what a Prometheus query finds, value by value."""
    results: list[Any] = get_json(stack.prometheus, "/api/v1/query", params={"query": expression})["data"]["result"]
    return results


def _spans(stack: Stack, name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return name and attributes of each span of one of the stack's traces, from Jaeger (api_v3 speaks OTLP).

    Raise Missing if the trace is not there, or CannotTell if it is ordinary and tail sampling may have left it out.
    """
    if name not in stack.traces:
        raise Missing("there is no trace to look for")
    answer = stack.jaeger.get(f"/api/v3/traces/{stack.traces[name]}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        if name != "slow" and find_series(stack, TAIL_SAMPLING):
            raise CannotTell(f"{NOT_KEPT} {stack.traces[name]}.")
        raise Missing(f"trace {stack.traces[name]} is not there yet")
    scopes = [
        scope for part in answer.raise_for_status().json()["result"]["resourceSpans"] for scope in part["scopeSpans"]
    ]
    return [(span["name"], _attributes(span)) for scope in scopes for span in scope["spans"]]


def _attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: next(iter(pair["value"].values()), None) for pair in span.get("attributes", ())}
