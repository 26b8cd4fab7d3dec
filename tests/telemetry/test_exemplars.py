"""From a number to the trace behind it."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import httpx
import uvicorn
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import format_trace_id
from starlette.types import ASGIApp, Receive, Scope, Send

from app.main import create_app
from app.settings import Settings
from tests.support import SECRET, make_token
from tests.telemetry.scrapes import OPENMETRICS, parse, scrape


class Traced:
    """Makes a span of each request."""

    def __init__(self, app: ASGIApp, sampler: Sampler) -> None:
        self._app, self.traces = app, set[str]()
        self._tracer = TracerProvider(sampler, shutdown_on_exit=False).get_tracer("test")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._tracer.start_as_current_span(scope["type"]) as span:
            self.traces.add(format_trace_id(span.get_span_context().trace_id))
            await self._app(scope, receive, send)


@contextmanager
def traced(database_url: str, sampler: Sampler) -> Iterator[tuple[httpx.Client, set[str]]]:
    """Serve an app whose requests are traced; return a client and what traces there were."""
    app = Traced(create_app(Settings(database_url=database_url, better_auth_secret=SECRET)), sampler)
    started = Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: object = None) -> None:
            await super().startup(sockets)  # type: ignore[arg-type]
            started.set()

    server = Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(10)
        port = server.servers[0].sockets[0].getsockname()[1]
        headers = {"Authorization": f"Bearer {make_token()}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            yield client, app.traces
    finally:
        server.should_exit = True
        thread.join(10)


def test_times_lead_to_traces(database_url: str) -> None:
    """Requests, statements and waits of a sampled trace carry its id, as OpenMetrics alone can say."""
    with traced(database_url, ALWAYS_ON) as (client, traces):
        client.get("/api/tasks")
        exemplars = {s.name: s.exemplar.labels for s in scrape(client).samples if s.exemplar}
        plain = client.get("/metrics")
    assert exemplars.keys() == {
        "http_request_duration_seconds_bucket",
        "db_client_operation_duration_seconds_bucket",
        "db_client_connection_wait_seconds_bucket",
    }
    assert all(labels.keys() == {"trace_id"} and labels["trace_id"] in traces for labels in exemplars.values())
    assert parse(plain)
    assert "trace_id" not in plain.text


def test_what_is_not_sampled_is_no_exemplar(database_url: str) -> None:
    """Nothing leads to a trace that nobody kept."""
    with traced(database_url, ALWAYS_OFF) as (client, _):
        client.get("/api/tasks")
        assert "trace_id" not in client.get("/metrics", headers=OPENMETRICS).text
