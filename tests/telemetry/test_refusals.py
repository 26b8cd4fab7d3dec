"""A collector that refuses spans: the log says with which status, and which variable to look at."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from socket import socket

import pytest

from tests.otlp_receiver import Receiver
from tests.support import Api, wait_until
from tests.telemetry.scrapes import scrape

Serve = Callable[..., AbstractContextManager[Api]]

CANARY = "canary-7f3a"
ENDPOINT = ": see OTEL_EXPORTER_OTLP_ENDPOINT, the path asked for was /collect/v1/traces"
HINTS = {
    400: "",
    401: ": see OTEL_EXPORTER_OTLP_HEADERS",
    403: ": see OTEL_EXPORTER_OTLP_HEADERS",
    404: ENDPOINT,
    405: ENDPOINT,
    307: ENDPOINT,
    413: ": see OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    415: ": set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
    500: "",
}


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    name = "app.telemetry.otlp_http"
    return [f"{line.levelname} {line.getMessage()}" for line in caplog.records if line.name == name]


def test_each_status_is_told_once(traced: Serve, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """However many batches meet it: one warning, with what is likely to be wrong and nothing that is secret."""
    wanted = []
    endpoint = f"http://user:{CANARY}@127.0.0.1:{receiver.port}/collect/v1/traces?key={CANARY}"
    given = {"otel_exporter_otlp_traces_endpoint": endpoint, "otel_exporter_otlp_headers": f"authorization={CANARY}"}
    with traced(**given, otel_bsp_schedule_delay=10) as api, api.client() as alice:
        for status, hint in HINTS.items():
            receiver.status, refused = status, receiver.refused
            wanted.append(f"WARNING the collector refuses spans with status {status}{hint}")
            for batch in (1, 2):
                alice.get("/api/examples")
                wait_until(lambda: receiver.refused >= refused + batch)  # noqa: B023  called at once
            wait_until(lambda: wanted == refusals(caplog))
    assert refusals(caplog) == wanted
    assert CANARY not in caplog.text


def test_a_collector_that_is_not_there_is_named(traced: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Once, by host and port; an idle connection that a collector closes is no news."""
    with socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        given = {"otel_exporter_otlp_timeout": 0.2, "otel_bsp_schedule_delay": 10}
        with traced(otel_exporter_otlp_endpoint=f"http://127.0.0.1:{port}", **given) as api, api.client() as alice:
            for count in (1, 2):
                alice.get("/api/examples")
                wait_until(lambda: scrape(alice).value("otel_spans_dropped_total") >= count)  # noqa: B023  called at once
    assert refusals(caplog) == [f"WARNING the collector at 127.0.0.1:{port} does not answer: ConnectionRefusedError"]


def test_a_collector_that_asks_for_patience_refuses_nothing(
    traced: Serve, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """429 and 503 are no fault of a variable."""
    with traced(otel_exporter_otlp_timeout=0.5, otel_bsp_schedule_delay=10) as api, api.client() as alice:
        for status in (429, 503):
            receiver.status, refused = status, receiver.refused
            alice.get("/api/examples")
            wait_until(lambda: receiver.refused > refused)  # noqa: B023  called at once
    assert refusals(caplog) == []
