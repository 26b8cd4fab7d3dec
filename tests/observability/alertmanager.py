"""The real Alertmanager, and a receiver that keeps what it sends."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.observability.sources import ALERTMANAGER
from tests.process import free_port, needed
from tests.programs import run_program
from tests.support import run_server

OWN = ("page", "ticket", "watchdog")


class Receiver(ThreadingHTTPServer):
    """Keeps the alerts that are sent to each path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.alerts: dict[str, list[dict[str, Any]]] = {name: [] for name in OWN}

    def received(self, name: str) -> list[tuple[str, str | None]]:
        """Name and job of each alert that came to a receiver."""
        return [(alert["labels"]["alertname"], alert["labels"].get("job")) for alert in self.alerts[name]]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.alerts[self.path.strip("/")] += body["alerts"]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    with run_server(Receiver()) as receiver:
        yield receiver


class Alertmanager:
    """A running Alertmanager, asked over HTTP."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], client: httpx.Client) -> None:
        self.port = port
        self.process = process
        self._client = client

    def fire(self, *alerts: dict[str, str]) -> None:
        """Hand in alerts with these labels, as Prometheus does."""
        self._client.post("/api/v2/alerts", json=[{"labels": labels} for labels in alerts]).raise_for_status()

    def states(self) -> dict[frozenset[tuple[str, str]], str]:
        """What becomes of each alert, by its labels: active, or suppressed."""
        found = self._client.get("/api/v2/alerts").raise_for_status().json()
        return {frozenset(alert["labels"].items()): alert["status"]["state"] for alert in found}


def configuration(receivers: dict[str, str]) -> dict[str, Any]:
    """The shipped one at the pace of a test, with these addresses and no others."""
    config: dict[str, Any] = yaml.safe_load(ALERTMANAGER.read_text())
    config["receivers"] = [
        {"name": one["name"]}
        | ({"webhook_configs": [{"url": receivers[one["name"]]}]} if one["name"] in receivers else {})
        for one in config["receivers"]
    ]
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "1s", "group_interval": "1s"}
    return config


@contextmanager
def alertmanager(folder: Path, receivers: dict[str, str] | None = None) -> Iterator[Alertmanager]:
    """Run Alertmanager with the shipped routes."""
    port = free_port()
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(configuration(receivers or {})))
    command = [
        needed("prometheus-alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=error",
    ]
    with run_program(command, port, "/-/ready") as (process, client):
        yield Alertmanager(port, process, client)
