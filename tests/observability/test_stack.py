"""A real Prometheus with the shipped configuration scrapes the running app: everything that asks gets an answer."""

import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import httpx
import pytest
from fastapi import APIRouter
from sqlalchemy import text

from app.auth import CurrentUser
from app.db import CurrentDatabase
from app.main import ENTITIES, create_app
from tests.key_server import ED, key_server, publish
from tests.observability.alertmanager import alertmanager
from tests.observability.promql import as_sent, in_markdown, metrics_of, of_dashboard
from tests.observability.servers import Prometheus, exposing, prometheus
from tests.observability.sources import DASHBOARDS, JOB, OBSERVE, RUNBOOK, rules
from tests.process import needed
from tests.telemetry.scrapes import until
from tests.telemetry.traced import traced
from tests.web.team import api_router

# What postgres_exporter 0.20.1 said of PostgreSQL 18 under this app's load, without what no panel asks for.
RECORDED = Path(__file__).parent / "postgres_exporter.prom"
SETTLED_S = 40
OF_SLOWNESS = {"EventLoopLags", "PoolSaturated", "QueriesSlow"}


class Stack(NamedTuple):
    """Prometheus, and the traces of the requests that it has seen the metrics of."""

    prometheus: Prometheus
    traces: set[str]


@pytest.fixture(scope="module")
def stack(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    needed("prometheus")
    folder = tmp_path_factory.mktemp("alertmanager")
    create = partial(create_app, entities=(*ENTITIES, looping()))
    with (
        key_server(publish(ED.jwk())) as issuer,
        traced(new_database(), 1, create, better_auth_url=issuer.url, revision="4f5e6d7") as (client, traces),
        exposing(RECORDED) as exporter,
        alertmanager(folder) as alerts,
    ):
        client.headers["Authorization"] = f"Bearer {ED.token(issuer.url)}"
        targets = {JOB: client.base_url.port or 0, "postgres": exporter, "alertmanager": alerts.port}
        with prometheus(tmp_path_factory.mktemp("prometheus"), targets) as running:
            enough = Event()
            load = Thread(target=use, args=(client, enough))
            load.start()
            try:
                yield Stack(running, traces)
            finally:
                enough.set()
                load.join()


def looping() -> APIRouter:
    """A route that runs a statement for each row: one in many requests, too few to tell anybody of."""
    router = api_router()

    @router.get("/loop")
    def loop(database: CurrentDatabase, user: CurrentUser) -> None:
        for _ in range(5):
            database.execute(user, text("SELECT 1"), {})

    return router


def use(client: httpx.Client, enough: Event) -> None:
    """Use the API as its users do, mistakes included, a few dozen requests a second."""
    client.get("/api/loop")
    while not enough.wait(0.1):
        example = client.post("/api/examples", json={"title": "seen"}).json()
        client.get("/api/examples")
        client.patch(f"/api/examples/{example['id']}/complete")
        client.delete(f"/api/examples/{example['id']}")
        client.get("/api/examples/0")
        client.get("/api/examples", headers={"Authorization": "Bearer x"})


def unanswered(prometheus: Prometheus, queries: dict[str, str]) -> dict[str, str]:
    return {name: query for name, query in queries.items() if not prometheus.query(query)}


def test_every_target_is_scraped(stack: Stack) -> None:
    """Prometheus reads what the app, itself and the exporter expose, and has nothing to say against it."""

    def state() -> set[tuple[str, str, str]]:
        targets = stack.prometheus.get("/targets", state="active")["activeTargets"]
        return {(target["labels"]["job"], target["health"], target["lastError"]) for target in targets}

    until(state, lambda s: s == {(job, "up", "") for job in (JOB, "postgres", "prometheus", "alertmanager")}, SETTLED_S)


def test_every_rule_evaluates(stack: Stack) -> None:
    """No rule fails on real data, and recordings have a value."""
    recorded = {rule["record"]: rule["record"] for rule in rules() if "record" in rule}
    until(lambda: unanswered(stack.prometheus, recorded), lambda missing: not missing, SETTLED_S)
    found = [rule for group in stack.prometheus.get("/rules")["groups"] for rule in group["rules"]]
    assert len(found) == len(list(rules()))
    assert {(rule["health"], rule.get("lastError", "")) for rule in found} == {("ok", "")}


def test_a_healthy_app_raises_no_alert(stack: Stack) -> None:
    """Ordinary use, clients' mistakes included, makes nothing fire but what a busy machine is slow for."""
    until(lambda: stack.prometheus.query("slo:failures:ratio5m"), lambda found: len(found) == 2, SETTLED_S)
    alerts = [alert["labels"] for alert in stack.prometheus.get("/alerts")["alerts"]]
    alerts.remove({"alertname": "Watchdog", "severity": "none"})
    assert [one for one in alerts if one["alertname"] not in OF_SLOWNESS and one.get("slo") != "latency"] == []


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_every_panel_has_data(stack: Stack, uid: str) -> None:
    """Each query of each panel, and each variable, returns something."""
    queries = dict(of_dashboard(DASHBOARDS[uid]))
    assert len(queries) > 8
    until(lambda: unanswered(stack.prometheus, queries), lambda missing: not missing, SETTLED_S)


@pytest.mark.parametrize("document", [RUNBOOK, OBSERVE], ids=lambda path: path.name)
def test_every_query_of_the_documents_has_an_answer(stack: Stack, document: Path) -> None:
    """What a reader copies from the runbook or docs/observe.md returns something."""
    queries = {query: query for query in in_markdown(document.read_text())}
    until(lambda: unanswered(stack.prometheus, queries), lambda missing: not missing, SETTLED_S)


def test_every_metric_exists(stack: Stack) -> None:
    """No rule, link, panel, runbook section or line of docs/observe.md speaks of a metric that nobody exposes."""
    expressions = [rule["expr"] for rule in rules()]
    links = [rule["annotations"]["query_url"] for rule in rules() if "alert" in rule]
    expressions += [query.replace("%q", '""') for link in links for query in re.findall("`(.*?)`", link)]
    expressions += [query for board in DASHBOARDS.values() for _, query in of_dashboard(board)]
    expressions += [query for document in (RUNBOOK, OBSERVE) for query in in_markdown(document.read_text())]
    wanted = {name for expression in expressions for name in metrics_of(expression)} - {"ALERTS", "smoke_waits"}

    def missing() -> set[str]:
        return wanted - set(stack.prometheus.get("/label/__name__/values"))

    assert len(wanted) > 30
    assert until(missing, lambda names: not names, SETTLED_S) == set()


def test_a_deployment_is_marked(stack: Stack) -> None:
    """The dashboards' query finds the revision when it is new."""
    (mark,) = [one for one in DASHBOARDS["task-api"]["annotations"]["list"] if one["name"] == "Deployments"]
    now, query = time.time(), as_sent(mark["expr"], JOB)
    found = stack.prometheus.get("/query_range", query=query, start=now - 600, end=now, step=1)
    assert [one["metric"]["revision"] for one in found["result"]] == ["4f5e6d7"]


def test_exemplars_lead_to_requests_that_were_sent(stack: Stack) -> None:
    """Prometheus gives back, for requests and statements, trace ids of this very load."""

    def exemplars(metric: str) -> set[str]:
        now = time.time()
        found = stack.prometheus.get("/query_exemplars", query=metric, start=now - 600, end=now + 1)
        return {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}

    for metric in ("http_request_duration_seconds_bucket", "db_client_operation_duration_seconds_bucket"):
        traces = until(lambda metric=metric: exemplars(metric), bool, SETTLED_S)  # type: ignore[misc]  # bound at once
        assert traces <= stack.traces
