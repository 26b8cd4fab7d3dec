"""A trace holds its request and every statement of it, by the names of the semantic conventions."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import text

from app.auth import CurrentUser
from app.db import CurrentDatabase
from app.errors import AppError
from app.web.route import ApiRoute
from tests.otlp_receiver import Receiver
from tests.support import Api
from tests.telemetry.scrapes import scrape, until
from tests.telemetry.support import WAITS, server_span, statement, statements, trace_of
from tests.web.team import api_router

Serve = Callable[..., AbstractContextManager[Api]]

CALLS = [
    ("GET", "/api/examples", None, "GET /api/examples", "SELECT example", "page"),
    ("POST", "/api/examples", {"title": "new"}, "POST /api/examples", "INSERT example", "create"),
    ("GET", "/api/examples/1", None, "GET /api/examples/{id}", "SELECT example", "get"),
    ("PATCH", "/api/examples/1", {"title": "newer"}, "PATCH /api/examples/{id}", "UPDATE example", "change"),
    ("DELETE", "/api/examples/1", None, "DELETE /api/examples/{id}", "DELETE example", "delete"),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[3])
def test_each_call_is_a_server_span_and_a_database_span_below_it(
    alice: httpx.Client, receiver: Receiver, call: tuple[str, str, Any, str, str, str]
) -> None:
    """Each call's database span is named by command and table, and names the store's method: none is ever missing."""
    method, path, body, name, query, function = call
    alice.post("/api/examples", json={"title": "first"})
    answer = alice.request(method, path, json=body)
    server, asked = server_span(receiver, answer), statements(receiver, answer)[0]
    facts = asked["attributes"]
    assert (server["name"], server["attributes"]["http.route"]) == (name, name.split()[1])
    assert asked["parentSpanId"] == server["spanId"]
    assert (asked["name"], facts["db.query.summary"]) == (query, query)
    assert (facts["db.operation.name"], facts["db.collection.name"]) == tuple(query.split())
    assert facts["code.function.name"] == f"devtools.examples.queries.ExampleStore.{function}"
    assert (facts["db.system.name"], facts["db.response.returned_rows"]) == ("postgresql", 1)
    assert "app.db.slow" not in facts


def test_the_server_span_says_who_asked_and_what_the_database_did(alice: httpx.Client, receiver: Receiver) -> None:
    """The server span carries the stable HTTP attributes, the user, and the totals of its statements."""
    answer = alice.get("/api/examples?completed=true")
    facts = server_span(receiver, answer)["attributes"]
    assert {name: facts[name] for name in ("http.request.method", "http.response.status_code", "url.path")} == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.path": "/api/examples",
    }
    assert (facts["user.id"], facts["server.address"]) == ("alice", "127.0.0.1")
    assert (facts["app.db.query_count"], facts["app.db.max_repeat"]) == (1, 1)
    assert facts["app.db.duration_ms"] > 0
    assert not [name for name in facts if name.startswith(("http.url", "http.target", "url.query", "url.full"))]


def test_the_statement_is_told_without_its_values_and_its_preamble(alice: httpx.Client, receiver: Receiver) -> None:
    """The query text is only the statement, with placeholders."""
    text = statement(receiver, alice.get("/api/examples?q=needle"))["attributes"]["db.query.text"]
    assert text.startswith("SELECT example.id, example.title")
    assert "ILIKE %(pattern)s" in text
    assert "set_config" not in text


def test_answers_lead_to_their_trace(alice: httpx.Client, receiver: Receiver) -> None:
    """Every answer names its trace and its times; a problem names the trace in its body as well."""
    good, missing = alice.get("/api/examples"), alice.get("/api/examples/404")
    server = server_span(receiver, good)
    span = f'traceparent;desc="00-{server["traceId"]}-{server["spanId"]}-01"'
    assert re.fullmatch(rf"db;dur=\d+\.\d, total;dur=\d+\.\d, {span}", good.headers["server-timing"])
    assert missing.json()["trace_id"] == missing.headers["x-trace-id"]
    assert server_span(receiver, missing)["attributes"]["http.response.status_code"] == 404
    assert good.headers["x-trace-id"] != missing.headers["x-trace-id"]


def test_an_endpoint_may_time_itself(traced: Serve) -> None:
    """What it says of its times reaches the client beside ours."""
    router = APIRouter(prefix="/api", route_class=ApiRoute)

    @router.get("/timed")
    def timed(response: Response) -> None:
        response.headers["Server-Timing"] = "render;dur=3.2"

    with traced([router]) as api, api.client() as alice:
        own, ours = alice.get("/api/timed").headers.get_list("server-timing")
    assert own == "render;dur=3.2"
    assert ours.startswith("db;dur=0.0, total;dur=")


def test_refusals_of_strangers_are_traced_without_a_user(api: Api, receiver: Receiver) -> None:
    """A request without a token has a trace, no user on it, and no statement."""
    with api.client(None) as stranger:
        answer = stranger.get("/api/examples")
    (only,) = trace_of(receiver, answer)
    assert only["attributes"]["http.response.status_code"] == 401
    assert "user.id" not in only["attributes"]


def test_unknown_paths_share_one_name(alice: httpx.Client, receiver: Receiver) -> None:
    """Whatever path is asked for, the span of an unknown one is named by its method alone."""
    assert server_span(receiver, alice.get("/api/nothing/1"))["name"] == "GET"


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_probes_make_no_spans(alice: httpx.Client, receiver: Receiver, path: str) -> None:
    """Health probes are not traced, nor the statements they make."""
    assert "x-trace-id" not in alice.get(path).headers
    trace_of(receiver, alice.get("/api/examples"))
    assert {span["name"] for span in receiver.spans} <= {"GET /api/examples", "SELECT example", *WAITS}


@pytest.mark.parametrize("path", ["/api/health", "/health/other", "/api/examples/health/ready"])
def test_only_the_probes_own_paths_are_left_out(alice: httpx.Client, receiver: Receiver, path: str) -> None:
    """A path that looks like a probe's is traced like any other, whatever the Host header says."""
    answer = alice.get(path, headers={"host": "example.com/health"})
    assert server_span(receiver, answer)["attributes"]["http.response.status_code"] == 404


def test_parallel_requests_keep_their_traces_apart(api: Api, receiver: Receiver) -> None:
    """Of 200 parallel requests by 20 users each trace holds its own user and one statement."""

    def ask(number: int) -> tuple[str, str]:
        user = f"user-{number % 20}"
        with api.client(user) as client:
            return user, client.get("/api/examples").headers["x-trace-id"]

    with ThreadPoolExecutor(20) as pool:
        asked = list(pool.map(ask, range(200)))
    assert len({trace_id for _, trace_id in asked}) == 200
    for user, trace_id in asked:
        spans = receiver.trace(trace_id)
        (server,) = [span for span in spans if span["kind"] == "SERVER"]
        below = [span for span in spans if span["kind"] != "SERVER"]
        assert (server["attributes"]["user.id"], server["attributes"]["app.db.query_count"]) == (user, 1)
        assert [span["name"] for span in below if span["name"] not in WAITS] == ["SELECT example"]
        assert {span["parentSpanId"] for span in below} == {server["spanId"]}


def test_a_wait_for_a_thread_is_a_span(traced: Serve, receiver: Receiver) -> None:
    """With one thread for many requests, the wait for it is told apart from the work."""
    with traced(database_pool_size=1) as api:

        def ask(_: int) -> httpx.Response:
            with api.client() as client:
                return client.get("/api/examples")

        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(ask, range(60)))
        spans = [span for answer in answers for span in trace_of(receiver, answer)]
    waits = [span for span in spans if span["name"] == "pool wait" and span["attributes"]["app.pool"] == "threads"]
    assert waits
    assert all(span["end"] - span["start"] >= 1_000_000 for span in waits)


@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "connections"])
def test_a_wait_says_what_held_the_pool(traced: Serve, receiver: Receiver, is_async: bool) -> None:  # noqa: FBT001
    """Whoever waits is a victim: the span of the wait names the routes and the users that had all of the pool."""
    with traced(entities=[slow_router(is_async=is_async)], database_pool_size=1) as api:
        with api.client("noisy") as noisy, api.client() as alice, ThreadPoolExecutor(1) as pool:
            slow = pool.submit(noisy.get, "/api/slow")
            until(lambda: scrape(alice).value("db_client_connections", state="used"), lambda used: used == 1)
            answer = alice.get("/api/slow", params={"seconds": 0})
            slow.result()
        waits = [span["attributes"] for span in trace_of(receiver, answer) if span["name"] == "pool wait"]
    held = {"app.pool.held_by": ["GET /api/slow"], "app.pool.held_by_users": ["noisy"]}
    assert waits == [{"app.pool": "connections" if is_async else "threads"} | held]


def slow_router(*, is_async: bool) -> APIRouter:
    """`/api/slow`, which lets the database sleep, in one of the pool's threads or in another one."""
    router = api_router()

    def sleep(database: CurrentDatabase, user: CurrentUser, seconds: float = 0.5) -> None:
        database.execute(user, text("SELECT 1 FROM pg_sleep(:seconds)"), {"seconds": seconds})

    async def sleep_elsewhere(database: CurrentDatabase, user: CurrentUser, seconds: float = 0.5) -> None:
        await run_in_threadpool(sleep, database, user, seconds)

    router.add_api_route("/slow", sleep_elsewhere if is_async else sleep)
    return router


def test_a_problem_has_its_code_on_the_span(api: Api, receiver: Receiver) -> None:
    """What the client reads in its answer finds the trace; an answer without a problem has none."""
    with api.client(None) as stranger, api.client() as alice:
        answers = [stranger.get("/api/examples"), alice.get("/api/examples/999"), alice.get("/api/examples")]
    codes = [server_span(receiver, answer)["attributes"].get("app.problem.code") for answer in answers]
    assert codes == ["token_missing", "example_not_found", None]


def test_a_database_that_is_away_is_a_failed_connect(traced: Serve, receiver: Receiver) -> None:
    """When there is no connection to be had, the trace says so in place of a statement."""
    with traced(database_url="postgresql://tasks@127.0.0.1:1/tasks") as api, api.client() as alice:
        answer = alice.get("/api/examples")
        server = server_span(receiver, answer)
        (connect,) = [span for span in trace_of(receiver, answer) if span["name"] == "connect"]
        assert scrape(alice).value("db_client_connection_checks_total", step="connect", outcome="refused") == 1
    assert (answer.status_code, server["status"][0]) == (503, 2)
    assert connect["status"] == (2, "OperationalError")


def test_a_failed_statement_is_not_the_parent_of_the_next(traced: Serve, receiver: Receiver) -> None:
    """Each is below the server span, whatever became of the one before."""
    router = APIRouter(prefix="/api", route_class=ApiRoute)

    @router.get("/ask")
    def ask(database: CurrentDatabase, user: CurrentUser) -> None:
        with suppress(AppError):
            database.execute(user, text("SELECT 1 / 0"), {})
        database.execute(user, text("SELECT 1"), {})

    with traced([router]) as api, api.client() as alice:
        answer = alice.get("/api/ask")
        failed, good = statements(receiver, answer)
        server = server_span(receiver, answer)
    assert (failed["status"], good["status"]) == ((2, "DivisionByZero"), (0, ""))
    assert {span["parentSpanId"] for span in (failed, good)} == {server["spanId"]}


def test_the_message_leads_back_to_the_trace(
    alice: httpx.Client, receiver: Receiver, holding: Callable[[str], Any]
) -> None:
    """While a statement runs, pg_stat_activity shows the traceparent of its span at the head of the message."""
    example = alice.post("/api/examples", json={"title": "locked"}).json()
    with ThreadPoolExecutor(1) as pool, holding(f"SELECT FROM example WHERE id = {example['id']} FOR UPDATE") as held:
        answer = pool.submit(alice.patch, f"/api/examples/{example['id']}", json={"title": "x" * 200})
        message = held.waiting()
        held.release()
        span = statements(receiver, answer.result())[0]
    assert message.startswith(f"/*traceparent='00-{span['traceId']}-{span['spanId']}-")


def test_two_applications_do_not_disturb_each_other(traced: Serve, serve: Serve, receiver: Receiver) -> None:
    """Of two applications in one process, one traced and one not, each does as its own settings say."""
    with traced(otel_service_name="one") as one, serve(otel_sdk_disabled=True) as other:
        with one.client() as client:
            answer = client.get("/api/examples")
        with other.client() as client:
            assert "x-trace-id" not in client.get("/api/examples").headers
        assert server_span(receiver, answer)["resource"]["service.name"] == "one"
    assert {span["resource"]["service.name"] for span in receiver.spans} == {"one"}
    assert len([span for span in receiver.spans if span["kind"] == "SERVER"]) == 1
