"""The stack's proxy, as HAProxy runs it, before a real process."""

from pathlib import Path

import httpx
import pytest

from tests.haproxy import proxied, servers
from tests.process import free_port, run_process
from tests.support import wait_until

NOT_FOUND = {
    "type": "about:blank",
    "title": "Not Found",
    "status": 404,
    "detail": "There is no such resource.",
    "code": "not_found",
}


@pytest.mark.slow
def test_it_hands_on_the_api_and_no_metrics(database_url: str, tmp_path: Path) -> None:
    """Not even where the application would answer, and however the path is written."""
    metrics_port = free_port()
    with run_process(database_url, metrics_port=metrics_port) as process:
        with proxied(tmp_path, {process.port: metrics_port}) as users:
            assert users.get("/api/examples").status_code == 200
        with proxied(tmp_path, {metrics_port: metrics_port}) as users:
            for path in ("/metrics", "/%6detrics", "/metrics?x=1"):
                refused = users.get(path)
                assert (refused.status_code, refused.headers["content-type"]) == (404, "application/problem+json")
                assert refused.json() == NOT_FOUND


@pytest.mark.slow
def test_its_own_health_is_not_that_of_the_replicas(database_url: str, tmp_path: Path) -> None:
    """It is healthy without one, and tells which addresses it has found ready, to those inside its container."""
    own, metrics_port = free_port(), free_port()
    serving = run_process(database_url, metrics_port=metrics_port)
    with serving as process, proxied(tmp_path, {process.port: metrics_port}, own) as users:
        wait_until(lambda: servers(own)[process.port].check == "L7OK", seconds=20)
        process.popen.terminate()
        wait_until(lambda: users.get("/health").status_code == 503, seconds=20)
        assert httpx.get(f"http://127.0.0.1:{own}/health").status_code == 200
        wait_until(lambda: servers(own)[process.port].check != "L7OK", seconds=20)
