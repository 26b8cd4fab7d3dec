"""What a team adds to the application: handlers, routers in an order, streams: each once went wrong."""

import asyncio
import warnings
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from app.auth import CurrentUser
from app.main import create_app
from app.settings import Settings
from app.web.gate import RefusedRoute
from app.web.guard import MAX_BODY_BYTES
from app.web.route import ApiRoute
from tests.support import SECRET, UNLIMITED, Api, make_token, run_api
from tests.telemetry.scrapes import scrape
from tests.web.cases import AUTH
from tests.web.raw import connect, receive, request, send
from tests.web.team import NO_DATABASE, api_router, call_routers


def test_an_application_with_an_open_route_does_not_start() -> None:
    """A test client is told so, and does not wait."""
    app = create_app(NO_DATABASE, entities=())
    app.get("/api/open")(lambda: None)
    with pytest.raises(RefusedRoute, match="/api/open would answer without a token"), TestClient(app):
        pass


def test_a_mounted_application_answers_within_the_limits() -> None:
    """Outside of /api; a larger body is a 413 before it sees any of it, and a catch-all of its own changes nothing."""
    inner = FastAPI()

    @inner.post("/{rest:path}")
    async def take(request: Request) -> int:
        return len(await request.body())

    async def act(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [
            await client.post("/inner/api/examples", content=b"x" * size)
            for size in (MAX_BODY_BYTES, MAX_BODY_BYTES + 1)
        ]

    taken, refused = call_routers(act=act, prepare=lambda app: app.mount("/inner", inner))
    assert (taken.status_code, taken.json()) == (200, MAX_BODY_BYTES)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


def test_a_mounted_application_that_fails_is_told_as_such(caplog: pytest.LogCaptureFixture) -> None:
    """It answers for itself and raises afterwards: that is an error of the endpoint, and no work after the answer."""
    inner = FastAPI()
    inner.get("/fails")(lambda: 1 / 0)
    answer = call_routers(act=lambda client: client.get("/inner/fails"), prepare=lambda app: app.mount("/inner", inner))
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    told = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]
    assert told == ["unexpected error: ZeroDivisionError"]


def test_handlers_of_events_run() -> None:
    """Those of the application, though it has a lifespan of its own."""
    app, ran = create_app(NO_DATABASE, entities=()), list[str]()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        app.on_event("startup")(lambda: ran.append("startup"))
        app.on_event("shutdown")(lambda: ran.append("shutdown"))
    with TestClient(app):
        assert ran == ["startup"]
    assert ran == ["startup", "shutdown"]


def test_entities_keep_their_order() -> None:
    """A router of other things before one with a pattern comes before it."""
    special, things = APIRouter(prefix="/api/things"), api_router()
    inner = APIRouter(route_class=ApiRoute)
    inner.add_api_route("/special", lambda: "special")
    special.include_router(inner)
    things.add_api_route("/things/{name}", lambda name: f"named {name}")
    assert call_routers(special, things, act=lambda client: client.get("/api/things/special")).json() == "special"
    assert call_routers(things, special, act=lambda client: client.get("/api/things/other")).json() == "named other"


def test_the_head_of_a_stream_ends(database_url: str) -> None:
    """HEAD of an answer without an end leaves the connection to the next request, and nothing behind."""
    router, closed = api_router(), list[str]()

    @router.get("/endless")
    async def endless(_: CurrentUser) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            try:
                while True:
                    yield "line\n"
                    await asyncio.sleep(0.01)
            finally:
                closed.append("closed")

        return StreamingResponse(lines())

    settings = Settings(database_url=database_url, better_auth_secret=SECRET, **UNLIMITED)
    with run_api(settings, lambda chosen, draining: create_app(chosen, draining, entities=[router])) as api:
        assert heads(api) == [200, 200]
        with api.client() as client:
            assert scrape(client).value("http_requests_in_progress") == 0
    assert closed == ["closed"]


def heads(api: Api) -> list[int]:
    with connect(api.port) as connection:
        send(connection, request("HEAD", "/api/endless", AUTH), token=make_token())
        first = receive(connection, "HEAD")
        send(connection, request("GET", "/health/live"))
        return [first.status, receive(connection).status]
