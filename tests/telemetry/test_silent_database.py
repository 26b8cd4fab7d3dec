"""A database that is frozen, full of others or gone is told from a busy one: by trace, log line and metrics."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from io import StringIO
from time import monotonic
from typing import Any

import httpx
import psycopg2
import pytest

from app.db.checks import PING_AFTER_S
from tests.otlp_receiver import Receiver, Span
from tests.postmaster import Postmaster
from tests.support import Api, wait_until
from tests.telemetry.scrapes import scrape
from tests.telemetry.support import server_span, statement, trace_of

Serve = Callable[..., AbstractContextManager[Api]]
DEADLINE_MS = 500
NEARLY_MS = DEADLINE_MS - 150


@pytest.fixture
def alice(traced: Serve, postmaster: Postmaster) -> Iterator[httpx.Client]:
    """Of an API with one connection, which she has used, to a PostgreSQL of its own."""
    url = postmaster.url(postmaster.new_database())
    with (
        traced(database_url=url, database_pool_size=1, request_deadline_ms=DEADLINE_MS) as api,
        api.client() as client,
    ):
        assert client.get("/api/examples").status_code == 200
        yield client


def checks(alice: httpx.Client, step: str, outcome: str) -> float:
    return scrape(alice).value("db_client_connection_checks_total", step=step, outcome=outcome)


def step_of(receiver: Receiver, answer: httpx.Response, name: str) -> Span:
    """The span of a step to the server, which the server span names as what was not answered."""
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    spent = answer.json()["spent"]
    assert (spent["database_ms"] >= NEARLY_MS, spent["waiting_ms"]) == (True, 0)
    (step,) = [span for span in trace_of(receiver, answer) if span["name"] == name]
    assert step["end"] - step["start"] >= NEARLY_MS * 1_000_000
    return step


def test_a_frozen_server_is_told_from_a_full_pool(
    alice: httpx.Client, postmaster: Postmaster, receiver: Receiver, log: StringIO
) -> None:
    """The trace names the ping that had no answer, then the connect; neither counts as a wait for the pool."""
    rested = monotonic() + PING_AFTER_S
    wait_until(lambda: monotonic() > rested)
    with postmaster.freeze():
        pinged, connected = alice.get("/api/examples"), alice.get("/api/examples")
    for answer, name, step in ((pinged, "pool ping", "ping"), (connected, "connect", "connect")):
        span = step_of(receiver, answer, name)
        assert span["status"] == (2, "DeadlineExceeded")
        assert "PostgreSQL" in span["attributes"]["app.waited_for"]
        assert server_span(receiver, answer)["attributes"]["app.db.unanswered"] == step
        assert checks(alice, step, "unanswered") >= 1
    assert [line["unanswered"] for line in lines(log)] == ["ping", "connect"]
    assert scrape(alice).value("db_client_connection_wait_seconds_sum") < NEARLY_MS / 1000


def lines(log: StringIO) -> list[dict[str, Any]]:
    """The lines of the two refused requests."""

    def find() -> list[dict[str, Any]]:
        parsed = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]
        return [line for line in parsed if line["logger"] == "app.requests" and line.get("status") == 503]

    wait_until(lambda: len(find()) == 2)
    return find()


def test_a_statement_without_an_answer_is_told(alice: httpx.Client, postmaster: Postmaster, receiver: Receiver) -> None:
    """The server was there a moment ago, so nobody pings it: the statement itself has no answer."""
    assert scrape(alice).value("db_errors_total", code="DeadlineExceeded") == 0
    alice.get("/api/examples")
    with postmaster.freeze():
        answer = alice.get("/api/examples")
    assert statement(receiver, answer)["attributes"]["error.type"] == "DeadlineExceeded"
    assert server_span(receiver, answer)["attributes"]["app.db.unanswered"] == "statement"
    assert scrape(alice).value("db_errors_total", code="DeadlineExceeded") == 1


def test_a_busy_server_is_not_called_silent(alice: httpx.Client, postmaster: Postmaster, receiver: Receiver) -> None:
    """It gives up by itself, and says so in time."""
    (name,) = postmaster.ask("SELECT datname FROM pg_stat_activity WHERE usename = 'tasks' AND datname LIKE 'tasks%'")[
        0
    ]
    with closing(postmaster.connect(name)) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE example")
        answer = alice.get("/api/examples")
    assert answer.status_code == 503
    assert "app.db.unanswered" not in server_span(receiver, answer)["attributes"]
    assert checks(alice, "ping", "unanswered") + checks(alice, "connect", "unanswered") == 0


def test_a_connection_that_is_refused_has_a_sqlstate(alice: httpx.Client, postmaster: Postmaster) -> None:
    """Others have taken every connection, which libpq says in words only; then the server restarts."""
    assert scrape(alice).value("db_errors_total", code="53300") == 0
    postmaster.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tasks'")
    with ExitStack() as taken:
        with suppress(psycopg2.OperationalError):
            while True:
                taken.enter_context(closing(postmaster.connect("postgres", "tasks")))
        assert alice.get("/api/examples").json()["code"] == "database_unavailable"
    assert scrape(alice).value("db_errors_total", code="53300") == 1
    assert checks(alice, "connect", "refused") == 1
