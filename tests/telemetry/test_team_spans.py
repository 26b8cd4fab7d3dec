"""What a team's code puts on spans by OpenTelemetry's interfaces: what can be sent is, and nothing a client sent."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from io import StringIO
from typing import Any

import pytest
from fastapi import Request
from opentelemetry import trace
from sqlalchemy import text

from app.auth import CurrentUser
from app.db import CurrentDatabase
from tests.otlp_receiver import Receiver
from tests.process import ROOT
from tests.support import Api
from tests.telemetry.support import router_of, server_span, trace_of

Serve = Callable[..., AbstractContextManager[Api]]
PROTOCOLS = ["http/json", "http/protobuf"]
INSERT = """
INSERT INTO example (user_id, title, completed, created_at, updated_at, version)
VALUES (:user, 'canary', false, now(), now(), 1)
"""


def tracer_of(request: Request) -> Any:
    """A tracer of the application's provider, which `serve` makes the process's."""
    return request.app.state.tracing._provider.get_tracer("team")


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
    superuser("CREATE UNIQUE INDEX ON example (title)")

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
    assert "test_team_spans.py" in event["attributes"]["exception.stacktrace"]
    assert b"canary" not in b"".join(receiver.bodies)


class OddFloat(float):
    """Its text is no number of JSON, as NumPy's is."""

    def __repr__(self) -> str:
        return "odd(0.5)"


ODD: dict[str, Callable[[Any], object]] = {
    "name": lambda tracer: tracer.start_span(5).end(),
    "kind": lambda tracer: tracer.start_span("odd", kind="server").end(),
    "event": lambda tracer: (span := tracer.start_span("odd"), span.add_event(7), span.end()),
    "before 1970": lambda tracer: tracer.start_span("odd", start_time=-5).end(),
    "after 2554": lambda tracer: tracer.start_span("odd", start_time=2**65).end(),
    "text": lambda tracer: tracer.start_span("\ud800").end(),
    "text of an event": lambda tracer: (span := tracer.start_span("odd"), span.add_event("\ud800"), span.end()),
    "float": lambda tracer: tracer.start_span("odd", attributes={"a": OddFloat(0.5), "b": [OddFloat(0.5)]}).end(),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_span_that_cannot_be_sent_costs_no_other(
    traced: Serve, receiver: Receiver, log: StringIO, protocol: str
) -> None:
    """Each is dropped by itself, in one batch with all others, and logged once for each kind of error."""

    def make(request: Request) -> None:
        for odd in ODD.values():
            odd(tracer_of(request))

    with traced([router_of(make)], otel_exporter_otlp_protocol=protocol) as api, api.client() as alice:
        answer = alice.get("/api/own")
        assert answer.status_code == 200
        server_span(receiver, answer)
    assert not receiver.errors
    assert {"?", "odd"} <= {span["name"] for span in receiver.spans}
    assert 1 <= log.getvalue().count('"message": "a span cannot be encoded: ') <= len(ODD)


def test_a_batch_is_halved_around_what_cannot_be_sent(traced: Serve, receiver: Receiver) -> None:
    """One bad span among many costs a few requests more, not one for each of the others."""

    def make(request: Request) -> None:
        for number in range(300):
            tracer_of(request).start_span(f"good {number}").end()
        ODD["kind"](tracer_of(request))

    with traced([router_of(make)], otel_bsp_schedule_delay=60_000) as api, api.client() as alice:
        assert alice.get("/api/own").status_code == 200
    assert len([span for span in receiver.spans if span["name"].startswith("good")]) == 300
    assert len(receiver.bodies) <= 20


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_way_to_record_an_exception_tells_its_message(traced: Serve, receiver: Receiver, protocol: str) -> None:
    """Not by the status, however it is set, not by a stack that an exception's message pretends to be."""

    def raise_in(span: Any) -> None:
        with span:
            raise ValueError("canary")

    def record(request: Request) -> None:
        tracer = tracer_of(request)
        error = ValueError('canary\n  File "canary", line 1, in canary\n' + "canary " * 10_000)
        for span in (
            tracer.start_as_current_span("silent", record_exception=False),
            tracer.start_as_current_span("loud"),
        ):
            with pytest.raises(ValueError, match="canary"):
                raise_in(span)
        with tracer.start_as_current_span("by hand") as span:
            span.record_exception(error)
            span.set_status(trace.StatusCode.ERROR, str(error))
        with tracer.start_as_current_span("with its own message") as span:
            span.record_exception(error, {"exception.message": "canary"})
            span.set_status(trace.StatusCode.ERROR, f"ValueError: {error}")

    with traced([router_of(record)], otel_exporter_otlp_protocol=protocol) as api, api.client() as alice:
        spans = {span["name"]: span for span in trace_of(receiver, alice.get("/api/own"))}
    assert b"canary" not in b"".join(receiver.bodies)
    assert (spans["silent"]["status"], spans["loud"]["status"], spans["by hand"]["status"]) == (
        (2, ""),
        (2, "ValueError"),
        (2, ""),
    )
    assert "test_team_spans.py" in spans["loud"]["events"][0]["attributes"]["exception.stacktrace"]


def test_urls_end_before_their_query(traced: Serve, receiver: Receiver) -> None:
    """On spans and in events of other instrumentations, fragment included; what the limits dropped is still counted."""
    url = "https://example.com/path?canary=1#canary"

    def call(request: Request) -> None:
        with tracer_of(request).start_as_current_span("call") as span:
            span.set_attributes({f"a{number}": number for number in range(130)})
            span.set_attributes({"url.full": url, "http.url": "/path#canary", "url.query": "canary=1"})
            span.add_event("retry", {"url.full": url})

    with traced([router_of(call)]) as api, api.client() as alice:
        (span,) = [span for span in trace_of(receiver, alice.get("/api/own")) if span["name"] == "call"]
    assert (span["attributes"]["url.full"], span["events"][0]["attributes"]) == (
        "https://example.com/path",
        {"url.full": "https://example.com/path"},
    )
    assert b"canary" not in b"".join(receiver.bodies)
    assert span["dropped"][0] > 0


def test_an_instrumentation_that_comes_first_changes_no_names() -> None:
    """One that a team's module sets up as it is imported does not decide which conventions the server spans follow."""
    code = """
import app
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
HTTPXClientInstrumentor().instrument()
from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability as stability
from opentelemetry.instrumentation._semconv import _OpenTelemetryStabilitySignalType as signal
print(stability._get_opentelemetry_stability_opt_in_mode(signal.HTTP).value)
"""
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "http\n"
