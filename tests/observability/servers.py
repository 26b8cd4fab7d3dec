"""The real Prometheus, and who else it scrapes."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import pytest
import yaml

from tests.observability.sources import PROMETHEUS
from tests.process import free_port
from tests.support import run_handler
from tests.telemetry.scrapes import until


def needed(program: str) -> str:
    """Where a program is; without it the test is skipped, or fails in CI, which installs it."""
    if (path := which(program)) is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{program} is not installed")
    return path


@contextmanager
def exposing(recorded: Path) -> Iterator[int]:
    """Answer scrapes with what an exporter said once; yield the port."""

    class Exporter(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            self.wfile.write(recorded.read_bytes())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with run_handler(Exporter) as port:
        yield port


def shipped_configuration(folder: Path, targets: dict[str, int]) -> Path:
    """Write the shipped configuration for these targets alone, at the pace of a test."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] in targets]
    assert len(config["scrape_configs"]) == len(targets)
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job |= {"static_configs": [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]}
        job |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    (folder / "rules").mkdir()
    for path in PROMETHEUS.glob("rules/*.yml"):
        (folder / "rules" / path.name).write_text(path.read_text().replace("interval: 30s", "interval: 1s"))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    return folder / "prometheus.yml"


class Prometheus:
    """A running Prometheus, asked over HTTP."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self._client.get(f"/api/v1{path}", params=parameters).json()
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        result: list[Any] = self.get("/query", query=expression)["result"]
        return result


@contextmanager
def prometheus(folder: Path, targets: dict[str, int]) -> Iterator[Prometheus]:
    """Run Prometheus with the shipped configuration."""
    port = free_port()
    command = [
        needed("prometheus"),
        f"--config.file={shipped_configuration(folder, targets | {'prometheus': port})}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    with subprocess.Popen(command) as process, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        try:
            until(lambda: is_ready(client), bool, 20)
            yield Prometheus(client)
        finally:
            process.terminate()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False
