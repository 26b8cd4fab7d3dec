"""What a team's code measures, traces and logs by the standard interfaces, well and badly."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from opentelemetry import trace
from prometheus_client import REGISTRY, Counter, Gauge, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app.telemetry.exposition import NameTaken
from tests.copies import copy_project_with
from tests.otlp_receiver import Receiver
from tests.process import run_process
from tests.redis_server import Redis
from tests.support import Api, wait_until
from tests.telemetry.scrapes import scrape
from tests.telemetry.support import router_of, server_span, trace_of

Serve = Callable[..., AbstractContextManager[Api]]
REDIS = """
from fastapi import APIRouter
from opentelemetry.instrumentation.redis import RedisInstrumentor
from app.web.route import ApiRoute

RedisInstrumentor().instrument()
router = APIRouter(prefix="/api/nothing", route_class=ApiRoute)


@router.get("")
def read_nothing() -> None: ...
"""


@contextmanager
def shared(metric: Collector) -> Iterator[None]:
    """Keep a metric in the default registry, where it is by now, until the block ends."""
    try:
        yield
    finally:
        REGISTRY.unregister(metric)


def test_an_application_leaves_the_process_alone(traced: Serve, receiver: Receiver) -> None:
    """Of two applications in one process neither takes the spans of the other: the global provider is not set."""
    with traced() as first, traced() as second, first.client() as alice, second.client() as bob:
        assert server_span(receiver, alice.get("/api/examples"))
        assert server_span(receiver, bob.get("/api/examples"))
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_a_name_that_is_taken_is_refused_at_the_start(traced: Serve) -> None:
    """Two metrics of one name would spoil the scrape: one line says which they are."""
    line = r"^The application has metrics of its own named http_requests_total, worker_threads: rename yours\.$"
    with (
        shared(Gauge("http_requests_total", "A team's own.")),
        shared(Gauge("worker_threads", "As well.")),
        pytest.raises(NameTaken, match=line),
        traced(),
    ):
        raise AssertionError("it started")


class Twice(Collector):
    """A collector that does not say what it has, of which one is a name of the application's."""

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        return [GaugeMetricFamily("own_twice", "Once.", 1), GaugeMetricFamily("own_twice", "Again.", 2)]


def test_a_metric_that_comes_late_or_fails_costs_no_other(traced: Serve, log: StringIO) -> None:
    """One whose name is taken or there twice, one that raises, one that is no text: each is logged once."""
    with traced() as api, api.client() as alice:
        taken, failing = Gauge("worker_threads", "Late."), Gauge("own_failing", "Raises.")
        failing.set_function(lambda: 1 / 0)
        odd, good, dots = (
            Counter("own_odd", "No text.", ["kind"]),
            Counter("own_good", "Counts."),
            Gauge("own.dots", "x"),
        )
        odd.labels("\ud800").inc()
        good.inc(2)
        REGISTRY.register(twice := Twice())
        with shared(taken), shared(failing), shared(odd), shared(good), shared(dots), shared(twice):
            found = [scrape(alice) for _ in range(2)][-1]
            in_text = alice.get("/metrics").text
    assert (found.value("own_good_total"), found.value("http_requests_total") > 0, found.value("own_dots")) == (
        2,
        True,
        0,
    )
    assert not [sample for sample in found.samples if sample.name in {"own_failing", "own_odd_total", "own_twice"}]
    assert in_text.count("# TYPE worker_threads gauge") == 1
    assert "own_good_total 2.0" in in_text
    lines = [line for line in log.getvalue().splitlines() if '"app.telemetry.exposition"' in line]
    assert sorted(line.partition('"message": "')[2].partition('"')[0] for line in lines) == [
        "a metric cannot be read, UnicodeEncodeError: counter:own_odd",
        "a metric cannot be read, ZeroDivisionError: gauge:own_failing",
        "metrics are not shown, since others have their names: own_twice",
        "metrics are not shown, since others have their names: worker_threads",
    ]


def test_a_metric_that_waits_holds_nobody_up(traced: Serve, log: StringIO) -> None:
    """While it is read the application answers, and a scrape has what is the application's own."""
    may_end = Event()
    with traced() as api, api.client() as alice:
        waiting, good = Gauge("own_waiting", "Waits."), Gauge("own_good_gauge", "Is left out meanwhile.")
        waiting.set_function(lambda: may_end.wait(30))
        with shared(waiting), shared(good), ThreadPoolExecutor(1) as thread:
            scraping = thread.submit(scrape, alice)
            wait_until(lambda: alice.get("/health/live").is_success and scraping.running())
            without = scraping.result(10)
            may_end.set()
            wait_until(lambda: "own_waiting" in {sample.name for sample in scrape(alice).samples})
    assert not [sample for sample in without.samples if sample.name.startswith("own_")]
    assert log.getvalue().count("a metric took over 1 s to read") == 2  # in both forms of the log


class Enriched(logging.Filter):
    """Adds a field to every line, as the Logging Cookbook shows."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.tenant = "t1"
        return True


class Rude:
    """No text can be made of it."""

    def __str__(self) -> str:
        raise ValueError("no")


def test_fields_of_a_line(traced: Serve, log: StringIO) -> None:
    """Each field of `extra` is in the line, whatever it is; none replaces the line's own, and all are bounded."""
    circle: list[Any] = []
    circle.append(circle)
    extra = {
        "order": 7,
        "when": datetime(2026, 1, 2, tzinfo=UTC),
        "level": "gold",
        "trace_id": "theirs",
        "nan": float("nan"),
        "circle": circle,
        "pairs": {(1, 2): 3},
        "rude": Rude(),
        "big": 10**5000,
        "long": "x" * 10_000,
        "many": ["y"] * 10_000,
        "esc": "\x1b[2J\r\n",
        "fields": {"a": 1},
        "line": "theirs",
        "_span": "x",
    }
    enriched = Enriched()

    def write() -> None:
        logging.getLogger("team").info("written", extra=extra)
        logging.getLogger("team").warning("here", stack_info=True)
        logging.getLogger("team").info("moves \x1b[2J the cursor")
        logging.getLogger("team").info("crowded", extra={f"field{number}": number for number in range(40)})

    handlers = logging.getLogger().handlers
    with traced([router_of(write)]) as api, api.client() as alice:
        for handler in handlers:
            handler.addFilter(enriched)
        answer = alice.get("/api/own")
        wait_until(lambda: "GET /api/own" in log.getvalue())
        for handler in handlers:
            handler.removeFilter(enriched)
    assert answer.status_code == 200
    lines = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith('{"time"')]
    written, here, _, crowded = (line for line in lines if line["logger"] == "team")
    (request,) = (line for line in lines if line["logger"] == "app.requests")
    assert (request["status"], request["tenant"], written["tenant"]) == (200, "t1", "t1")
    assert "in write" in here["stack"]
    assert (written["order"], written["when"], written["fields"]) == (7, "2026-01-02 00:00:00+00:00", {"a": 1})
    assert (written["level"], written["extra.level"]) == ("INFO", "gold")
    assert (written["trace_id"], written["extra.trace_id"]) == (answer.headers["x-trace-id"], "theirs")
    assert (written["nan"], written["circle"], written["pairs"]) == ("nan", "[[...]]", "{(1, 2): 3}")
    assert (written["rude"], written["big"], written["line"], written["_span"]) == ("<Rude>", "<int>", "theirs", "x")
    assert (len(written["long"]), len(written["many"])) == (4097, 4097)
    assert (len([name for name in crowded if name.startswith("field")]), crowded["fields_left_out"]) == (33, 9)
    (console,) = [line for line in log.getvalue().splitlines() if "INFO    written" in line]
    assert "order=7" in console
    assert "\x1b" not in console


@pytest.mark.skipif(
    not shutil.which("redis-server") and not os.environ.get("CI"),
    reason="redis-server is missing (Debian package redis-server)",
)
def test_calls_of_an_instrumented_library_are_in_the_requests_trace(
    tmp_path: Path, database_url: str, receiver: Receiver, redis_server: Redis
) -> None:
    """With Redis instrumented for the whole process, counting a request is a span of that request."""
    project = copy_project_with(tmp_path, "nothing", REDIS)
    with run_process(
        database_url,
        project,
        rate_limit_storage_uri=redis_server.uri,
        otel_exporter_otlp_endpoint=receiver.url,
        otel_bsp_schedule_delay=100,
    ) as process:
        with process.client() as alice:
            answer = alice.get("/api/nothing")
        spans = {span["name"]: span for span in trace_of(receiver, answer)}
    assert spans["EVALSHA"]["parentSpanId"] == spans["GET /api/nothing"]["spanId"]
