"""Server-sent events: they end when the process begins to leave, and are no slow requests."""

import asyncio
import socket
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import ExitStack
from functools import partial
from threading import Event
from time import monotonic
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse
from starlette.middleware.base import RequestResponseEndpoint

from app.main import create_app
from app.settings import Settings
from app.web.route import ApiRoute
from tests.support import SECRET, UNLIMITED, Api, run_api, wait_until
from tests.telemetry.scrapes import scrape

PATHS = ("/api/events", "/api/events-of-a-generator", "/api/response", "/events")

closed: list[str] = []
router = APIRouter(prefix="/api", route_class=ApiRoute)
open_router = APIRouter()


@router.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncIterable[str]:
    async for event in endless("/api/events"):
        yield event


@router.get("/events-of-a-generator", response_class=EventSourceResponse)
def events_of_a_generator() -> Iterable[str]:
    while True:
        yield "event"
        time.sleep(0.05)


@router.get("/response")
async def response() -> StreamingResponse:
    return StreamingResponse(endless("/api/response"), media_type="text/event-stream")


@open_router.get("/events", response_class=EventSourceResponse)
async def open_events() -> AsyncIterable[str]:
    async for event in endless("/events"):
        yield event


@open_router.get("/flood")
async def flood() -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        try:
            while True:
                yield f"data: {'x' * 100_000}\n\n"
                await asyncio.sleep(0)
        finally:
            closed.append("/flood")

    return StreamingResponse(events(), media_type="text/event-stream")


async def endless(path: str) -> AsyncIterator[str]:
    try:
        yield "data: event\n\n"
        await asyncio.Event().wait()
    finally:
        closed.append(path)


@router.get("/download")
async def download() -> StreamingResponse:
    async def parts() -> AsyncIterator[str]:
        yield "first "
        await asyncio.to_thread(finish.wait)
        yield "last"

    return StreamingResponse(parts(), media_type="text/plain")


finish = Event()


class Streaming:
    """An application that is told to leave by `draining`."""

    def __init__(self, *layers: Any) -> None:
        self.draining, self._layers = Event(), layers

    def create(self, settings: Settings, draining: Event) -> FastAPI:
        self.draining = draining
        app = create_app(settings, draining, entities=[router, open_router])
        for layer in self._layers:
            app.middleware("http")(layer)
        return app


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


def begin(stack: ExitStack, client: httpx.Client, path: str) -> Any:
    """Return what is read of a stream whose first part has come."""
    answer = stack.enter_context(client.stream("GET", path))
    assert answer.status_code == 200
    parts = answer.iter_text()
    assert next(parts)
    return parts


def read_to_the_end(parts: Any) -> None:
    """Read a stream that ends within 2 s."""
    started = monotonic()
    for _ in parts:
        assert monotonic() - started < 2


def counted(api: Api, metric: str, **labels: str) -> float | None:
    with api.client() as client:
        return scrape(client).value(metric, **labels)


@pytest.mark.parametrize("layers", [(), (pass_on,)], ids=["alone", "with a team's middleware"])
def test_event_streams_end_when_the_process_begins_to_leave(
    database_url: str, caplog: pytest.LogCaptureFixture, layers: Any
) -> None:
    """Whoever serves them: the client sees the end, the endpoint cleans up; a download is finished."""
    caplog.set_level("INFO")
    closed.clear()
    finish.clear()
    streaming = Streaming(*layers)
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, **UNLIMITED)
    with ExitStack() as stack:
        api = stack.enter_context(run_api(settings, streaming.create))
        client = stack.enter_context(api.client())
        streams = {path: begin(stack, client, path) for path in PATHS}
        downloaded = begin(stack, client, "/api/download")
        assert [counted(api, "http_streams_open", handler=path) for path in PATHS] == [1] * len(PATHS)
        assert counted(api, "http_requests_in_progress") == 0
        streaming.draining.set()
        started = monotonic()
        for parts in streams.values():
            read_to_the_end(parts)
        read_to_the_end(begin(stack, client, "/api/events"))
        wait_until(lambda: sorted(closed) == sorted(["/api/events", "/api/events", "/api/response", "/events"]))
        assert monotonic() - started < 2
        finish.set()
        assert list(downloaded) == ["last"]
        wait_until(lambda: counted(api, "http_stream_duration_seconds_count", handler="/api/events") == 2)
        assert [counted(api, "http_streams_open", handler=path) for path in PATHS] == [0] * len(PATHS)
        of = {"method": "GET", "handler": "/api/events"}
        assert counted(api, "http_requests_total", status="200", **of) == 2
        assert counted(api, "http_request_duration_seconds_count", **of) == 0
        stack.pop_all().close()
    told = [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
    assert not [record for record in told if record.name != "app.telemetry.event_loop"]  # a busy machine is slow


def test_a_client_that_does_not_read_does_not_hold_the_shutdown(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its stream cannot be ended with words, so its connection is."""
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, **UNLIMITED)
    with socket.socket() as deaf:
        with run_api(settings, partial(create_app, entities=[open_router])) as api, api.client(None) as client:
            deaf.connect(("127.0.0.1", api.port))
            deaf.sendall(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: scrape(client).value("http_streams_open", handler="/flood") == 1)
            time.sleep(0.5)  # until nothing more fits between the two
            began = monotonic()
        assert monotonic() - began < 4
    assert "/flood" in closed
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_open_event_streams_do_not_hold_the_shutdown(database_url: str) -> None:
    """It takes less than 2 s, and the client sees the end of the stream."""
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, **UNLIMITED)
    streaming = Streaming()
    with ExitStack() as stack:
        running = ExitStack()
        api = running.enter_context(run_api(settings, streaming.create))
        client = stack.enter_context(api.client())
        parts = begin(stack, client, "/api/events")
        started = monotonic()
        running.close()
        assert monotonic() - started < 2
        assert list(parts) == []
