"""Metrics that are not public: METRICS_PORT has them and the probes, and no user reaches it."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from typing import Any

import httpx
import pytest

from tests.process import free_port, run_command, run_process
from tests.support import CERTIFICATES, Api, wait_until

Serve = Callable[..., AbstractContextManager[Api]]
TOKEN = "scraper-0123456789abcdef"


@pytest.fixture
def metrics_port() -> int:
    return free_port()


@pytest.fixture
def api(serve: Serve, metrics_port: int) -> Iterator[Api]:
    with serve(metrics_port=metrics_port) as api:
        yield api


def ask(port: int, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=10, verify=CERTIFICATES)


def test_users_see_no_metrics(api: Api, metrics_port: int) -> None:
    """Not on their port, whatever the Host header or a query says; it is the 404 of any path that is not there."""
    for headers in ({}, {"Host": f"127.0.0.1:{metrics_port}"}, {"X-Forwarded-Port": str(metrics_port)}):
        answer = ask(api.port, "/metrics", **headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert ask(api.port, "/health/ready").status_code == 200


def test_the_port_has_metrics_and_probes_alone(api: Api, metrics_port: int) -> None:
    """What users did is in the metrics; the API, its documents and the unknown are not there."""
    with api.client() as alice:
        assert alice.get("/api/examples").status_code == 200
        told = ask(metrics_port, "/metrics")
        assert 'http_requests_total{handler="/api/examples"' in told.text
        for path in ("/health", "/health/live", "/health/ready"):
            assert ask(metrics_port, path).status_code == 200
        token = alice.headers["Authorization"]
        for path in (
            "/api/examples",
            "/docs",
            "/openapi.json",
            "/",
            "/metrics/",
            "//metrics",
            "/health/../api/examples",
        ):
            assert ask(metrics_port, path, Authorization=token).status_code == 404


def test_a_token_is_wanted_there_too(serve: Serve, metrics_port: int) -> None:
    """With METRICS_TOKEN set as well."""
    with serve(metrics_port=metrics_port, metrics_token=TOKEN):
        assert ask(metrics_port, "/metrics").status_code == 401
        assert ask(metrics_port, "/metrics", Authorization=f"Bearer {TOKEN}").status_code == 200


def test_readiness_can_be_asked_until_the_end(database_url: str, metrics_port: int) -> None:
    """It is 503 there while the process drains, and a client that keeps its connection holds nothing up."""
    with run_process(database_url, metrics_port=metrics_port, shutdown_delay_s=2) as process:
        with httpx.Client(base_url=f"http://127.0.0.1:{metrics_port}") as prober:
            assert prober.get("/health/ready").status_code == 200
            process.popen.send_signal(signal.SIGTERM)
            wait_until(lambda: prober.get("/health/ready").status_code == 503)
            assert process.popen.wait(10) == 0, process.output()
        assert "Traceback" not in process.output()


def test_a_port_that_is_taken_is_told_in_a_line(database_url: str) -> None:
    """Exit code 1, by the variable to change."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        run = run_command(["serve"], database_url, port=free_port(), metrics_port=port)
    told = f"METRICS_PORT: 127.0.0.1:{port} cannot be listened on: Address already in use.\n"
    assert (run.returncode, run.stdout, run.stderr) == (1, "", told)


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"environment": "production"}, 1),
        ({"environment": "production", "metrics_token": TOKEN}, 0),
        ({"environment": "production", "metrics_enabled": False}, 0),
        ({}, 0),
    ],
)
def test_public_metrics_are_warned_of(
    serve: Serve, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], warned: int
) -> None:
    """In production, in one line that says what to set."""
    with serve(**settings):
        lines = [record.getMessage() for record in caplog.records if "everybody may read" in record.getMessage()]
    assert len(lines) == warned
    assert all("METRICS_PORT" in line and "METRICS_TOKEN" in line for line in lines)


def test_with_a_port_there_is_no_warning(serve: Serve, caplog: pytest.LogCaptureFixture, metrics_port: int) -> None:
    """Users cannot read them."""
    with serve(environment="production", metrics_port=metrics_port):
        assert "everybody may read" not in caplog.text
