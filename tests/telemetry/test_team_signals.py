"""What a team's code measures, traces and logs by the standard interfaces, well and badly."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from opentelemetry import trace
from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.registry import Collector
from sqlalchemy import text

from app.auth import CurrentUser
from app.db import CurrentDatabase
from app.telemetry.exposition import NameTaken
from app.web.route import ApiRoute
from tests.copies import grown
from tests.otlp_receiver import Receiver
from tests.process import serving
from tests.redis_server import Redis
from tests.support import Api
from tests.telemetry.scrapes import scrape
from tests.telemetry.support import server_span, trace_of

Serve = Callable[..., AbstractContextManager[Api]]
PROTOCOLS = ["http/json", "http/protobuf"]
INSERT = """
INSERT INTO task (user_id, title, completed, created_at, updated_at, version)
VALUES (:user, 'canary', false, now(), now(), 1)
"""
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


def router_of(endpoint: Callable[..., object]) -> APIRouter:
    """An entity of one route, `/api/own`."""
    router = APIRouter(prefix="/api", route_class=ApiRoute)
    router.add_api_route("/own", endpoint)
    return router


def test_an_application_leaves_the_process_alone(traced: Serve, receiver: Receiver) -> None:
    """Of two applications in one process neither takes the spans of the other: the global provider is not set."""
    with traced() as first, traced() as second, first.client() as alice, second.client() as bob:
        assert server_span(receiver, alice.get("/api/tasks"))
        assert server_span(receiver, bob.get("/api/tasks"))
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_a_name_that_is_taken_is_refused_at_the_start(traced: Serve) -> None:
    """Two metrics of one name would spoil the scrape: one line says which it is."""
    with (
        shared(Gauge("http_requests_total", "A team's own.")),
        pytest.raises(NameTaken, match=r"^The application has metrics of its own named http_requests_total: rename"),
        traced(),
    ):
        raise AssertionError("it started")


def test_a_metric_that_comes_late_or_fails_costs_no_other(traced: Serve, log: Any) -> None:
    """One whose name is taken, one that raises, one that cannot be written: logged once, and the others are shown."""
    with traced() as api, api.client() as alice:
        taken, failing = Gauge("worker_threads", "Late."), Gauge("own_failing", "Raises.")
        failing.set_function(lambda: 1 / 0)
        odd, good = Counter("own_odd", "Is no text.", ["kind"]), Counter("own_good", "Counts.")
        odd.labels("\ud800").inc()
        good.inc(2)
        with shared(taken), shared(failing), shared(odd), shared(good):
            found = [scrape(alice) for _ in range(2)][-1]
            in_text = alice.get("/metrics").text
    assert (found.value("own_good_total"), found.value("http_requests_total") > 0) == (2, True)
    assert not [sample for sample in found.samples if sample.name in {"own_failing", "own_odd_total"}]
    assert in_text.count("# TYPE worker_threads gauge") == 1
    assert "own_good_total 2.0" in in_text
    lines = [line for line in log.getvalue().splitlines() if '"app.telemetry.exposition"' in line]
    assert sorted(line.partition('"message": "')[2].partition('"')[0] for line in lines) == [
        "a metric cannot be read, UnicodeEncodeError: counter:own_odd",
        "a metric cannot be read, ZeroDivisionError: gauge:own_failing",
        "metrics are not shown, the application has some of its own named worker_threads",
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_odd_attribute_costs_no_span(traced: Serve, receiver: Receiver, protocol: str) -> None:
    """Numbers beyond 64 bits, text that is none, values of any type: what can be sent is, and the spans arrive."""

    def mark() -> None:
        trace.get_current_span().set_attributes(
            {"own.big": 2**70, "own.text": "\ud800", "own.set": {1}, "own.none": None, "own.long": "x" * 100_000}  # type: ignore[dict-item]
        )

    with traced([router_of(mark)], otel_exporter_otlp_protocol=protocol) as api, api.client() as alice:
        odd, good = alice.get("/api/own"), alice.get("/api/nothing")
        assert (odd.status_code, good.status_code) == (200, 404)
        assert server_span(receiver, good)
        attributes = server_span(receiver, odd)["attributes"]
    assert (attributes["own.set"], len(attributes["own.long"])) == ("{1}", 32 * 1024)
    if protocol == "http/json":
        assert (attributes["own.big"], attributes["own.text"]) == (hex(2**70), "?")
    assert not receiver.errors


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_exception_is_told_without_its_message(
    traced: Serve, receiver: Receiver, superuser: Callable[[str], None], protocol: str
) -> None:
    """What a team's code records of a refused statement has type and place, and no value of the row in its way."""
    superuser("CREATE UNIQUE INDEX ON task (title)")

    def insert(database: CurrentDatabase, user: CurrentUser) -> None:
        """Insert one row twice, and record how that failed."""
        statement = text(INSERT)
        try:
            for _ in range(2):
                database.execute(user, statement, {"user": user.user_id})
        except Exception as error:
            trace.get_current_span().record_exception(error)
            trace.get_current_span().set_status(trace.StatusCode.ERROR, f"Conflict: {error}")
            raise

    with traced([router_of(insert)], otel_exporter_otlp_protocol=protocol) as api, api.client() as alice:
        answer = alice.get("/api/own")
        span = server_span(receiver, answer)
    assert answer.status_code == 409
    (event,) = span["events"]
    assert event["attributes"]["exception.type"] == "app.errors.Conflict"
    assert "test_team_signals.py" in event["attributes"]["exception.stacktrace"]
    assert b"canary" not in b"".join(receiver.bodies)


class Rude:
    """No text can be made of it."""

    def __str__(self) -> str:
        raise ValueError("no")


def test_fields_of_a_line(traced: Serve, log: Any) -> None:
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
        "span": "x",
    }

    def write() -> None:
        logging.getLogger("team").info("written", extra=extra)
        logging.getLogger("team").info("moves \x1b[2J the cursor")
        logging.getLogger("team").info("crowded", extra={f"field{number}": number for number in range(40)})

    with traced([router_of(write)]) as api, api.client() as alice:
        answer = alice.get("/api/own")
    assert answer.status_code == 200
    lines = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith('{"time"')]
    written, _, crowded = (line for line in lines if line["logger"] == "team")
    assert (written["order"], written["when"], written["fields"]) == (7, "2026-01-02 00:00:00+00:00", {"a": 1})
    assert (written["level"], written["extra.level"]) == ("INFO", "gold")
    assert (written["trace_id"], written["extra.trace_id"]) == (answer.headers["x-trace-id"], "theirs")
    assert (written["nan"], written["circle"], written["pairs"]) == ("nan", "[[...]]", "{(1, 2): 3}")
    assert (written["rude"], written["big"], written["span"]) == ("<Rude>", "<int>", "x")
    assert (len(written["long"]), len(written["many"])) == (4097, 4097)
    assert (len([name for name in crowded if name.startswith("field")]), crowded["fields_left_out"]) == (33, 8)
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
    project = grown(tmp_path, "nothing", REDIS)
    with serving(
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
