"""A browser's trace goes on here, where the settings say so: by its ids, and by nothing else that a script sends."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from fastapi import APIRouter
from opentelemetry import baggage
from opentelemetry.trace import get_current_span

from app.web.route import ApiRoute
from tests.otlp_receiver import Receiver
from tests.support import ORIGIN, Api
from tests.telemetry.support import WAITS, server_span, statement

Serve = Callable[..., AbstractContextManager[Api]]

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
TRUSTING: dict[str, Any] = {"cors_origins": (ORIGIN, "tauri://localhost", "null"), "trust_browser_traceparent": True}


@pytest.mark.parametrize("origin", [ORIGIN, "tauri://localhost", "null"])
@pytest.mark.parametrize("traceparent", [TRACEPARENT, f"00-{TRACE}-{SPAN}-00", f"01-{TRACE}-{SPAN}-ff-more"])
def test_a_browsers_trace_goes_on(traced: Serve, receiver: Receiver, origin: str, traceparent: str) -> None:
    """The browser's span is the parent of the server's, whatever flags it has, and Server-Timing names the server's."""
    headers = {"Origin": origin, "traceparent": traceparent, "tracestate": "a=b"}
    with traced(**TRUSTING) as api, api.client() as alice:
        answer = alice.get("/api/examples", headers=headers)
        server, asked = server_span(receiver, answer), statement(receiver, answer)
    assert (server["traceId"], server["parentSpanId"], server["traceState"]) == (TRACE, SPAN, "")
    assert (asked["traceId"], asked["parentSpanId"], server["links"]) == (TRACE, server["spanId"], [])
    assert answer.headers["x-trace-id"] == TRACE
    assert answer.headers["server-timing"].endswith(f'traceparent;desc="00-{TRACE}-{server["spanId"]}-01"')


@pytest.mark.parametrize(
    ("settings", "origins"),
    [
        ({"cors_origins": ORIGIN}, [ORIGIN]),  # by default
        (TRUSTING, []),
        (TRUSTING, ["https://evil.test"]),
        (TRUSTING, ["capacitor://localhost"]),
        (TRUSTING, [f"{ORIGIN}/"]),
        (TRUSTING, [ORIGIN, "https://evil.test"]),
        (TRUSTING, [ORIGIN, ORIGIN]),
    ],
)
def test_others_are_linked_to(traced: Serve, receiver: Receiver, settings: dict[str, Any], origins: list[str]) -> None:
    """Without the setting, an origin, or exactly one that is listed, the request begins a trace of its own."""
    headers = [("traceparent", TRACEPARENT), *[("Origin", origin) for origin in origins]]
    with traced(**settings) as api, api.client() as alice:
        server = server_span(receiver, alice.get("/api/examples", headers=[*alice.headers.items(), *headers]))
    assert (server["traceId"] != TRACE, server["parentSpanId"]) == (True, "")
    assert [(link["traceId"], link["spanId"]) for link in server["links"]] == [(TRACE, SPAN)]


LIES = [
    *[
        "",
        "x",
        TRACEPARENT[:-1],
        TRACEPARENT + "-",
        TRACEPARENT.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
    ],
    *[
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"{TRACEPARENT},{TRACEPARENT}",
    ],
    f"00-{TRACE}{TRACE}-{SPAN}-01",
]


def test_a_traceparent_that_lies_is_nobodys(traced: Serve, receiver: Receiver) -> None:
    """Malformed, of nothing, of a version that there is not, or twice: neither a parent nor a link, and no 500."""
    with traced(**TRUSTING) as api, api.client(Origin=ORIGIN) as alice:
        for lies in [*[[lie] for lie in LIES], [TRACEPARENT] * 2, [TRACEPARENT, LIES[0]], [LIES[1], TRACEPARENT]]:
            headers = [*alice.headers.items(), *[("traceparent", lie) for lie in lies]]
            answer = alice.get("/api/examples", headers=headers)
            server = server_span(receiver, answer)
            assert (answer.status_code, server["parentSpanId"], server["links"]) == (200, "", []), lies
            assert server["traceId"] != TRACE


def test_nothing_of_a_script_is_handed_on(traced: Serve) -> None:
    """Baggage of 8 KiB and tracestate arrive, and no request that the endpoint sends on would carry them."""
    router = APIRouter(prefix="/api", route_class=ApiRoute)

    @router.get("/context")
    def context() -> tuple[int, dict[str, Any], dict[str, str]]:
        span = get_current_span().get_span_context()
        return span.trace_id, dict(baggage.get_all()), dict(span.trace_state)

    headers = {"traceparent": TRACEPARENT, "tracestate": "a=b", "baggage": f"user={'x' * 4090},more={'x' * 4091}"}
    with traced([router], **TRUSTING) as api, api.client(Origin=ORIGIN) as alice:
        answer = alice.get("/api/context", headers=headers)
    assert (answer.status_code, answer.json()) == (200, [int(TRACE, 16), {}, {}])


@pytest.mark.parametrize("parentbased", ["", "parentbased_"])
@pytest.mark.parametrize(("sampler", "share"), [("always_on", 1.0), ("always_off", 0.0), ("traceidratio", 0.5)])
@pytest.mark.parametrize("trace", ["0" * 31 + "1", "f" * 32], ids=["smallest", "largest"])
def test_a_script_has_no_say_in_sampling(
    traced: Serve, receiver: Receiver, parentbased: str, sampler: str, share: float, trace: str
) -> None:
    """Neither by the sampled flag nor by the id that it chooses; the spans of one request are sampled alike."""
    settings = TRUSTING | {"otel_traces_sampler": parentbased + sampler, "otel_traces_sampler_arg": 0.5}
    sampled: set[str] = set()
    with traced(**settings) as api, api.client(Origin=ORIGIN) as alice:
        for flags in ("00", "01"):
            sent = {"traceparent": f"00-{trace}-{SPAN}-{flags}"}
            told = [alice.get("/api/examples", headers=sent).headers["server-timing"] for _ in range(40)]
            found = set(re.findall(rf'"00-{trace}-(\w+)-01"', " ".join(told)))
            assert abs(len(found) / 40 - share) <= (0.4 if share == 0.5 else 0.0), flags
            sampled |= found
    spans = [span for span in receiver.spans if span["name"] not in WAITS]
    assert {span["traceId"] for span in spans} <= {trace}
    assert {span["spanId"] for span in spans if span["kind"] == "SERVER"} == sampled
    assert {span["parentSpanId"] for span in spans if span["kind"] == "CLIENT"} == sampled


def test_a_trusted_network_is_trusted_whole(traced: Serve, receiver: Receiver) -> None:
    """A caller of TRUST_TRACEPARENT keeps its say in sampling and its tracestate, whatever Origin it passes on."""
    with traced(trust_traceparent="127.0.0.1", **TRUSTING) as api, api.client(Origin=ORIGIN) as alice:
        unsampled = {"traceparent": f"00-{'1' * 32}-{SPAN}-00", "tracestate": "a=b"}
        assert '-00"' in alice.get("/api/examples", headers=unsampled).headers["server-timing"]
        server = server_span(
            receiver, alice.get("/api/examples", headers={"traceparent": TRACEPARENT, "tracestate": "a=b"})
        )
    assert (server["traceId"], server["parentSpanId"], server["traceState"]) == (TRACE, SPAN, "a=b")
    assert {span["traceId"] for span in receiver.spans} == {TRACE}
