"""A frontend that traces, in a real browser: to which trace the request belongs, and how a page learns of it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.browser.frontend import IN_A_BROWSER, Frontend, visit
from tests.otlp_receiver import Receiver, Span, run_receiver
from tests.support import Api
from tests.telemetry.support import WAITS

pytestmark = IN_A_BROWSER

Visit = Callable[..., dict[str, Any]]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with run_receiver() as running_receiver:
        yield running_receiver


@pytest.fixture
def traced_visit(
    frontend: Frontend, serve: Callable[..., AbstractContextManager[Api]], receiver: Receiver, tmp_path: Path
) -> Visit:
    """A function that opens a page and returns its report. The page and the API send their spans to the receiver."""

    def start(**settings: Any) -> dict[str, Any]:
        with serve(cors_origins=frontend.origin, otel_exporter_otlp_endpoint=receiver.url, **settings) as api:
            return visit(frontend, tmp_path, "tracing.html", api=api.url, receiver=receiver.url)

    return start


def spans_by_name(receiver: Receiver) -> dict[str, Span]:
    """Return the spans of the page's request by their names."""
    return {span["name"]: span for span in receiver.spans if span["name"] not in WAITS}


def traceparent_of(seen: dict[str, Any]) -> str:
    """Return the traceparent in Server-Timing. The page reads it in two ways, with the same result."""
    traceparent: str = seen["timed"]["traceparent"]
    assert seen["header"].endswith(f', traceparent;desc="{traceparent}"')
    assert set(seen["timed"]) == {"db", "total", "traceparent"}
    return traceparent


def test_a_pages_trace_reaches_the_database(traced_visit: Visit, receiver: Receiver) -> None:
    """Browser, server and statement are one trace, and the page learns which span is the server's."""
    seen = traced_visit(trust_browser_traceparent=True)
    spans = spans_by_name(receiver)
    assert set(spans) == {"list examples", "GET /api/examples", "SELECT example"}, seen
    page, server, statement = spans["list examples"], spans["GET /api/examples"], spans["SELECT example"]
    assert page["spanId"] == seen["spanId"] == server["parentSpanId"]
    assert server["spanId"] == statement["parentSpanId"]
    assert {span["traceId"] for span in receiver.spans} == {seen["traceId"]}
    assert traceparent_of(seen) == f"00-{seen['traceId']}-{server['spanId']}-01"


def test_by_default_a_pages_trace_is_linked_to(traced_visit: Visit, receiver: Receiver) -> None:
    """The preflight succeeds, too. The request starts a trace of its own, which links to the page's."""
    seen = traced_visit()
    server = spans_by_name(receiver)["GET /api/examples"]
    assert (server["traceId"] == seen["traceId"], server["parentSpanId"]) == (False, "")
    assert [(link["traceId"], link["spanId"]) for link in server["links"]] == [(seen["traceId"], seen["spanId"])]
    assert traceparent_of(seen) == f"00-{server['traceId']}-{server['spanId']}-01"
