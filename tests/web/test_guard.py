"""The outermost layer: whatever happens inside, a client gets an answer and may ask again."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from threading import Event

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import PlainTextResponse
from starlette.routing import Match
from starlette.types import Scope

from app.main import create_app
from app.settings import Settings
from app.web.route import ApiRoute
from tests.support import SECRET, Api, make_token, run_api, run_sql
from tests.web.cases import AUTH, JSON
from tests.web.raw import connect, receive, request, send

BODY = b'{"title": "in pieces"}'


def test_an_unexpected_error_ends_nothing(api: Api, database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is a 500 that tells nothing, logged with its stack, and the next request on its connection is served."""
    run_sql(database_url, "ALTER TABLE example DROP COLUMN description")
    with connect(api.port) as connection:
        send(connection, request("GET", "/api/examples", AUTH), token=make_token())
        answer = receive(connection)
        send(connection, request("GET", "/health/live"))
        assert receive(connection).status == 200
    assert (answer.status, answer.media_type) == (500, "application/problem+json")
    assert (answer.json()["title"], answer.json()["code"]) == ("Internal Server Error", "internal_error")
    assert answer.json()["detail"] == "The server met an error it did not expect."
    for word in (b"column", b"psycopg", b"SELECT", b"Traceback", b"sqlalche"):
        assert word not in answer.body
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info
    assert "UndefinedColumn" in str(record.exc_info[1])


class Unmatchable(ApiRoute):
    """Fails while a layer outside of every route asks which route it is."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        raise LookupError(scope["type"])


def test_an_error_between_the_layers_is_answered_like_any_other(caplog: pytest.LogCaptureFixture) -> None:
    """Not by the framework in plain text; it is logged with its stack, once."""
    router = APIRouter(prefix="/api", route_class=Unmatchable)
    router.get("/ask")(lambda: None)
    settings = Settings(database_url="postgresql://nowhere/d", better_auth_secret=SECRET, otel_sdk_disabled=True)
    with run_api(settings, partial(create_app, entities=[router])) as api, api.client() as client:
        answer = client.get("/api/ask")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["code"] == "internal_error"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info
    assert isinstance(record.exc_info[1], LookupError)


@pytest.mark.parametrize("raised", [500, Exception])
def test_a_handler_of_a_teams_own_answers_what_nobody_caught(raised: int | type[Exception]) -> None:
    """As FastAPI would let it, whether it is a coroutine or blocks; what it fails at itself is a 500 like any other."""
    router = APIRouter(prefix="/api", route_class=ApiRoute)

    @router.get("/fail/{name}")
    def fail(name: str) -> None:
        raise LookupError(name)

    def handle(request: Request, error: Exception) -> PlainTextResponse:
        if "twice" in request.url.path:
            raise error
        return PlainTextResponse(f"own: {type(error).__name__}", 500)

    def create(settings: Settings, draining: Event) -> FastAPI:
        app = create_app(settings, draining, entities=[router])
        app.add_exception_handler(raised, handle)
        return app

    settings = Settings(database_url="postgresql://nowhere/d", better_auth_secret=SECRET)
    with run_api(settings, create) as api, api.client() as client:
        answer, second = client.get("/api/fail/once"), client.get("/api/fail/twice")
    assert (answer.status_code, answer.text) == (500, "own: LookupError")
    assert (second.status_code, second.json()["code"]) == (500, "internal_error")


def test_a_body_may_come_in_pieces(api: Api) -> None:
    """As long as it arrives in time, however it is cut."""
    with connect(api.port) as connection:
        send(
            connection, request("POST", "/api/examples", AUTH, JSON, f"Content-Length: {len(BODY)}"), token=make_token()
        )
        for byte in BODY:
            send(connection, bytes([byte]))
        assert receive(connection).json()["title"] == "in pieces"


def test_a_client_that_leaves_early_leaves_no_trace(
    serve: Callable[..., AbstractContextManager[Api]], caplog: pytest.LogCaptureFixture
) -> None:
    """Half a body and then nobody there: nothing is created, nothing logged as an error, the next one is served."""
    with serve() as api:
        with connect(api.port) as connection:
            send(
                connection,
                request("POST", "/api/examples", AUTH, JSON, "Content-Length: 1000") + BODY,
                token=make_token(),
            )
        with api.client() as client:
            assert client.get("/api/examples").json() == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
