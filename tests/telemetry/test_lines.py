"""The app sends its lines to a real Loki with the shipped configuration: links and panels find them."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest

from devtools.smoke.checks import Stack, lines
from tests.docs.pages import blocks
from tests.observability.loki import loki
from tests.observability.promql import targets_of
from tests.observability.sources import DASHBOARDS, JOB
from tests.observability.test_dashboards import SOURCES
from tests.process import Process, run_process
from tests.support import wait_until
from tests.telemetry.support import stop

pytestmark = pytest.mark.slow
USERS = {f"user-{times}": times for times in range(11, 23)}  # how often each asks: more than alice in the other tests
PANELS = {
    panel["title"]: target["expr"]
    for board in DASHBOARDS.values()
    for panel in board["panels"]
    for target in targets_of(panel, "loki")
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with loki(tmp_path_factory.mktemp("loki")) as client:
        yield client


@pytest.fixture
def send(database_url: str, store: httpx.Client) -> Callable[..., AbstractContextManager[Process]]:
    """Run the application as a process that sends its lines to Loki as the stack's does, the last ones at its end."""
    endpoint = f"{str(store.base_url).rstrip('/')}/otlp/v1/logs"
    given = {"OTEL_LOGS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": endpoint, "OTEL_SERVICE_NAME": JOB}

    @contextmanager
    def run(**variables: object) -> Iterator[Process]:
        with run_process(database_url, **given, **variables) as process:
            yield process
            stop(process)

    return run


def find(store: httpx.Client, query: str) -> list[dict[str, str]]:
    """The fields of each line that the query finds, and its text."""
    answer = store.get("/loki/api/v1/query_range", params={"query": query, "since": "1h", "limit": "1000"})
    streams = answer.raise_for_status().json()["data"]["result"]
    return [one["stream"] | {"line": line} for one in streams for _, line in one["values"]]


def rank(store: httpx.Client, title: str) -> dict[str, float]:
    """What a panel of users shows, in its order."""
    found = store.get("/loki/api/v1/query", params={"query": as_sent(PANELS[title])})
    result: list[Any] = found.raise_for_status().json()["data"]["result"]
    return {one["metric"]["user_id"]: float(one["value"][1]) for one in result}


def as_sent(query: str, user: str = ".+") -> str:
    for name, value in {"$job": JOB, "$user": user, "$__range": "1h"}.items():
        query = query.replace(name, value)
    return query


@pytest.mark.usefixtures("many_examples")
@pytest.mark.parametrize("protocol", ["http/json", "http/protobuf"])
def test_a_trace_finds_its_lines(
    send: Callable[..., AbstractContextManager[Process]], store: httpx.Client, protocol: str
) -> None:
    """Grafana's link from a trace asks for exactly the lines of that trace: the request's and the slow query's.

    So does `make smoke`.
    """
    with send(OTEL_EXPORTER_OTLP_LOGS_PROTOCOL=protocol, SLOW_QUERY_MS=1) as process, process.client() as alice:
        trace_id = alice.get("/api/examples?q=needle").headers["x-trace-id"]
        alice.get("/api/examples?q=needle")
    (jaeger,) = [source for source in SOURCES if source["uid"] == "jaeger"]
    query = jaeger["jsonData"]["tracesToLogsV2"]["query"].replace("$${__trace.traceId}", trace_id)
    wait_until(lambda: len(find(store, query)) >= 2)
    assert {(line["logger"], line["trace_id"]) for line in find(store, query)} == {
        ("app.queries", trace_id),
        ("app.requests", trace_id),
    }
    assert len(find(store, as_sent(PANELS["Slow queries"]))) >= 2
    smoke = Stack(store, store, store, store, store, lambda _: {}, traces={"slow": trace_id})
    assert "GET /api/examples 200" in lines(smoke)


def test_panels_show_lines_and_who_asks(
    send: Callable[..., AbstractContextManager[Process]], store: httpx.Client
) -> None:
    """Of twelve users the ten that ask, use and are refused most, the first first; and the lines of any one."""
    with send(RATE_LIMIT="16/hour") as process:
        for user, times in USERS.items():
            with process.client(user) as client:
                for _ in range(times):
                    client.get("/api/examples")
    busiest = [f"user-{number}" for number in range(22, 12, -1)]
    wait_until(lambda: list(rank(store, "Who asks most")) == busiest)
    assert list(rank(store, "Who asks most").values()) == list(range(22, 12, -1))
    refused = rank(store, "Who is refused most")
    assert refused == {f"user-{number}": number - 16 for number in range(22, 16, -1)}
    assert len(rank(store, "Whose requests keep the database busy")) == 10
    of_one = find(store, as_sent(PANELS["By user"], "user-11"))
    assert [(line["line"], line["user_id"]) for line in of_one] == [("GET /api/examples 200", "user-11")] * 11
    assert find(store, as_sent(PANELS["Errors"])) == []


def test_the_queries_of_the_page_find_lines(
    send: Callable[..., AbstractContextManager[Process]], store: httpx.Client
) -> None:
    """What a reader copies from docs/observe.md finds the request, by its trace and by its user."""
    of_trace, of_user = "".join(blocks("docs/observe.md", __file__)).splitlines()
    with send() as process, process.client() as alice:
        trace_id = alice.get("/api/examples").headers["x-trace-id"]
    of_trace = re.sub("[0-9a-f]{32}", trace_id, of_trace)
    wait_until(lambda: find(store, of_trace))
    of_user = of_user.replace("> 100", "> 0")
    assert trace_id in {line["trace_id"] for line in find(store, of_user)}
