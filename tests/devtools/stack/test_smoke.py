"""What `make smoke` asks of API, Prometheus and traces, asked of a real Prometheus and a receiver of OTLP."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from rich.console import Console

from devtools.smoke.checks import Stack
from devtools.smoke.run import API, METRICS, TRACES, run_checks
from tests.process import free_port
from tests.support import Api, make_token, run_server, wait_until

PROMETHEUS = Path(__file__).parents[3] / "observability/prometheus"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("prometheus") and os.environ.get("CI") != "true", reason="prometheus is missing"
    ),
]

Serve = Callable[..., AbstractContextManager[Api]]


class Traces(ThreadingHTTPServer):
    """Takes spans as OTLP in JSON, and gives them back by trace as Jaeger's api_v3 does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Traces

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        scopes = [scope for resource in body["resourceSpans"] for scope in resource["scopeSpans"]]
        self.server.spans += [span for scope in scopes for span in scope["spans"]]
        self._answer(200, {})

    def do_GET(self) -> None:
        wanted = self.path.rpartition("/")[2]
        spans = [span for span in self.server.spans if span["traceId"] == wanted]
        trace = {"result": {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}}
        self._answer(200 if spans else 404, trace)

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output to itself."""


@pytest.fixture
def traces() -> Iterator[Traces]:
    with run_server(Traces()) as server:
        yield server


@contextmanager
def scraping(api: Api, folder: Path) -> Iterator[str]:
    """Run Prometheus with the shipped rules, the API as its one target; give its URL."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    target = {"job_name": "task-api", "static_configs": [{"targets": [f"127.0.0.1:{api.port}"]}]}
    config |= {"scrape_configs": [target], "rule_files": [str(PROMETHEUS / "rules/*.yml")]}
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    url = f"127.0.0.1:{free_port()}"
    options = (f"--web.listen-address={url}", "--enable-feature=exemplar-storage", f"--storage.tsdb.path={folder}/data")
    command = ("prometheus", f"--config.file={folder}/prometheus.yml", *options)
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as prometheus:
        try:
            wait_until(lambda: is_ready(f"http://{url}/-/ready"), seconds=30)
            yield f"http://{url}"
        finally:
            prometheus.terminate()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@contextmanager
def stack(api: Api, jaeger: str, prometheus: str) -> Iterator[Stack]:
    with ExitStack() as clients:
        urls = (api.url, jaeger, prometheus, "http://127.0.0.1:1")
        served, traced, scraped, nowhere = (
            clients.enter_context(httpx.Client(base_url=url, timeout=10)) for url in urls
        )
        yield Stack(served, traced, scraped, nowhere, header, replicas=1)


def header(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {make_token(user)}"}


def test_every_link_of_a_whole_chain_holds(serve: Serve, traces: Traces, tmp_path: Path) -> None:
    """A row leads to its trace, a slow search to its plan, a scrape to an exemplar, the exemplar to a trace."""
    told = Console(record=True, width=250)
    settings = {"otel_exporter_otlp_endpoint": traces.url, "otel_bsp_schedule_delay": 200}
    with serve(**settings) as api, scraping(api, tmp_path) as prometheus, stack(api, traces.url, prometheus) as whole:
        assert run_checks(whole, API + TRACES + METRICS, told, patience_s=30), told.export_text()
    lines = told.export_text().splitlines()
    assert len(lines) == len(API + TRACES + METRICS)
    assert all(line.startswith("✓") for line in lines)


def test_a_link_that_is_broken_is_named(serve: Serve, tmp_path: Path) -> None:
    """Without a collector the traces are missing, and with two replicas wanted one is; all else still holds."""
    told = Console(record=True, width=250)
    with serve() as api, scraping(api, tmp_path) as prometheus, stack(api, "http://127.0.0.1:1", prometheus) as broken:
        broken.replicas = 2
        assert not run_checks(broken, API + TRACES + METRICS, told, patience_s=5)
    broken_links = [line for line in told.export_text().splitlines() if line.startswith("✗")]
    assert [line.split(".")[0] for line in broken_links] == [
        "✗ The created row's trace is in Jaeger, the statement included",
        "✗ The slow search's trace holds the executed plan",
        "✗ Prometheus found every replica by DNS and scrapes it",
        "✗ A latency exemplar leads from Prometheus to a trace in Jaeger",
    ]
