"""Spans reach a receiver in either encoding, and a receiver in trouble costs a request nothing."""

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from io import StringIO
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.trace.propagation import set_span_in_context
from opentelemetry.trace.span import NonRecordingSpan

from app.settings import Settings
from app.telemetry.export import Queue, make_exporter
from app.telemetry.signals import TRACES
from tests.otlp_receiver import Receiver, Span
from tests.process import Process
from tests.support import Api, wait_until
from tests.telemetry.scrapes import scrape
from tests.telemetry.support import FAULTS, entries, in_trouble, server_span, statements, stop

Serve = Callable[..., AbstractContextManager[Api]]
Run = Callable[..., AbstractContextManager[Process]]

TEXTS = [
    "",
    "plain",
    'quotes " and \\ backslash',
    "line\nbreak\ttab \x00 nul \x7f",
    "Ünïcödé 漢字 🎉 \u2028",
    "x" * 5000,
]
VALUES: list[Any] = [
    *TEXTS, True, False, 0, 1, -(2**63), 2**63 - 1, 0.0, 1.0, 1e-300, 0.1, math.inf, -math.inf, math.nan,
    b"\x00\xff", [True, False], [1, 2], [1.0, 2.5], ["a", "ü"], [], {"nested": {"deep": [1, "two", None]}}, None,
]  # fmt: skip


def send_everything(protocol: str, receiver: Receiver) -> list[Span]:
    """Spans with all that a span may hold, through the exporter of `protocol`."""
    settings = Settings(otel_exporter_otlp_endpoint=receiver.url, otel_exporter_otlp_protocol=protocol)
    chosen = make_exporter(settings, TRACES)
    assert chosen
    provider = TracerProvider(resource=Resource({"service.name": "ü", "n": 1}), shutdown_on_exit=False)
    provider.add_span_processor(Queue(chosen, settings, TRACES))
    remote = SpanContext(
        1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("a", "b"), ("c", "d")])
    )
    equal: Iterator[bool | int | float | str] = iter([True, 1, 1.0, "1"] * 3)  # to Python, the first three are
    for scope, version in (("one", "1.0"), ("two", "")):
        tracer = provider.get_tracer(scope, version, "https://example.com/schema")
        for kind in SpanKind:
            parent = set_span_in_context(NonRecordingSpan(remote)) if kind is SpanKind.SERVER else None
            span = tracer.start_span(
                f"ü {kind.name}", parent, kind, links=[Link(remote, {"why": "because"}), Link(remote)]
            )
            span.set_attributes({f"value.{number}": value for number, value in enumerate(VALUES)})
            span.set_attribute("equal", next(equal))
            span.add_event("event ü", {"number": 1.5, "text": "ü"}, timestamp=7)
            span.set_status(Status(StatusCode.ERROR, "went wrong ü"))
            span.end()
        tracer.start_span("ok").end()
        with tracer.start_as_current_span("full") as span:
            span.set_attributes({f"many.{number}": number for number in range(200)})
    provider.shutdown()
    return receiver.spans


def test_a_slow_collector_is_told_from_one_that_does_not_take(traced: Serve, receiver: Receiver, log: StringIO) -> None:
    """The line about what was dropped says how long a batch took, and so do the metrics."""
    receiver.delay_s = 1.1
    bounds = {"otel_bsp_max_queue_size": 16, "otel_bsp_max_export_batch_size": 1, "otel_bsp_schedule_delay": 10}
    with traced(**bounds) as api, api.client() as client:
        client.get("/api/examples")
        wait_until(lambda: scrape(client).value("otel_export_batches_total"))
        wait_until(lambda: client.get("/api/examples") and "dropped so far: the collector takes 1." in log.getvalue())
        seen = scrape(client)
        mean = seen.value("otel_export_seconds_total", signal="traces") / seen.value("otel_export_batches_total")
    assert 1 <= mean < 3


def test_both_encodings_show_the_same_spans(receiver: Receiver) -> None:
    """JSON and protobuf bring the same spans: every kind of value, text, link, event, status, scope and count."""
    seen = {}
    for protocol in ("http/json", "http/protobuf"):
        receiver.spans.clear()
        seen[protocol] = [comparable(span) for span in send_everything(protocol, receiver)]
    assert len(seen["http/json"]) == 14
    for ours, official in zip(seen["http/json"], seen["http/protobuf"], strict=True):
        assert ours == official
    attributes = json.loads(seen["http/json"][0])["attributes"]
    assert attributes["value.3"] == TEXTS[3]


def comparable(span: Span) -> str:
    """A span without what differs from run to run; not-a-numbers are equal here."""
    kept = {name: value for name, value in span.items() if name not in {"spanId", "start", "end"}}
    kept["traceId"] = span["traceId"] if span["parentSpanId"] else ""
    kept["timed"] = 0 < span["start"] <= span["end"]
    return json.dumps(kept, sort_keys=True, default=repr)


def test_text_that_is_no_text_spoils_nothing(receiver: Receiver) -> None:
    """A lone surrogate in a value arrives as a question mark, and the batch with it."""
    settings = Settings(otel_exporter_otlp_endpoint=receiver.url)
    chosen = make_exporter(settings, TRACES)
    assert chosen
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Queue(chosen, settings, TRACES))
    provider.get_tracer("t").start_span("odd", attributes={"text": "a\ud800b"}).end()
    provider.shutdown()
    assert receiver.spans[0]["attributes"]["text"] == "a?b"


@pytest.mark.parametrize("protocol", ["http/json", "http/protobuf"])
def test_the_standard_exporter_settings_count(traced: Serve, receiver: Receiver, protocol: str) -> None:
    """Endpoint, headers and compression are the standard's, for both encodings."""
    given = {
        "otel_exporter_otlp_endpoint": "http://127.0.0.1:1",
        "otel_exporter_otlp_traces_endpoint": f"{receiver.url}/custom/path",
        "otel_exporter_otlp_traces_protocol": protocol,
        "otel_exporter_otlp_headers": "X-Key=a%20secret,other=1",
        "otel_exporter_otlp_compression": "gzip",
    }
    with traced(**given) as api, api.client() as alice:
        server_span(receiver, alice.get("/api/examples"))
    headers = receiver.headers[0]
    assert (headers["x-key"], headers["other"], headers["content-encoding"]) == ("a secret", "1", "gzip")
    wanted = "application/json" if protocol == "http/json" else "application/x-protobuf"
    assert (headers["content-type"], receiver.paths[0]) == (wanted, "/custom/path")


def test_without_an_endpoint_nothing_is_recorded(serve: Serve, receiver: Receiver) -> None:
    """No receiver, no exporter: requests have trace ids for the log, and there is no thread that sends."""
    before = {thread.name for thread in threads()}
    with serve() as api, api.client() as alice:
        assert len(alice.get("/api/examples").headers["x-trace-id"]) == 32
        assert "OtelBatchSpanRecordProcessor" not in {thread.name for thread in threads()} - before
    assert receiver.bodies == []


@pytest.mark.parametrize("switch", [{"otel_sdk_disabled": True}, {"otel_traces_exporter": "none"}])
def test_switched_off_nothing_is_sent(traced: Serve, receiver: Receiver, switch: dict[str, Any]) -> None:
    """OTEL_SDK_DISABLED and OTEL_TRACES_EXPORTER=none send nothing; the first makes no trace at all."""
    with traced(**switch) as api, api.client() as alice:
        answer = alice.get("/api/examples/999")
    assert ("x-trace-id" in answer.headers, "trace_id" in answer.json()) == (("otel_traces_exporter" in switch),) * 2
    assert "server-timing" in answer.headers
    assert receiver.bodies == []


def threads() -> list[threading.Thread]:
    return threading.enumerate()


@pytest.mark.parametrize("protocol", ["http/json", "http/protobuf"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_collector_in_trouble_costs_a_request_nothing(
    traced: Serve, receiver: Receiver, log: StringIO, fault: str, protocol: str
) -> None:
    """Dead, hanging, failing, refusing or slow: requests are as quick, and what is dropped is counted and told."""
    with in_trouble(fault, receiver) as url:
        given = {"otel_exporter_otlp_endpoint": url, "otel_exporter_otlp_protocol": protocol}
        small = {"otel_bsp_max_queue_size": 20, "otel_bsp_max_export_batch_size": 10, "otel_bsp_schedule_delay": 10}
        with traced(**given, **small) as api, api.client() as alice:
            durations = sorted(duration(alice) for _ in range(100))
            started = time.monotonic()
        ended = time.monotonic() - started
    assert durations[-6] < 1.0  # a batch is of five requests: one that waited for the collector would not be alone
    assert ended < 8.0
    told = re.search(r"(\d+) spans were dropped since the start", log.getvalue())
    assert told
    assert int(told[1]) + len(receiver.spans) >= 200  # two for each request, none of which is forgotten


def duration(client: httpx.Client) -> float:
    started = time.monotonic()
    assert client.get("/api/examples?limit=1").status_code == 200
    return time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_the_process_ends_soon_whatever_the_collector_does(run: Run, receiver: Receiver, fault: str) -> None:
    """After SIGTERM the process is gone within the two seconds that flushing may take, and some for the rest."""
    with in_trouble(fault, receiver) as url, run(OTEL_EXPORTER_OTLP_ENDPOINT=url) as process:
        with process.client() as alice:
            alice.get("/api/examples")
        assert stop(process) < 8.0  # 30 s and more without a bound of our own
    assert process.popen.returncode == 0


def test_what_is_queued_is_sent_before_the_process_ends(run: Run, receiver: Receiver) -> None:
    """Spans that wait for their batch at SIGTERM arrive."""
    with run(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_BSP_SCHEDULE_DELAY="60000") as process:
        with process.client() as alice:
            answer = alice.get("/api/examples")
        stop(process)
    server_span(receiver, answer)


def test_a_receiver_that_comes_back_is_sent_to_again(alice: httpx.Client, receiver: Receiver) -> None:
    """After a failure, and after a closed connection, the next batches arrive."""
    server_span(receiver, alice.get("/api/examples"))
    receiver.status = 500
    alice.get("/api/examples")
    receiver.wait_for(lambda _: receiver.refused)
    receiver.status = 200
    server_span(receiver, alice.get("/api/examples"))


@pytest.mark.parametrize("seconds", ["1", "0"])
def test_a_receiver_that_asks_for_patience_gets_the_batch_again(
    alice: httpx.Client, receiver: Receiver, seconds: str
) -> None:
    """A 429 with Retry-After is no loss: the same batch is sent again, once a while."""
    receiver.status, receiver.retry_after = 429, seconds
    answer = alice.get("/api/examples")
    receiver.wait_for(lambda _: receiver.refused)
    receiver.status = 200
    assert [span["name"] for span in statements(receiver, answer)] == ["SELECT example"]
    assert receiver.refused == 1


def test_the_resource_says_what_runs_where(run: Run, receiver: Receiver) -> None:
    """Service, version and environment are on every span; the standard variables come first.

    The version is the revision, so that two deployments are told apart. Each line on standard output has it too.
    """
    variables = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=ours,team=blue", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    with run(**variables, revision="4f5e6d7") as process:
        with process.client() as alice:
            answer = alice.get("/api/examples")
        stop(process)
        lines = entries(process)
    resource = server_span(receiver, answer)["resource"]
    wanted = {"service.name": "ours", "team": "blue", "service.version": "4f5e6d7"}
    assert wanted.items() <= resource.items()
    assert {line["revision"] for line in lines} == {"4f5e6d7"}


@pytest.mark.slow
def test_an_unknown_revision_is_told_nowhere(run: Run, receiver: Receiver) -> None:
    """Without REVISION the resource has the version of the API."""
    with run(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url) as process:
        with process.client() as alice:
            answer = alice.get("/api/examples")
        stop(process)
        assert not [line for line in entries(process) if "revision" in line]
    assert server_span(receiver, answer)["resource"]["service.version"] == "0.1.0"
