"""The links of the stack, each shown to work by asking the real services."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from devtools.caller import ARCHIVIST, SLOW_SEARCH, fill_archive

JOB = 'job="task-api"'
EXEMPLARS_OF_S = 900


class Missing(Exception):
    """What was looked for is not there, or not yet."""


@dataclass
class Stack:
    """The services, and the traces that checks found. Of the API there must be `replicas`; 0 for any number."""

    api: httpx.Client
    jaeger: httpx.Client
    prometheus: httpx.Client
    grafana: httpx.Client
    header: Callable[[str], dict[str, str]]
    replicas: int = 0
    found: dict[str, str] = field(default_factory=dict)


def ready(stack: Stack) -> str:
    """The API serves."""
    return str(get(stack.api, "/health/ready")["status"])


def task_created(stack: Stack) -> str:
    """A task is made, and the answer names its trace."""
    answer = stack.api.post("/api/tasks", json={"title": "Smoke"}, headers=stack.header("smoke"))
    answer.raise_for_status()
    stack.found["created"] = trace_id(answer)
    stack.api.delete(answer.headers["Location"], headers=stack.header("smoke"))
    return f"task {answer.json()['id']}, trace {stack.found['created']}"


def slow_search(stack: Stack) -> str:
    """A search is slow enough for its plan to be kept."""
    with httpx.Client(base_url=stack.api.base_url, headers=stack.header(ARCHIVIST), timeout=10) as archivist:
        for _ in fill_archive(archivist):
            pass
        answer = archivist.get("/api/tasks", params={"q": SLOW_SEARCH}).raise_for_status()
    stack.found["slow"] = trace_id(answer)
    return f"{answer.elapsed.total_seconds() * 1000:.0f} ms, trace {stack.found['slow']}"


def database_span(stack: Stack) -> str:
    """The created task's trace is in Jaeger, the statement included."""
    names = [name for name, attributes in spans(stack, "created") if "db.system.name" in attributes]
    return str(first(names, "no database span in the trace"))


def executed_plan(stack: Stack) -> str:
    """The slow search's trace holds the executed plan."""
    plans = [attributes for _, attributes in spans(stack, "slow") if "app.db.plan" in attributes]
    plan = first(plans, "no app.db.plan in the trace")
    json.loads(plan["app.db.plan"])
    return f"{plan.get('app.db.plan.root')}, {plan.get('app.db.plan.rows_removed')} rows thrown away"


def targets(stack: Stack) -> str:
    """Prometheus found every replica by DNS and scrapes it."""
    up = query(stack, f"count(up{{{JOB}}} == 1)")
    if stack.replicas and up != stack.replicas:
        raise Missing(f"{up:.0f} of {stack.replicas} replicas are scraped")
    return f"{up:.0f} up"


def series(stack: Stack) -> str:
    """Requests are counted by route and status."""
    answered = query(stack, f'sum(http_requests_total{{{JOB},status=~"2.."}})')
    return f"{answered:.0f} requests answered with 2xx"


def exemplar(stack: Stack) -> str:
    """A latency exemplar leads from Prometheus to a trace in Jaeger."""
    window = {"start": time.time() - EXEMPLARS_OF_S, "end": time.time()}
    wanted = {"query": f"http_request_duration_seconds_bucket{{{JOB}}}", **window}
    data = get(stack.prometheus, "/api/v1/query_exemplars", params=wanted)["data"]
    exemplars = [exemplar for series in data for exemplar in series["exemplars"]]
    newest = max(exemplars, key=lambda exemplar: float(exemplar["timestamp"]), default=None)
    stack.found["exemplar"] = first([newest and newest["labels"]["trace_id"]], "no exemplar")
    return f"trace {stack.found['exemplar']} has {len(list(spans(stack, 'exemplar')))} spans"


def rules(stack: Stack) -> str:
    """Prometheus has loaded the alerts, and can evaluate each."""
    loaded = [rule for group in get(stack.prometheus, "/api/v1/rules")["data"]["groups"] for rule in group["rules"]]
    ill = [rule["name"] for rule in loaded if rule["health"] == "err"]
    if ill:
        raise Missing(f"cannot be evaluated: {', '.join(ill)}")
    return f"{len(first([loaded], 'no rules'))} rules"


def monitor(stack: Stack) -> str:
    """Jaeger's Monitor tab has data: span metrics went to Prometheus and back."""
    asked = {"service": "task-api", "step": 60_000, "lookback": 600_000, "ratePer": 600_000}
    found = get(stack.jaeger, "/api/metrics/calls", params=asked)["metrics"]
    points = [point for metric in found for point in metric["metricPoints"] if point["gaugeValue"]["doubleValue"] > 0]
    return f"{len(first([points], 'no calls yet'))} points"


def statements(stack: Stack) -> str:
    """PostgreSQL's statistics arrive by way of the exporter."""
    query(stack, "pg_up == 1")
    return f"{query(stack, 'count(pg_stat_statements_calls_total)'):.0f} statements known"


def limits(stack: Stack) -> str:
    """Limits are counted in Redis, none by the fallback."""
    answer = stack.api.get("/api/tasks?limit=1", headers=stack.header("smoke")).raise_for_status()
    header = str(first([answer.headers.get("RateLimit")], "no RateLimit header"))
    fallback = query(stack, f'sum(increase(rate_limit_requests_total{{{JOB},outcome="fallback"}}[1m])) or vector(0)')
    if fallback:
        raise Missing(f"{fallback:.0f} requests were counted by the fallback within a minute")
    return header


def data_sources(stack: Stack) -> str:
    """Grafana reaches both of its data sources."""
    sources = get(stack.grafana, "/api/datasources")
    for source in sources:
        health = get(stack.grafana, f"/api/datasources/uid/{source['uid']}/health")
        if health["status"] != "OK":
            raise Missing(f"{source['name']}: {health['message']}")
    return ", ".join(source["name"] for source in first([sources], "no data source"))


def get(client: httpx.Client, path: str, **options: Any) -> Any:
    """Return the JSON at `path`."""
    return client.get(path, **options).raise_for_status().json()


def query(stack: Stack, expression: str) -> float:
    """Return the first value of a Prometheus query."""
    result = get(stack.prometheus, "/api/v1/query", params={"query": expression})["data"]["result"]
    return float(first([r["value"][1] for r in result], f"no value of {expression}"))


def spans(stack: Stack, which: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return name and attributes of each span of a trace found before, from Jaeger (api_v3 speaks OTLP)."""
    if which not in stack.found:
        raise Missing("there is no trace to look for")
    answer = stack.jaeger.get(f"/api/v3/traces/{stack.found[which]}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise Missing(f"trace {stack.found[which]} is not there yet")
    for resource in answer.raise_for_status().json()["result"]["resourceSpans"]:
        for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
            attributes = span.get("attributes", ())
            yield span["name"], {a["key"]: next(iter(a["value"].values()), None) for a in attributes}


def trace_id(answer: httpx.Response) -> str:
    """Return the trace of a request."""
    return str(first([answer.headers.get("X-Trace-Id")], "no X-Trace-Id"))


def first(candidates: Sequence[Any], otherwise: str) -> Any:
    """Return the first of `candidates`.

    Raises:
        Missing: there is none, or it says nothing; `otherwise` says so.

    """
    if not candidates or not candidates[0]:
        raise Missing(otherwise)
    return candidates[0]
