"""The entity of docs/observe.md, as a team would have it: in a copy of the project, served as production serves it."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import httpx
import pytest

from tests.copies import copy_project_with
from tests.docs.pages import blocks
from tests.otlp_receiver import Receiver, Span
from tests.process import Process, run_process
from tests.support import run_server
from tests.telemetry.scrapes import scrape
from tests.telemetry.support import entries, stop, trace_of

SERVICE = "https://weather.example.com"


class Weather(ThreadingHTTPServer):
    """The other service: it gives one answer, after `may_answer`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.answer = 200, b'{"sky": "rain"}'
        self.may_answer = Event()
        self.may_answer.set()
        self.asked: list[tuple[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        weather = self.server
        assert isinstance(weather, Weather)
        weather.asked.append((self.path, self.headers["traceparent"]))
        weather.may_answer.wait(30)
        self.send_response(weather.status)
        self.send_header("Content-Length", str(len(weather.answer)))
        self.end_headers()
        self.wfile.write(weather.answer)

    def log_message(self, *_: object) -> None:
        """Keep the test's output to itself."""


@pytest.fixture(scope="module")
def weather() -> Iterator[Weather]:
    with run_server(Weather()) as server:
        yield server
        server.may_answer.set()


@pytest.fixture
def project(tmp_path: Path, weather: Weather) -> Path:
    """A copy of the project with the page's entity, which asks our own other service."""
    (entity,) = blocks("docs/observe.md", __file__)
    assert SERVICE in entity
    return copy_project_with(tmp_path, "forecasts", entity.replace(SERVICE, f"http://127.0.0.1:{weather.server_port}"))


@pytest.fixture
def serve(project: Path, database_url: str, receiver: Receiver, weather: Weather) -> Any:
    @contextmanager
    def start(**variables: object) -> Iterator[Process]:
        weather.status, weather.answer = 200, b'{"sky": "rain"}'
        weather.may_answer.set()
        weather.asked.clear()
        usual = {"otel_exporter_otlp_endpoint": receiver.url, "otel_bsp_schedule_delay": 100}
        usual |= {"otel_logs_exporter": "otlp"}
        with run_process(database_url, project, **(usual | variables)) as process:
            yield process

    return start


def spans_of(receiver: Receiver, answer: httpx.Response) -> dict[str, Span]:
    return {span["name"]: span for span in trace_of(receiver, answer)}


def test_the_entity_is_seen_whole(serve: Any, receiver: Receiver, weather: Weather) -> None:
    """Its span and outgoing call are in the request's trace, its metric on /metrics, its field in the log's line."""
    with serve(log_level="DEBUG") as process:
        with process.client() as alice:
            answer = alice.get("/api/forecasts/Oslo")
            assert (answer.status_code, answer.json()) == (200, {"sky": "rain"})
            spans = spans_of(receiver, answer)
            assert scrape(alice).value("forecasts_total", sky="rain") == 1
        stop(process)
        assert "Oslo" not in process.output()  # httpx itself would log the URL
        (line,) = [entry for entry in entries(process) if entry["logger"] == "app.forecasts"]
    server, call, own = spans["GET /api/forecasts/{city}"], spans["GET"], spans["parse forecast"]
    assert {call["parentSpanId"], own["parentSpanId"]} == {server["spanId"]}
    assert (call["kind"], own["attributes"]) == ("CLIENT", {"forecast.sky": "rain"})
    ((path, traceparent),) = weather.asked
    assert path == "/forecast?city=Oslo"
    assert traceparent.startswith(f"00-{call['traceId']}-{call['spanId']}-")
    assert (line["message"], line["sky"], line["trace_id"]) == ("forecast read", "rain", server["traceId"])
    (sent,) = [line for line in receiver.lines if line["attributes"]["logger"] == "app.forecasts"]
    assert (sent["message"], sent["attributes"]["sky"], sent["traceId"]) == ("forecast read", "rain", server["traceId"])


def test_what_a_client_sent_is_on_no_span(serve: Any, receiver: Receiver, weather: Weather) -> None:
    """The query of an outgoing call and the messages of exceptions are left out; the exception's place stays."""
    with serve() as process:
        weather.answer = b'{"sky": "private sky"}'
        with process.client() as alice:
            answer = alice.get("/api/forecasts/Oslo")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        spans = spans_of(receiver, answer)
        stop(process)
    assert spans["GET"]["attributes"]["url.full"].endswith("/forecast")
    (event,) = spans["parse forecast"]["events"]
    assert set(event["attributes"]) == {"exception.type", "exception.stacktrace", "exception.escaped"}
    assert "app/forecasts.py" in event["attributes"]["exception.stacktrace"]
    assert spans["parse forecast"]["status"] == (2, "ValidationError")
    (warning,) = spans["GET /api/forecasts/{city}"]["events"]
    assert (warning["name"], warning["attributes"]["message"]) == ("log", "the weather service failed")
    assert "app/forecasts.py" in warning["attributes"]["stack"]
    assert b"private sky" not in b"".join(receiver.bodies)


def test_a_service_that_hangs_is_given_up_in_time(serve: Any, weather: Weather) -> None:
    """The call ends with the request's deadline, and the answer says so, and that it may be asked again."""
    with serve(request_deadline_ms=500) as process:
        weather.may_answer.clear()
        with process.client() as alice:
            started = monotonic()
            answer = alice.get("/api/forecasts/Oslo")
            seconds = monotonic() - started
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (answer.json()["code"], answer.json()["spent"]["calls_ms"] > 300) == ("unavailable", True)
    assert 0.3 < seconds < 2
