"""The real Prometheus, and who else it scrapes."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.observability.pace import in_seconds
from tests.observability.sources import PROMETHEUS
from tests.process import free_port, needed
from tests.programs import run_program
from tests.support import run_handler


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


def shipped_configuration(folder: Path, targets: Mapping[str, int | Path], every: str) -> Path:
    """Write the shipped configuration for these targets alone, at the pace of a test."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
    config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] in targets]
    assert len(config["scrape_configs"]) == len(targets)
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job.update(discovery(targets[job["job_name"]], every), scrape_interval=every, scrape_timeout=every)
    (folder / "rules").mkdir()
    if "alertmanager" in targets:
        config["alerting"]["alertmanagers"] = [
            {"timeout": "1s", "static_configs": [{"targets": [f"127.0.0.1:{targets['alertmanager']}"]}]}
        ]
    else:
        del config["alerting"]
    for path in PROMETHEUS.glob("rules/*.yml"):
        (folder / "rules" / path.name).write_text(re.sub(r"interval: \d+s", "interval: 1s", path.read_text()))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    return folder / "prometheus.yml"


def discovery(target: int | Path, every: str) -> dict[str, Any]:
    """Let Prometheus scrape a port, or what a file of targets names, however it changes."""
    if isinstance(target, Path):
        return {"file_sd_configs": [{"files": [str(target)], "refresh_interval": every}]}
    return {"static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}


class Prometheus:
    """A running Prometheus, asked over HTTP."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.url = str(client.base_url)

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self._client.get(f"/api/v1{path}", params=parameters).json()
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        result: list[Any] = self.get("/query", query=expression)["result"]
        return result


@contextmanager
def prometheus(
    folder: Path, targets: Mapping[str, int | Path], *, seconds_for_minutes: bool = False
) -> Iterator[Prometheus]:
    """Run Prometheus with the shipped configuration. Its rules may say seconds, where the shipped ones say minutes."""
    port = free_port()
    every = "500ms" if seconds_for_minutes else "1s"
    file = shipped_configuration(folder, {**targets, "prometheus": port}, every)
    if seconds_for_minutes:
        for path in (folder / "rules").iterdir():
            path.write_text(in_seconds(path.read_text()))
    command = [
        needed("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url=http://127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--rules.alert.resend-delay=1s",
        *(["--query.lookback-delta=5s"] if seconds_for_minutes else []),
        "--log.level=error",
    ]
    with run_program(command, port, "/-/ready") as (_, client):
        yield Prometheus(client)
