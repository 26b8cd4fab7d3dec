"""What a client sends, and what the database says of it, stays out of spans and logs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from io import StringIO

import httpx
import pytest
from fastapi import APIRouter

from app.auth import CurrentUser
from app.web.route import ApiRoute
from tests.otlp_receiver import Receiver
from tests.support import Api, make_token
from tests.telemetry.support import server_span, statements

Serve = Callable[..., AbstractContextManager[Api]]
PROTOCOLS = ["http/json", "http/protobuf"]

failing = APIRouter(prefix="/api", route_class=ApiRoute)


@failing.get("/fail")
def fail(user: CurrentUser, q: str) -> None:  # noqa: ARG001  who asks is part of every route
    """Fail with a message that quotes the client."""
    raise RuntimeError(q) from ValueError(q)


@pytest.mark.usefixtures("many_examples")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_a_client_sends_is_exported_or_logged(
    traced: Serve, login: Callable[[str, str], None], receiver: Receiver, log: StringIO, protocol: str
) -> None:
    """Values of bodies, queries, tokens and keys are in no exported byte and no line, plans included."""
    login("auto_explain.log_min_duration", "0")
    with traced(slow_query_ms=1, otel_exporter_otlp_protocol=protocol) as api, api.client() as alice:
        token = make_token("alice", canary="canary")
        headers = {"Idempotency-Key": "canary-key", "Authorization": f"Bearer {token}", "X-Canary": "canary"}
        body = {"title": "canary title", "description": "canary\nit's"}
        example = alice.post("/api/examples", json=body, headers=headers).json()
        alice.patch(f"/api/examples/{example['id']}", json=body)
        alice.post("/api/examples", json={"title": 17, "canary": "canary"})
        alice.get("/api/examples?q=canary&limit=7")
        alice.get("/api/examples?canary=canary")
        alice.get("/api/examples", headers={"Authorization": "Bearer canary"})
        last = alice.get("/api/examples?q=canary%20'%20or%20''")
        statements(receiver, last)
    sent, lines = b"".join(receiver.bodies), log.getvalue()
    assert b"app.db.plan" in sent
    assert b"canary" not in sent
    assert token.encode() not in sent
    assert "slow query" in lines
    assert "canary" not in lines
    assert token not in lines


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_duplicate_keys_value_is_nowhere(
    traced: Serve, receiver: Receiver, log: StringIO, superuser: Callable[[str], None], protocol: str
) -> None:
    """A database's error quotes the row in its way: the span and the log have its SQLSTATE, and no more.

    It is a conflict, which a client can act on, and no unexpected error.
    """
    superuser("CREATE UNIQUE INDEX ON example (title)")
    with traced(otel_exporter_otlp_protocol=protocol) as api, api.client() as alice:
        alice.post("/api/examples", json={"title": "canary"})
        answer = alice.post("/api/examples", json={"title": "canary"})
        (insert,), server = statements(receiver, answer), server_span(receiver, answer)
    assert (answer.status_code, answer.json()["trace_id"]) == (409, server["traceId"])
    assert "canary" not in answer.text
    assert (insert["status"], insert["attributes"]["db.response.status_code"]) == ((2, "UniqueViolation"), "23505")
    assert (server["status"][0], server["events"]) == (0, [])
    assert b"canary" not in b"".join(receiver.bodies)
    assert "the database refused a change: UniqueViolation 23505" in log.getvalue()
    assert "canary" not in log.getvalue()
    assert "unexpected error" not in log.getvalue()
    assert "ended span" not in log.getvalue()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_the_database_says_of_a_mistake_is_nowhere(
    traced: Serve, receiver: Receiver, log: StringIO, superuser: Callable[[str], None], protocol: str
) -> None:
    """A mistake of the code stays a 500: the span and the log have its SQLSTATE and stack, and not what it quotes."""
    superuser(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no such thing: %', NEW.title USING ERRCODE = '42P01'; END $$"
    )
    superuser("CREATE TRIGGER fail BEFORE INSERT ON example FOR EACH ROW EXECUTE FUNCTION fail()")
    with traced(otel_exporter_otlp_protocol=protocol) as api, api.client() as alice:
        answer = alice.post("/api/examples", json={"title": "canary"})
        (insert,), server = statements(receiver, answer), server_span(receiver, answer)
    assert (answer.status_code, answer.json()["trace_id"]) == (500, server["traceId"])
    assert (insert["status"], insert["attributes"]["db.response.status_code"]) == ((2, "UndefinedTable"), "42P01")
    assert server["status"][0] == 2
    (event,) = server["events"]
    assert event["attributes"]["exception.type"] == "ProgrammingError"
    assert "in create" in event["attributes"]["exception.stacktrace"]
    assert b"canary" not in b"".join(receiver.bodies)
    assert "in create" in log.getvalue()
    assert "canary" not in log.getvalue()
    assert "ended span" not in log.getvalue()


def test_an_exceptions_message_is_for_the_terminal_alone(traced: Serve, receiver: Receiver, log: StringIO) -> None:
    """An exception may quote what was sent: its type and stack are told, its message only to who develops."""
    with traced(entities=(failing,)) as api, api.client() as alice:
        answer = alice.get("/api/fail?q=canary")
        event = server_span(receiver, answer)["events"][0]["attributes"]
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert event["exception.type"] == "RuntimeError"
    assert "in fail" in event["exception.stacktrace"]
    assert event["exception.stacktrace"].endswith("caused by\nValueError")
    assert b"canary" not in b"".join(receiver.bodies)
    in_json = [line for line in log.getvalue().splitlines() if line.startswith("{")]
    assert any('"stack"' in line and "RuntimeError" in line for line in in_json)
    assert not [line for line in in_json if "canary" in line]
    assert "RuntimeError: canary" in log.getvalue()


def test_the_connection_survives_an_unexpected_error(traced: Serve) -> None:
    """After a 500 the same connection serves the next request."""
    with traced(entities=(failing,)) as api, api.client() as alice:
        limits = httpx.Limits(max_connections=1)
        with httpx.Client(base_url=api.url, headers=alice.headers, limits=limits) as client:
            assert [client.get("/api/fail?q=1").status_code for _ in range(3)] == [500, 500, 500]
