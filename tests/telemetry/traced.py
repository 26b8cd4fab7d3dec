"""An app whose requests are traced, in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import httpx
import uvicorn
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import format_trace_id
from starlette.types import ASGIApp, Receive, Scope, Send

from app.main import create_app
from app.settings import Settings
from tests.support import SECRET, make_token

UNLIMITED: dict[str, Any] = {"rate_limit": "1000000/minute", "rate_limit_unauthenticated": "1000000/minute"}


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
    settings = Settings(**{"database_url": database_url, "better_auth_secret": SECRET} | UNLIMITED)
    app = Traced(create_app(settings), sampler)
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
