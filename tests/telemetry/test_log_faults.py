"""A receiver of log lines in trouble costs a request nothing, and a real log store finds a trace's lines by its id."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from tests.otlp_receiver import Receiver
from tests.process import Process, free_port, needed
from tests.programs import run_program
from tests.support import wait_until
from tests.telemetry.scrapes import scrape
from tests.telemetry.support import FAULTS, entries, in_trouble, stop
from tests.telemetry.test_export import duration

Run = Callable[..., AbstractContextManager[Process]]

pytestmark = pytest.mark.slow
SMALL = {"OTEL_BLRP_MAX_QUEUE_SIZE": 20, "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": 10, "OTEL_BLRP_SCHEDULE_DELAY": 10}


@pytest.mark.parametrize("protocol", ["http/json", "http/protobuf"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_receiver_in_trouble_costs_a_request_nothing(run: Run, receiver: Receiver, fault: str, protocol: str) -> None:
    """Dead, hanging, failing, refusing or slow: answers are as quick, and what is dropped is counted and told.

    That of spans is in the same trouble: both are given up within the same two seconds.
    """
    with in_trouble(fault, receiver) as url:
        given = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        with run(**given, **SMALL, OTEL_LOGS_EXPORTER="otlp") as process:
            with process.client() as alice:
                slowest = max(duration(alice) for _ in range(100))
                dropped = scrape(alice).value("otel_logs_dropped_total")
            took = stop(process)
            written = entries(process)
        assert process.popen.returncode == 0
    assert slowest < 1.0
    assert took < 5.0
    told = re.search(r"(\d+) log lines were dropped since the start", "\n".join(entry["message"] for entry in written))
    assert told
    assert int(told[1]) >= dropped > 0
    assert int(told[1]) + len(receiver.lines) >= 100  # none is forgotten
    assert len([entry for entry in written if entry["logger"] == "app.requests"]) == 100


@pytest.fixture
def victoria_logs(tmp_path: Path) -> Iterator[httpx.Client]:
    port = free_port()
    command = [needed("victoria-logs"), f"-storageDataPath={tmp_path}", f"-httpListenAddr=127.0.0.1:{port}"]
    with run_program(command, port, "/health") as (_, client):
        yield client


def find(store: httpx.Client, query: str) -> list[dict[str, str]]:
    answer = store.post("/select/logsql/query", data={"query": query}).raise_for_status()
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.usefixtures("many_examples")
def test_the_lines_of_a_trace_are_found_by_its_id(run: Run, victoria_logs: httpx.Client) -> None:
    """In a real VictoriaLogs, which takes protobuf only: the request's line, and that of its slow query."""
    endpoint = f"{victoria_logs.base_url}/insert/opentelemetry/v1/logs"
    given = {"OTEL_LOGS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": endpoint, "SLOW_QUERY_MS": 1}
    with run(**given, OTEL_EXPORTER_OTLP_LOGS_PROTOCOL="http/protobuf") as process:
        with process.client() as alice, process.client("bob") as bob:
            answer = alice.get("/api/examples?q=needle")
            bob.get("/api/examples")
            assert scrape(alice).value("otel_logs_dropped_total") == 0
        stop(process)
        (written,) = [entry for entry in entries(process) if entry.get("trace_id") == answer.headers["x-trace-id"]][-1:]
    query = f"trace_id:{answer.headers['x-trace-id']}"
    wait_until(lambda: len(find(victoria_logs, query)) == 2)
    slow, request = sorted(find(victoria_logs, query), key=lambda line: line["logger"])
    assert (slow["logger"], slow["severity_text"]) == ("app.queries", "WARNING")
    assert (request["_msg"], request["severity_text"], request["span_id"]) == (
        written["message"],
        "INFO",
        written["span_id"],
    )
    assert (request["user_id"], request["status"], request["service.name"]) == ("alice", "200", "task-api")
    assert [line["user_id"] for line in find(victoria_logs, "logger:app.requests user_id:bob")] == ["bob"]
