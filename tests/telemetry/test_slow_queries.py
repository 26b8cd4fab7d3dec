"""A slow statement's span says why it was slow."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from tests.otlp_receiver import Receiver
from tests.support import Api
from tests.telemetry.scrapes import scrape
from tests.telemetry.support import server_span, statement, statements

Serve = Callable[..., AbstractContextManager[Api]]


@pytest.fixture
def alice(traced: Serve, login: Callable[[str, str], None], many_examples: None) -> Iterator[httpx.Client]:  # noqa: ARG001  pytest asks for fixtures so
    """Of an API to which every statement of a millisecond is slow, and for which the server plans each aloud."""
    login("auto_explain.log_min_duration", "0")
    with traced(slow_query_ms=1) as api, api.client() as client:
        yield client


def test_the_executed_plan_is_on_the_span(alice: httpx.Client, receiver: Receiver) -> None:
    """A slow search's span holds the executed plan: what was scanned, what was thrown away, and who asked."""
    facts = statement(receiver, alice.get("/api/examples?q=needle"))["attributes"]
    plan = json.loads(facts["app.db.plan"])
    assert facts["app.db.slow"] is True
    assert facts["app.db.plan.root"] == plan["Node Type"] == "Limit"
    assert facts["app.db.plan.seq_scan_tables"] == ["example"]
    assert facts["app.db.plan.rows_removed"] == 20_000
    assert facts["app.db.plan.shared_hit_blocks"] + facts["app.db.plan.shared_read_blocks"] > 100
    assert facts["app.db.plan.query_id"].lstrip("-").isdigit()
    assert facts["app.db.server_ms"] > 1
    assert facts["code.function.name"] == "devtools.examples.queries.ExampleStore.page"
    assert facts["code.file.path"] == "devtools/examples/queries.py"
    assert facts["code.line.number"] > 1
    assert "app.db.lock_wait" not in facts
    assert "app.db.plan.estimated" not in facts


def test_a_teams_code_beside_the_application_is_named(
    traced: Serve, receiver: Receiver, database: Callable[..., Any]
) -> None:
    """The line that sent the statement, of whatever package of the project, and not one of a library."""
    with traced(slow_query_ms=1, entities=(database("SELECT pg_sleep(0.01)"),)) as api, api.client() as client:
        facts = statement(receiver, client.get("/api/ask"))["attributes"]
    assert facts["app.db.slow"] is True
    assert facts["code.file.path"] == "tests/telemetry/conftest.py"
    assert ".ask." in facts["code.function.name"]


def test_no_literal_is_in_a_plan(alice: httpx.Client, receiver: Receiver) -> None:
    """Neither the user nor what was searched for is in the plan, nor in anything else of the span."""
    receiver.bodies.clear()
    statement(receiver, alice.get("/api/examples?q=canary'); \"canary"))
    sent = b"".join(receiver.bodies)
    assert b"app.db.plan" in sent
    assert b"canary" not in sent
    assert b"'alice'" not in sent


def test_a_plan_too_long_loses_its_deepest_parts(
    traced: Serve, login: Callable[[str, str], None], receiver: Receiver, database: Callable[..., Any]
) -> None:
    """A plan of over 16 KiB is still valid JSON within that, without its deepest nodes; its facts are of all of it."""
    login("auto_explain.log_min_duration", "0")
    union = " UNION ALL ".join(f"SELECT id FROM example WHERE id = {n}" for n in range(200))
    nested = f"SELECT count(*) FROM (SELECT id FROM ({union}) u ORDER BY id) o"
    with traced(slow_query_ms=1, entities=(database(nested),)) as api, api.client() as client:
        facts = statement(receiver, client.get("/api/ask"))["attributes"]
    plan = json.loads(facts["app.db.plan"])
    assert len(facts["app.db.plan"]) <= 16 * 1024
    assert "Plans Omitted" in json.dumps(plan)
    assert facts["app.db.plan.root"] == plan["Node Type"] == "Aggregate"


def test_a_wait_for_a_lock_is_told_from_work(
    alice: httpx.Client, receiver: Receiver, holding: Callable[[str], Any]
) -> None:
    """A statement that waited for another's lock says so, whatever its plan."""
    with ThreadPoolExecutor(1) as pool, holding("SELECT FROM example WHERE id = 1 FOR UPDATE") as held:
        answer = pool.submit(alice.patch, "/api/examples/1", json={"title": "mine"})
        held.waiting(at_least_s=0.2)
        held.release()
        facts = statements(receiver, answer.result())[0]["attributes"]
    assert facts["app.db.lock_wait"] is True
    assert facts["app.db.plan.root"] == "ModifyTable"


def test_a_lock_not_had_in_time_is_named(
    alice: httpx.Client, receiver: Receiver, login: Callable[[str, str], None], holding: Callable[[str], Any]
) -> None:
    """When the lock does not come, the failed span carries SQLSTATE 55P03, and none of the database's words."""
    login("lock_timeout", "300")
    with holding("SELECT FROM example WHERE id = 1 FOR UPDATE"):
        answer = alice.patch("/api/examples/1", json={"title": "mine"})
        span = statements(receiver, answer)[0]
    facts = span["attributes"]
    assert answer.status_code >= 500
    assert (span["name"], span["status"]) == ("UPDATE example", (2, "LockNotAvailable"))
    assert (facts["db.response.status_code"], facts["error.type"]) == ("55P03", "55P03")
    assert (facts["app.db.lock_wait"], facts["app.db.slow"]) == (True, True)


@pytest.mark.usefixtures("many_examples")
def test_without_auto_explain_the_planner_is_asked_once(
    traced: Serve, login: Callable[[str, str], None], receiver: Receiver
) -> None:
    """Where the server sends no plan, the first slow run of a SELECT gets the estimated one, and the next ones none."""
    login("auto_explain.log_min_duration", "-1")
    with traced(slow_query_ms=1) as api, api.client() as client:
        first, second = (statement(receiver, client.get("/api/examples?q=needle"))["attributes"] for _ in range(2))
    assert first["app.db.plan.estimated"] is True
    assert first["app.db.plan.seq_scan_tables"] == ["example"]
    assert not {"app.db.plan.rows_removed", "app.db.server_ms"} & set(first)
    assert second["app.db.slow"] is True
    assert "app.db.plan" not in second


def test_a_statement_cut_by_its_deadline_gets_the_estimated_plan(
    traced: Serve, receiver: Receiver, login: Callable[[str, str], None], database: Callable[..., Any]
) -> None:
    """A SELECT that the server cancelled sends no plan, and is explained all the same."""
    login("statement_timeout", "200")
    with traced(entities=(database("SELECT count(*) FROM pg_sleep(9)"),)) as api, api.client() as client:
        answer = client.get("/api/ask")
        facts = statement(receiver, answer)["attributes"]
    assert (answer.status_code, facts["db.response.status_code"]) == (503, "57014")
    assert (facts["app.db.slow"], facts["app.db.plan.estimated"]) == (True, True)
    assert facts["app.db.plan.root"] == "Aggregate"


def test_the_same_statement_many_times_is_told(
    traced: Serve, receiver: Receiver, database: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A request that runs one statement five times over is marked, counted by route and statement, and told once."""
    with traced(entities=(database("SELECT 1 AS id", times=5),)) as api, api.client() as client:
        facts = server_span(receiver, client.get("/api/ask"))["attributes"]
        client.get("/api/ask")
        seen, labels = scrape(client), {"method": "GET", "handler": "/api/ask"}
    assert (facts["app.db.query_count"], facts["app.db.max_repeat"]) == (5, 5)
    assert facts["app.db.n_plus_one"] is True
    assert seen.value("http_request_repeats_total", query="SELECT", **labels) == 2
    assert seen.value("http_request_statements_total", **labels) == 10
    (line,) = [record for record in caplog.records if record.name == "app.queries"]
    assert line.getMessage() == "N+1: GET /api/ask ran SELECT 5 times"
    assert vars(line)["line"].fields["db.query.text"] == "SELECT ? AS id"


def test_few_statements_are_no_repeat(
    traced: Serve, receiver: Receiver, database: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Four runs are counted as statements of their route, and nothing else."""
    with traced(entities=(database("SELECT 1 AS id", times=4),)) as api, api.client() as client:
        facts = server_span(receiver, client.get("/api/ask"))["attributes"]
        seen = scrape(client)
    assert "app.db.n_plus_one" not in facts
    assert seen.value("http_request_statements_total", method="GET", handler="/api/ask") == 4
    assert not [sample for sample in seen.samples if sample.name == "http_request_repeats_total"]
    assert "N+1" not in caplog.text
