"""A request whose time is up: which code it gets, and what the answer and the log say of where the time went."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from io import StringIO
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, Request
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from sqlalchemy import Column, Integer, MetaData, Table, func, select, text

from app.auth import CurrentUser
from app.db import CurrentDatabase, CurrentSession
from app.web.route import ApiRoute
from devtools.postgres import Server
from tests.proxy import run_proxy
from tests.support import Api, run_handler, wait_until
from tests.telemetry.conftest import database_of
from tests.telemetry.scrapes import scrape

DEADLINE_MS = 500
SLOW_S = 0.7
CATALOGUE = Table("pg_class", MetaData(), Column("relpages", Integer))
SLEEP = select(func.pg_sleep(20)).select_from(CATALOGUE).limit(1)
ONE = text("SELECT 1")

Serve = Callable[..., AbstractContextManager[Api]]
Lines = Callable[[], list[dict[str, Any]]]
router = APIRouter(prefix="/api/slow", route_class=ApiRoute)
fall_silent: list[Callable[[], None]] = []


class SlowService(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(SLOW_S)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output to itself."""


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with run_handler(SlowService) as port:
        yield f"http://127.0.0.1:{port}"


async def called(request: Request, service: str) -> AsyncIterator[int]:
    async with httpx.AsyncClient() as client:
        provider = request.app.state.tracing._provider
        HTTPXClientInstrumentor.instrument_client(client, tracer_provider=provider)
        yield (await client.get(service)).status_code


@router.get("/call")
def call(status: Annotated[int, Depends(called)], database: CurrentDatabase, user: CurrentUser) -> int:
    database.execute(user, ONE, {})
    return status


@router.get("/python")
def python(database: CurrentDatabase, user: CurrentUser, seconds: float = SLOW_S) -> None:
    database.execute(user, ONE, {})
    time.sleep(seconds)
    database.execute(user, SLEEP, {})


@router.get("/database")
def slow_database(database: CurrentDatabase, user: CurrentUser) -> None:
    database.execute(user, SLEEP, {})


@router.get("/transaction")
def transaction(database: CurrentDatabase, user: CurrentUser) -> None:
    with database.transaction(user) as session:
        session.connection().execute(ONE)
        time.sleep(SLOW_S)
        session.connection().execute(ONE)


@router.post("/session")
def write(session: CurrentSession, user: CurrentUser, *, own_commit: bool = False) -> None:
    insert = text("INSERT INTO example (user_id, title, completed) VALUES (:user, 'late', false)")
    session.connection().execute(insert, {"user": user.user_id})
    time.sleep(SLOW_S)
    if own_commit:
        session.commit()


@router.get("/count")
def count(session: CurrentSession) -> int:
    return int(session.connection().execute(text("SELECT count(*) FROM example")).scalar_one())


@router.get("/commit")
def commit(session: CurrentSession) -> None:
    session.connection().execute(ONE)
    fall_silent[-1]()


@router.get("/begin")
def begin(database: CurrentDatabase, user: CurrentUser) -> None:
    database.execute(user, ONE, {})
    fall_silent[-1]()
    with database.transaction(user) as session:
        session.connection()


@pytest.fixture
def alice(traced: Serve) -> Iterator[httpx.Client]:
    with traced([router], request_deadline_ms=DEADLINE_MS, database_pool_size=1) as api, api.client() as client:
        client.get("/api/slow/count")  # has connected
        yield client


@pytest.fixture
def lines(log: StringIO) -> Lines:
    """The lines in JSON of failed requests, once there is one."""

    def read() -> list[dict[str, Any]]:
        parsed = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]
        return [line for line in parsed if line["logger"] == "app.requests" and line.get("status") == 503]

    def find() -> list[dict[str, Any]]:
        wait_until(read)
        return read()

    return find


def refused(answer: httpx.Response) -> tuple[str, dict[str, int]]:
    """The code of a 503 that came for want of time, and what it says of it."""
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), answer.text
    spent = answer.json()["spent"]
    assert set(spent) == {"waiting_ms", "database_ms", "calls_ms", "other_ms"}
    assert DEADLINE_MS - 150 <= sum(spent.values()) < DEADLINE_MS + 2000
    return answer.json()["code"], spent


def test_slow_python_is_not_the_databases_fault(alice: httpx.Client, log: StringIO, lines: Lines) -> None:
    """Nor does the log blame it: the line has the same times, and the longest statement."""
    code, spent = refused(alice.get("/api/slow/python"))
    assert code == "request_deadline"
    assert spent["other_ms"] >= SLOW_S * 1000 - 50
    (line,) = lines()
    assert (line["code"], line["spent"], line["longest_query"]) == (code, spent, "SELECT")
    assert "the database is unavailable" not in log.getvalue()
    assert f"other {spent['other_ms']} ms, longest query: SELECT {line['longest_query_ms']} ms" in log.getvalue()


def test_a_statement_that_had_little_time_left_is_not_at_fault(alice: httpx.Client, log: StringIO) -> None:
    """It was cut, but something else had used more than half of the time."""
    code, spent = refused(alice.get("/api/slow/python", params={"seconds": 0.3}))
    assert (code, spent["other_ms"] >= 300) == ("request_deadline", True)
    assert "the database is unavailable" not in log.getvalue()


def test_a_slow_call_of_another_service_is_told(alice: httpx.Client, service: str) -> None:
    """Its time is that of the client's span."""
    code, spent = refused(alice.get("/api/slow/call", params={"service": service}))
    assert (code, spent["calls_ms"] >= SLOW_S * 1000 - 50) == ("request_deadline", True)
    assert spent["other_ms"] < spent["calls_ms"]


def test_without_a_trace_calls_are_among_the_rest(traced: Serve, service: str) -> None:
    """Nobody has seen them: so nothing is said of them."""
    with traced([router], request_deadline_ms=DEADLINE_MS, otel_traces_sampler_arg=0) as api, api.client() as alice:
        problem = alice.get("/api/slow/call", params={"service": service}).json()
    assert (problem["code"], set(problem["spent"])) == ("request_deadline", {"waiting_ms", "database_ms", "other_ms"})
    assert problem["spent"]["other_ms"] >= SLOW_S * 1000 - 50


def test_a_slow_statement_is_the_databases_fault(alice: httpx.Client, lines: Lines) -> None:
    """The client learns how long it took, and the log which one it was."""
    answer = alice.get("/api/slow/database")
    code, spent = refused(answer)
    assert code == "database_unavailable"
    assert spent["database_ms"] >= DEADLINE_MS - 200
    assert "pg_class" not in answer.text
    (line,) = lines()
    assert (line["longest_query"], line["longest_query_ms"] >= DEADLINE_MS - 200) == ("SELECT pg_class", True)


def test_waiting_for_a_thread_is_told(alice: httpx.Client) -> None:
    """One thread, and another request holds it."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(alice.get, "/api/slow/python")
        wait_until(lambda: scrape(alice).value("worker_threads", state="busy") == 1)
        code, spent = refused(alice.get("/api/slow/database"))
        first.result()
    assert code == "overloaded"
    assert spent["waiting_ms"] > spent["database_ms"] + spent["other_ms"]


@pytest.mark.parametrize("own_commit", [False, True])
def test_a_commit_that_comes_too_late_is_not_sent(alice: httpx.Client, *, own_commit: bool) -> None:
    """So its outcome is known: nothing was changed. The connection serves others."""
    answer = alice.post("/api/slow/session", params={"own_commit": own_commit})
    assert refused(answer)[0] == "request_deadline"
    assert "not known" not in answer.text
    assert alice.get("/api/slow/count").json() == 0


def test_a_transaction_that_goes_on_too_late_is_not_the_databases_fault(alice: httpx.Client) -> None:
    """Its connection is free again."""
    assert refused(alice.get("/api/slow/transaction"))[0] == "request_deadline"
    assert scrape(alice).value("db_client_connections", state="used") == 0


@pytest.mark.parametrize("path", ["commit", "begin"])
def test_a_database_that_falls_silent_between_statements_is_at_fault(
    traced: Serve, cluster: Server, database_url: str, path: str
) -> None:
    """What is no statement of a team's counts as the database's time: a COMMIT, and how a transaction begins."""
    with run_proxy(cluster.socket) as tapped:
        fall_silent.append(tapped.mute)
        given: Any = {"database_url": tapped.url(database_of(database_url)), "request_deadline_ms": DEADLINE_MS}
        with traced([router], **given) as api, api.client() as alice:
            answer = alice.get(f"/api/slow/{path}")
    code, spent = refused(answer)
    assert (code, spent["database_ms"] >= DEADLINE_MS - 150) == ("database_unavailable", True)
    assert ("not known" in answer.text) == (path == "commit")
