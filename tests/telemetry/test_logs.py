"""One line a request and for every other event, in one shape, that leads to the trace."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from io import StringIO
from itertools import product
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from prometheus_client import Metric
from prometheus_client.registry import Collector

from app.record import PROBES
from tests.process import ROOT, Process
from tests.support import Api, slow
from tests.telemetry.scrapes import OPENMETRICS
from tests.telemetry.support import entries, stop
from tests.web.team import Client, call_routers

SCRAPER = "the-token-of-prometheus"

Run = Callable[..., AbstractContextManager[Process]]


def requests(process: Process) -> list[dict[str, Any]]:
    return [entry for entry in entries(process) if entry["logger"] == "app.requests"]


def test_each_request_is_one_json_line(run: Run) -> None:
    """A request's line says who asked what, how it ended, how long it took, and which trace it belongs to."""
    with run() as process:
        with process.client() as alice:
            created = alice.post("/api/examples", json={"title": "mine"})
            missing = alice.get("/api/examples/999")
        stop(process)
        first, second = requests(process)
    assert {name: first[name] for name in ("level", "message", "method", "route", "status", "user_id", "client")} == {
        "level": "INFO",
        "message": "POST /api/examples 201",
        "method": "POST",
        "route": "/api/examples",
        "status": 201,
        "user_id": "alice",
        "client": "127.0.0.1",
    }
    assert first["trace_id"] == created.headers["x-trace-id"]
    assert re.fullmatch("[0-9a-f]{16}", first["span_id"])
    assert first["duration_ms"] >= first["db_ms"] > 0
    assert first["db_queries"] == 1
    assert datetime.fromisoformat(first["time"]).utcoffset() is not None
    assert (second["route"], second["status"], second["code"]) == ("/api/examples/{id}", 404, "example_not_found")
    assert second["trace_id"] == missing.json()["trace_id"]


def test_every_line_has_the_same_shape(run: Run) -> None:
    """From start to end, uvicorn's lines included, each line is one JSON object with time, level, logger, message."""
    with run() as process:
        with process.client() as alice:
            alice.get("/api/examples")
        stop(process)
        written = entries(process)
    assert all({"time", "level", "logger", "message"} <= set(entry) for entry in written)
    assert {"app.requests", "uvicorn.error"} <= {entry["logger"] for entry in written}
    assert "uvicorn.access" not in {entry["logger"] for entry in written}


def test_refusals_before_the_application_are_logged(run: Run) -> None:
    """A request that no route sees has its line as well, with its code and without a route."""
    with run() as process:
        with process.client() as alice:
            alice.post("/api/examples", content=b"x" * 200_000)
            alice.get("/nothing/here")
        stop(process)
        large, unknown = requests(process)
    assert (large["status"], large["code"], "route" in large) == (413, "body_too_large", False)
    assert (unknown["status"], unknown["code"], "route" in unknown) == (404, "not_found", False)


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
@pytest.mark.parametrize("prefix", [slow(""), "/task-service"])
def test_probes_are_logged_at_debug_only(run: Run, level: str, prefix: str) -> None:
    """Health probes and scrapes, which come every few seconds for ever, are lines only for who wants to see everything.

    Those that are refused as well.
    """
    with run(LOG_LEVEL=level, ROOT_PATH=prefix, METRICS_TOKEN=SCRAPER) as process:
        with httpx.Client(base_url=process.url) as probe:
            for path, method in product(PROBES, ("GET", "HEAD")):
                assert probe.request(method, prefix + path).status_code == (401 if path == "/metrics" else 200)
            for accept in ({}, OPENMETRICS):
                scraped = probe.get("/metrics", headers={"Authorization": f"Bearer {SCRAPER}"} | accept)
                assert scraped.status_code == 200
            assert probe.post("/metrics").status_code == 405
        stop(process)
        probes = {entry["message"] for entry in requests(process) if entry["level"] == "DEBUG"}
        others = [entry for entry in requests(process) if entry["level"] != "DEBUG"]
    wanted = {f"{method} {path} 200" for path, method in product(PROBES - {"/metrics"}, ("GET", "HEAD"))}
    wanted |= {"GET /metrics 200", "GET /metrics 401", "HEAD /metrics 401", "POST /metrics 405"}
    assert (probes, others) == (wanted if level == "DEBUG" else set(), [])


def test_a_probe_that_fails_is_a_warning(log: StringIO) -> None:
    """A 500 is nobody's usual answer. A database that is away is a verdict: readiness itself logs why."""

    class Broken(Collector):
        def collect(self) -> list[Metric]:
            raise LookupError

    async def ask(client: Client) -> list[int]:
        return [(await client.get(path)).status_code for path in ("/metrics", "/health/ready")]

    assert call_routers(act=ask, prepare=lambda app: app.state.metrics.registry.register(Broken())) == [500, 503]
    lines = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]
    told = {line["message"]: line["level"] for line in lines if line["logger"] == "app.requests" and "status" in line}
    assert told == {"GET /metrics 500": "WARNING", "GET /health/ready 503": "DEBUG"}


@pytest.mark.usefixtures("many_examples")
def test_a_slow_query_is_a_warning(run: Run) -> None:
    """Sampled or not, a slow query is a WARNING line with its plan's summary, who asked, and its trace."""
    with run(SLOW_QUERY_MS="1", OTEL_TRACES_SAMPLER="always_off") as process:
        with process.client() as alice:
            answer = alice.get("/api/examples?q=needle")
        stop(process)
        (slow,) = [entry for entry in entries(process) if entry["logger"] == "app.queries"]
    assert slow["level"] == "WARNING"
    assert slow["message"].startswith("slow query: SELECT example took ")
    assert "sequential scan of example" in slow["message"]
    assert slow["trace_id"] == answer.headers["x-trace-id"]
    assert slow["code.function.name"] == "devtools.examples.queries.ExampleStore.page"
    assert slow["app.db.plan.seq_scan_tables"] == ["example"]
    assert "%(pattern)s" in slow["db.query.text"]


def test_in_a_terminal_a_failed_request_prints_its_trace(
    traced: Callable[..., AbstractContextManager[Api]], log: StringIO, database: Callable[..., APIRouter]
) -> None:
    """A 500 shows its tree however quick it was, with what failed in it."""
    with traced(log_format="console", entities=(database("SELECT nothing"),)) as api, api.client() as alice:
        alice.get("/api/ask")
    assert re.search(r"WARNING GET /api/ask 500 .*\n +[\d.]+ ms  GET /api/ask", log.getvalue())
    assert re.search(r"\n +[\d.]+ ms  SELECT  failed: UndefinedColumn\n", log.getvalue())


@pytest.mark.usefixtures("many_examples")
def test_in_a_terminal_a_slow_request_prints_its_trace(run: Run) -> None:
    """The readable form shows a slow request as a tree: its spans, who asked, the statement and its plan."""
    with run(SLOW_QUERY_MS="1", LOG_FORMAT="console") as process:
        with process.client() as alice:
            alice.get("/api/examples?q=needle")
        stop(process)
        output = process.output()
    assert re.search(
        r"INFO    GET /api/examples 200  [\d.]+ ms, 1 query of [\d.]+ ms, alice  trace [0-9a-f]{32}\n", output
    )
    assert re.search(r"\n +[\d.]+ ms  GET /api/examples\n", output)
    assert re.search(r"\n +[\d.]+ ms  SELECT example\n", output)
    assert "devtools.examples.queries.ExampleStore.page (devtools/examples/queries.py:" in output
    assert "-> Seq Scan on example: " in output
    assert "\033" not in output


def test_in_a_terminal_a_quick_request_is_one_line(run: Run) -> None:
    """An ordinary request is a line without a tree."""
    with run(LOG_FORMAT="console", SLOW_QUERY_MS="60000") as process:
        with process.client() as alice:
            alice.get("/api/examples")
        stop(process)
        ours = [line for line in process.output().splitlines() if "/api/examples" in line or " ms  " in line]
    assert len(ours) == 1


def test_without_a_terminal_lines_are_json(run: Run) -> None:
    """`auto`, the default, is JSON where nobody reads along."""
    with run(LOG_FORMAT="auto") as process:
        stop(process)
        assert all(json.loads(line) for line in process.output().splitlines())


FAILING = """
import logging
import threading
import warnings
from app.settings import Settings
from app.telemetry import logs

logs.configure(Settings())
logging.getLogger("team").warning("%d examples", "canary")
warnings.warn("a value follows\\n  input_value='canary'")
def fail():
    raise ValueError("canary")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
"""


def test_what_fails_aside_is_a_line_without_its_values() -> None:
    """A thread that ends by an exception, a warning, and arguments that do not fit: each is one JSON line."""
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", FAILING], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    misfit, warned, failed = (json.loads(line) for line in done.stdout.splitlines())
    assert misfit["message"] == "%d examples"
    assert (warned["logger"], warned["message"].endswith("a value follows")) == ("py.warnings", True)
    assert (failed["message"], "in fail" in failed["stack"]) == ("a thread failed: ValueError", True)
    assert "canary" not in done.stdout + done.stderr
