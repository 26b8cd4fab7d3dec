"""What `make smoke` asks of API, Prometheus and traces, asked of a real Prometheus and a receiver of OTLP."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from rich.console import Console

from devtools.smoke import checks
from devtools.smoke.checks import TAIL_SAMPLING, Stack, find_series
from devtools.smoke.run import ALERTS, API, LINES, METRICS, TRACES, run_checks
from tests.observability.alertmanager import alertmanager
from tests.observability.servers import exposing, prometheus
from tests.process import ROOT, free_port
from tests.programs import run_program
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
def scraping(api: Api, folder: Path, jaeger: int = 1) -> Iterator[str]:
    """Run Prometheus with the shipped rules, the API and Jaeger's port as its targets; give its URL."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    targets = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        for job, port in (("task-api", api.port), ("jaeger", jaeger))
    ]
    config |= {"scrape_configs": targets, "rule_files": [str(PROMETHEUS / "rules/*.yml")]}
    del config["alerting"]
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    address = f"--web.listen-address=127.0.0.1:{port}"
    options = (address, "--enable-feature=exemplar-storage", f"--storage.tsdb.path={folder}/data", "--log.level=error")
    command = ("prometheus", f"--config.file={folder}/prometheus.yml", *options)
    with run_program(command, port, "/-/ready", seconds=30) as (_, client):
        yield str(client.base_url)


@contextmanager
def stack(api: Api, jaeger: str, prometheus: str, loki: str = "http://127.0.0.1:1") -> Iterator[Stack]:
    with ExitStack() as clients:
        urls = (api.url, jaeger, prometheus, "http://127.0.0.1:1", loki)
        served, traced, scraped, nowhere, kept = (
            clients.enter_context(httpx.Client(base_url=url, timeout=10)) for url in urls
        )
        yield Stack(served, traced, scraped, nowhere, kept, header, replicas=1)


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
    """Without collector and Loki traces and lines are missing, and of two replicas wanted one is; all else holds."""
    told = Console(record=True, width=250)
    with serve() as api, scraping(api, tmp_path) as prometheus, stack(api, "http://127.0.0.1:1", prometheus) as broken:
        broken.replicas = 2
        assert not run_checks(broken, API + TRACES + LINES + METRICS, told, patience_s=5)
    broken_links = [line for line in told.export_text().splitlines() if line.startswith("✗")]
    assert [line.split(".")[0] for line in broken_links] == [
        "✗ The created row's trace is in Jaeger, the statement included",
        "✗ The slow search's trace holds the executed plan",
        "✗ The slow search's lines are in Loki, found by its trace's id",
        "✗ Prometheus found every replica by DNS and scrapes it",
        "✗ A latency exemplar leads from Prometheus to a trace in Jaeger",
    ]


@pytest.mark.parametrize("own", [0, 1])
def test_an_alert_arrives(api: Api, own: int, tmp_path: Path) -> None:
    """A rule fires for the receiver that smoke runs, and Alertmanager sends it there. Whether others exist is told."""
    told = Console(record=True, width=250)
    port = free_port()
    addresses = {"smoke": f"http://127.0.0.1:{port}/"} | ({"page": "http://127.0.0.1:1/"} if own else {})
    with alertmanager(tmp_path, addresses) as alerts:
        targets = {"smoke": port, "alertmanager": alerts.port}
        with prometheus(tmp_path, targets) as running, stack(api, api.url, running.url) as whole:
            whole.receiver = (sys.executable, "-I", str(ROOT / "devtools/smoke/receiver.py"), "127.0.0.1", str(port))
            assert run_checks(whole, ALERTS, told, patience_s=0), told.export_text()
    known = "receivers of your own: " + ("1" if own else "0, so other alerts reach nobody")
    assert re.fullmatch(rf"✓ An alert goes .* SmokeRuns after \d+ s; {known}\n", told.export_text())


@pytest.mark.parametrize(
    ("receiver", "said"),
    [
        ((sys.executable, "-c", "import sys; sys.exit('no alert came within 45 s')"), "no alert came within 45 s"),
        (("/nonexistent/docker",), "No such file or directory: '/nonexistent/docker'"),
    ],
    ids=["nothing came", "no docker"],
)
def test_an_alert_that_does_not_arrive_is_told_of(api: Api, receiver: tuple[str, ...], said: str) -> None:
    """With the reason."""
    told = Console(record=True, width=250)
    with stack(api, api.url, api.url) as broken:
        broken.receiver = receiver
        assert not run_checks(broken, ALERTS, told, patience_s=0)
    assert told.export_text().rstrip().endswith(said)


def test_what_tail_sampling_left_out_is_no_fault(serve: Serve, traces: Traces, tmp_path: Path) -> None:
    """An ordinary trace may then be missing, and the line says so. What is slow is kept, and must be there."""
    told = Console(record=True, width=250)
    metrics = tmp_path / "metrics"
    metrics.write_text("otelcol_processor_tail_sampling_count_traces_sampled 1\n")
    with (
        serve() as api,
        exposing(metrics) as port,
        scraping(api, tmp_path, port) as prometheus,
        stack(api, traces.url, prometheus) as sampled,
    ):
        sampled.traces = {"created": "1" * 32, "slow": "2" * 32}
        wait_until(lambda: bool(find_series(sampled, TAIL_SAMPLING)), seconds=30)
        assert run_checks(sampled, (checks.database_span,), told, patience_s=5)
        assert not run_checks(sampled, (checks.executed_plan,), told, patience_s=5)
    left_out, missing = told.export_text().splitlines()
    assert left_out.startswith("- The created row's trace is in Jaeger")
    assert "Tail sampling is on." in left_out
    assert missing.startswith("✗ The slow search's trace holds the executed plan")
