"""A path prefix is the proxy's own: metrics, spans and log lines go by the application's routes."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from io import StringIO

import pytest

from app.record import PROBES
from tests.otlp_receiver import Receiver
from tests.support import Api
from tests.telemetry.scrapes import scrape
from tests.telemetry.support import server_span

PREFIX = "/task-service"


@pytest.mark.parametrize("left", ["", PREFIX], ids=["taken away", "left"])
def test_a_route_is_called_what_it_is_called_without_a_prefix(
    traced: Callable[..., AbstractContextManager[Api]], receiver: Receiver, log: StringIO, left: str
) -> None:
    """Whether the proxy takes the prefix away or not; and probes make no spans and no lines."""
    with traced(root_path=PREFIX) as api, api.client() as client:
        probes = [client.request(method, left + path) for path in PROBES for method in ("GET", "HEAD")]
        answer = client.get(f"{left}/api/examples/7")
        span = server_span(receiver, answer)
        requests = scrape(client)
    assert [probe.status_code for probe in probes] == [200] * 2 * len(PROBES)
    assert not [probe for probe in probes if "X-Trace-Id" in probe.headers]
    assert (span["name"], span["attributes"]["http.route"]) == ("GET /api/examples/{id}", "/api/examples/{id}")
    assert requests.value("http_requests_total", handler="/api/examples/{id}", status="404") == 1
    assert requests.value("http_requests_total", handler="/health/ready", status="200") == 2
    lines = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]
    told = {line["route"]: line["level"] for line in lines if line["logger"] == "app.requests"}
    assert told == {"/api/examples/{id}": "INFO"} | dict.fromkeys(PROBES, "DEBUG")
