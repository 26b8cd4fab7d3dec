"""Who decides what is traced: the settings, and callers that are trusted."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from io import StringIO
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from opentelemetry.propagate import inject
from opentelemetry.trace import TraceFlags

from app.web.route import ApiRoute
from tests.otlp_receiver import Receiver
from tests.process import Process
from tests.support import Api, make_token, slow
from tests.telemetry.support import server_span

Serve = Callable[..., AbstractContextManager[Api]]

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
UNSAMPLED = f"00-{TRACE}-{SPAN}-00"


def test_a_strangers_traceparent_is_linked_to_not_followed(alice: httpx.Client, receiver: Receiver) -> None:
    """By default nobody's traceparent counts: the request begins a trace of its own, with a link to the caller's."""
    answer = alice.get("/api/examples", headers={"traceparent": TRACEPARENT, "tracestate": "a=b", "baggage": "c=d"})
    server = server_span(receiver, answer)
    assert server["traceId"] != TRACE
    assert server["parentSpanId"] == ""
    (link,) = server["links"]
    assert (link["traceId"], link["spanId"], link["attributes"]) == (TRACE, SPAN, {})
    assert server["traceState"] == ""


def test_a_stranger_cannot_switch_tracing_off(alice: httpx.Client, receiver: Receiver) -> None:
    """An untrusted caller's sampling decision is not ours, in either direction."""
    answer = alice.get("/api/examples", headers={"traceparent": UNSAMPLED})
    assert server_span(receiver, answer)["links"][0]["traceId"] == TRACE


# A busy machine adds the others.
BESIDE = {"user_agent.original", "app.client.wait_ms", "app.event_loop.blocked_by", "app.event_loop.blocked_ms"}


@pytest.mark.parametrize("trust", ["127.0.0.0/8", "*", "10.0.0.0/8, 127.0.0.1/32"])
def test_a_trusted_traceparent_is_followed(traced: Serve, receiver: Receiver, trust: str) -> None:
    """A caller in TRUST_TRACEPARENT is the parent, and its tracestate goes along."""
    with traced(trust_traceparent=trust) as api, api.client() as alice:
        answer = alice.get("/api/examples", headers={"traceparent": TRACEPARENT, "tracestate": "a=b"})
        server = server_span(receiver, answer)
    assert (server["traceId"], server["parentSpanId"], server["traceState"]) == (TRACE, SPAN, "a=b")
    assert server["links"] == []
    assert answer.headers["x-trace-id"] == TRACE


def test_a_trusted_callers_decision_is_followed(traced: Serve, receiver: Receiver) -> None:
    """What a trusted caller does not sample, we do not."""
    with traced(trust_traceparent="*") as api, api.client() as alice:
        assert alice.get("/api/examples", headers={"traceparent": UNSAMPLED}).headers["x-trace-id"] == TRACE
        last = alice.get("/api/examples")
        server_span(receiver, last)
    assert {span["traceId"] for span in receiver.spans} == {last.headers["x-trace-id"]}


def test_a_peer_outside_the_trusted_networks_is_a_stranger(traced: Serve, receiver: Receiver) -> None:
    """Trust goes by the socket's peer, whatever a header says of it."""
    with traced(trust_traceparent="10.0.0.0/8") as api, api.client() as alice:
        headers = {"traceparent": TRACEPARENT, "x-forwarded-for": "10.1.2.3"}
        assert server_span(receiver, alice.get("/api/examples", headers=headers))["traceId"] != TRACE


def test_a_ratio_samples_so_many(traced: Serve, receiver: Receiver) -> None:
    """At 0.1 between 7 and 13 % of 2,000 requests are sampled, whole traces each; all have a trace id."""

    def ask(client: httpx.Client) -> str:
        return str(client.get("/api/examples?limit=1").headers["x-trace-id"])

    with traced(otel_traces_sampler_arg=0.1) as api, api.client() as alice, ThreadPoolExecutor(8) as pool:
        trace_ids = list(pool.map(ask, [alice] * 2000))
    sampled = {span["traceId"] for span in receiver.spans if span["kind"] == "SERVER"}
    assert len(set(trace_ids)) == 2000
    assert sampled <= set(trace_ids)
    assert 0.07 <= len(sampled) / 2000 <= 0.13
    assert {span["traceId"] for span in receiver.spans if span["kind"] == "CLIENT"} == sampled


def handing_on() -> APIRouter:
    """Two routes that answer what a call of another service would carry, from a coroutine and from a thread."""
    router = APIRouter(prefix="/api", route_class=ApiRoute)

    @router.get("/coroutine")
    async def coroutine() -> dict[str, str]:
        carrier: dict[str, str] = {}
        inject(carrier)
        return carrier

    @router.get("/thread")
    def thread() -> dict[str, str]:
        carrier: dict[str, str] = {}
        inject(carrier)
        return carrier

    return router


@pytest.mark.parametrize("path", ["/api/coroutine", "/api/thread"])
@pytest.mark.parametrize("sampler", ["always_off", "always_on"])
def test_every_request_hands_its_trace_on(traced: Serve, path: str, sampler: str) -> None:
    """The trace id of the answer and whether it is recorded; of what is not, the problem document has the id too."""
    with traced([handing_on()], otel_traces_sampler=sampler) as api, api.client() as alice:
        answer, missing = alice.get(path), alice.get("/api/no-such-thing")
    version, trace, _, flags = answer.json()["traceparent"].split("-")
    assert (version, trace) == ("00", answer.headers["x-trace-id"])
    assert TraceFlags(int(flags, 16)).sampled == (sampler == "always_on")
    assert missing.json()["trace_id"] == missing.headers["x-trace-id"] != trace
    assert f"{trace}-" in answer.headers["server-timing"]


def test_an_unrecorded_trace_of_a_trusted_caller_goes_on_whole(traced: Serve, receiver: Receiver) -> None:
    """Its id, its tracestate and its baggage reach the next service, with the flag 00."""
    context = {"traceparent": UNSAMPLED, "tracestate": "a=b", "baggage": "c=d"}
    with traced([handing_on()], trust_traceparent="*") as api, api.client() as alice:
        carried = alice.get("/api/thread", headers=context).json()
    assert carried.pop("traceparent").startswith(f"00-{TRACE}-")
    assert carried == {"tracestate": "a=b", "baggage": "c=d"}
    assert receiver.spans == []


@pytest.mark.usefixtures("many_examples")
def test_the_slow_and_failed_reach_the_log_unsampled(traced: Serve, receiver: Receiver, log: StringIO) -> None:
    """What is not sampled still has lines with a trace id."""
    with traced(otel_traces_sampler="always_off", slow_query_ms=1) as api, api.client() as alice:
        slow = alice.get("/api/examples?q=needle").headers["x-trace-id"]
        failed = alice.get("/api/examples/999999").headers["x-trace-id"]
    lines = [line for line in log.getvalue().splitlines() if line.startswith("{")]
    assert [line for line in lines if "slow query" in line and slow in line]
    assert [line for line in lines if "example_not_found" in line and failed in line]
    assert receiver.spans == []


HOSTILE = [
    *[
        ("traceparent", value)
        for value in (b"", b"\xff\\x", b"00-" + b"f" * 32, b"\xf0\x9f\x98\x80", b"ff-" + TRACEPARENT[3:].encode())
    ],
    *[
        ("traceparent", TRACEPARENT.encode() + tail)
        for tail in (b"-", b"\\xzz", b"\xff", b"," + TRACEPARENT.encode(), b"-" + b"0" * 8000)
    ],
    ("tracestate", b"a=b," * 2000),
    ("tracestate", b"a" * 8000 + b"=" + b" " * 100),
    ("baggage", b"canary=" + b"c" * 10_000),
    ("baggage", b"canary=" + b"%ff" * 3000),
    ("user-agent", b"\xff\\x"),
    ("user-agent", b"a" * 20_000),
    ("x-canary", b"c" * 30_000),
]


@pytest.mark.parametrize("trust", ["", "*"])
def test_hostile_headers_cost_nothing(traced: Serve, receiver: Receiver, trust: str) -> None:
    """Whatever bytes the headers hold, there is no 500, and no attribute comes of them but a short user agent."""
    with traced(trust_traceparent=trust) as api:
        for name, value in HOSTILE:
            extra = [] if name == "traceparent" else [("traceparent", TRACEPARENT.encode())]
            assert ask_raw(api, [(name, value), *extra]) == 200, (name, value)
        assert ask_raw(api, [(f"x-{number}", b"canary") for number in range(5000)]) == 431
        with api.client() as alice:
            last = server_span(receiver, alice.get("/api/examples"))
    for span in receiver.spans:
        assert set(span["attributes"]) <= set(last["attributes"]) | BESIDE or span["kind"] != "SERVER"
        texts = [str(value) for name, value in span["attributes"].items() if not name.startswith("app.db.plan")]
        assert max(map(len, texts)) <= 512  # a busy machine may make a statement slow, and its plan is long
    assert b"canary" not in b"".join(receiver.bodies)


def test_a_hostile_query_string_costs_nothing(api: Api, receiver: Receiver) -> None:
    """Bytes that are no text in the query string are refused, traced and nowhere on the span."""
    assert ask_raw(api, [], b"/api/examples?q=\xff\xfecanary") in {400, 422}
    assert ask_raw(api, [], b"/api/examples?q=%ff%fecanary") == 422
    receiver.wait_for(lambda spans: len(spans) >= 1)
    assert b"canary" not in b"".join(receiver.bodies)


def ask_raw(api: Api, headers: list[tuple[str, bytes]], target: bytes = b"/api/examples") -> int:
    """The status of a request whose bytes no client library would send."""
    lines = [b"GET " + target + b" HTTP/1.1", b"host: localhost", b"connection: close"]
    lines += [f"authorization: Bearer {make_token()}".encode()]
    lines += [name.encode() + b": " + value for name, value in headers]
    with socket.create_connection(("127.0.0.1", api.port), 10) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        return int(connection.makefile("rb").readline().split()[1])


WRONG = [
    ("OTEL_TRACES_SAMPLER", "sometimes"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "no pairs"),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
    ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "["),
]
WRONG_AS_WELL = [
    ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
    ("OTEL_PROPAGATORS", "pigeon"),
    ("TRUST_TRACEPARENT", "everybody"),
    ("LOG_FORMAT", "xml"),
    ("SLOW_QUERY_MS", "0"),
]


@pytest.mark.parametrize(("name", "value"), [*WRONG, *(slow(*wrong) for wrong in WRONG_AS_WELL)])
def test_wrong_settings_are_refused_in_one_line(refused: Callable[..., str], name: str, value: str) -> None:
    """A wrong variable ends the start with one readable message and exit code 2."""
    message = refused(**{name: value})
    assert name in message or message.startswith("An OTEL_* variable is wrong: ")
    assert "Traceback" not in message
    assert len(message.splitlines()) <= 2


@pytest.mark.parametrize("variables", [{"OTEL_RESOURCE_ATTRIBUTES": "a,b=c"}, {"OTEL_PYTHON_CONTEXT": "none_such"}])
def test_what_the_standard_forgives_is_forgiven(
    run: Callable[..., AbstractContextManager[Process]], variables: dict[str, Any]
) -> None:
    """Where the standard has a fallback of its own, it is taken, and the application serves."""
    with run(**variables) as process, process.client() as alice:
        assert alice.get("/api/examples").status_code == 200
