"""What goes on once the answer has begun: the rest of a stream, background tasks, examples that nobody waits for."""

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from io import StringIO
from threading import Event
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.background import BackgroundTask
from starlette.middleware.base import RequestResponseEndpoint

from app.main import create_app
from app.settings import Settings
from tests.otlp_receiver import Receiver, Span
from tests.support import SECRET, UNLIMITED, Api, make_token, run_api, wait_until
from tests.telemetry.later import LATER_S, TIMEOUT_S, router, seen
from tests.telemetry.scrapes import scrape
from tests.telemetry.support import server_span
from tests.web.cases import AUTH
from tests.web.raw import connect, receive, request, send

Serve = Callable[..., AbstractContextManager[Api]]


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


@pytest.fixture
def api(traced: Serve) -> Iterator[Api]:
    with traced(entities=[router], request_deadline_ms=int(TIMEOUT_S * 1000)) as running_api:
        yield running_api


def spans_named(receiver: Receiver, answer: httpx.Response, name: str) -> list[Span]:
    return [span for span in receiver.trace(answer.headers["x-trace-id"]) if span["name"] == name]


def requests(log: StringIO) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry["logger"] == "app.requests"]


@pytest.mark.parametrize("path", ["background", "example"])
def test_work_after_the_answer_has_a_deadline_of_its_own(alice: httpx.Client, path: str) -> None:
    """It asks the database when the request's time has long passed, and gets its answer."""
    assert alice.post(f"/api/later/{path}").json() == "begun"
    wait_until(lambda: seen)
    assert seen == [0]


def test_the_rest_of_a_stream_has_one_too(alice: httpx.Client) -> None:
    """Each statement by itself, in a transaction as well, however long the stream goes on."""
    assert alice.get("/api/later/stream").text == "first\n0\n0\n"


def test_a_statement_of_a_stream_still_ends(
    alice: httpx.Client, holding: Callable[[str], AbstractContextManager[Any]]
) -> None:
    """After the answer has begun nobody waits for ever either."""
    started = time.monotonic()
    with holding("LOCK TABLE example"), pytest.raises(httpx.RemoteProtocolError):
        alice.get("/api/later/locked")
    assert time.monotonic() - started < TIMEOUT_S + 2


def test_latency_ends_with_the_last_byte(alice: httpx.Client, receiver: Receiver, log: StringIO) -> None:
    """Of the metric, the line and the span: the background task comes after all three, and is a span of its own."""
    answer = alice.post("/api/later/background")
    wait_until(lambda: seen)
    route = {"method": "POST", "handler": "/api/later/background"}
    name = "http_request_duration_seconds"
    wait_until(lambda: scrape(alice).value(f"{name}_count", **route) == 1)
    assert scrape(alice).value(f"{name}_sum", **route) < LATER_S
    (line,) = (entry for entry in requests(log) if entry["route"] == "/api/later/background")
    assert line["duration_ms"] < LATER_S * 1000
    wait_until(lambda: spans_named(receiver, answer, "background task"))
    (later,), server = spans_named(receiver, answer, "background task"), server_span(receiver, answer)
    assert server["end"] - server["start"] < LATER_S * 1e9 <= later["end"] - later["start"]
    assert later["parentSpanId"] == server["spanId"]


@pytest.mark.parametrize(("path", "name"), [("failing", "background task"), ("teardown", "end of a dependency")])
def test_a_failure_after_the_answer_is_told(
    alice: httpx.Client, receiver: Receiver, log: StringIO, path: str, name: str
) -> None:
    """In the log and on a span, with its stack and without what the client sent; the answer was good."""
    answer = alice.post(f"/api/later/{path}", json="patient-4711")
    assert answer.status_code == 200
    wait_until(lambda: "work after the answer failed: ValueError" in log.getvalue())
    wait_until(lambda: spans_named(receiver, answer, name))
    (later,) = spans_named(receiver, answer, name)
    (event,) = later["events"]
    assert (later["status"], event["attributes"]["exception.type"]) == ((2, "ValueError"), "ValueError")
    assert server_span(receiver, answer)["status"][0] != 2
    in_json = [line for line in log.getvalue().splitlines() if line.startswith("{")]
    assert any('"stack"' in line and "ValueError" in line for line in in_json)
    assert not [line for line in in_json if "patient-4711" in line]
    assert b"patient-4711" not in b"".join(receiver.bodies)
    assert BackgroundTask.__call__.__qualname__ == "BackgroundTask.__call__"  # the instrumentation's own would tell it


def test_an_answer_that_breaks_off_is_a_failure(alice: httpx.Client, receiver: Receiver, log: StringIO) -> None:
    """It is counted, logged and traced as one, though it began with 200, and its connection is closed."""
    with pytest.raises(httpx.RemoteProtocolError):
        alice.post("/api/later/broken", json="patient-4711")
    route = {"method": "POST", "handler": "/api/later/broken"}
    wait_until(lambda: scrape(alice).value("http_requests_total", **route, status="500") == 1)
    (line,) = (entry for entry in requests(log) if entry.get("route") == route["handler"])
    assert (line["level"], line["status"], line["code"]) == ("WARNING", 500, "answer_broken")
    trace = line["trace_id"]
    (span,) = (span for span in receiver.trace(trace) if span["kind"] == "SERVER")
    assert span["status"] == (2, "LookupError")
    assert '"message": "the answer broke off: LookupError"' in log.getvalue()


def test_a_middleware_of_a_teams_hides_no_break(database_url: str, log: StringIO) -> None:
    """Starlette's completes an answer whose rest has failed; here it breaks off, and is told, as without it."""

    def create(settings: Settings, draining: Event) -> FastAPI:
        app = create_app(settings, draining, entities=[router])

        @app.middleware("http")
        async def add_header(request: Request, call_next: RequestResponseEndpoint) -> Response:
            answer = await call_next(request)
            answer.headers["x-own"] = "there"
            return answer

        return app

    settings = Settings(database_url=database_url, better_auth_secret=SECRET, **UNLIMITED)
    with run_api(settings, create) as api, api.client() as alice:
        with pytest.raises(httpx.RemoteProtocolError):
            alice.post("/api/later/broken", json="patient-4711")
        assert alice.post("/api/later/background").headers["x-own"] == "there"
    broken_off, whole = (entry for entry in requests(log) if entry.get("route", "")[:10] == "/api/later")
    assert (broken_off["status"], broken_off["code"], whole["status"]) == (500, "answer_broken", 200)
    assert "patient-4711" not in "".join(line for line in log.getvalue().splitlines() if line.startswith("{"))


def test_requests_on_one_connection_share_no_trace(api: Api, receiver: Receiver) -> None:
    """Not even those that were sent before the one before was answered."""
    with connect(api.port) as connection:
        head = [request("POST", "/api/later/session", AUTH, "Content-Length: 0") for _ in range(3)]
        send(connection, b"".join(head), token=make_token())
        traces = {receive(connection, "POST").headers["x-trace-id"] for _ in head}
    assert len(traces) == 3
    assert [receiver.trace(trace)[-1]["kind"] for trace in traces] == ["SERVER"] * 3


def test_an_example_that_fails_quotes_nobody(alice: httpx.Client, log: StringIO) -> None:
    """asyncio's own line about it has its stack, and not its message."""
    alice.post("/api/later/lost", json="patient-4711")
    wait_until(lambda: gc.collect() is not None and "Task exception was never retrieved" in log.getvalue())
    in_json = [line for line in log.getvalue().splitlines() if line.startswith("{")]
    assert any('"Task exception was never retrieved"' in line and "ValueError" in line for line in in_json)
    assert not [line for line in in_json if "patient-4711" in line]


def test_a_session_goes_on_after_its_commit(alice: httpx.Client) -> None:
    """As the same user, in another transaction: FastAPI's tutorial commits, and reads what it wrote."""
    assert alice.post("/api/later/session").json() == [1, 2]
