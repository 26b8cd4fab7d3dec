"""The application without a server: with TestClient and with httpx's ASGITransport."""

import asyncio
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute

from app.main import create_app
from app.settings import Settings
from app.web.route import ApiRoute
from tests.support import make_token

with warnings.catch_warnings():  # it warns that it would rather have httpx2
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

TOKEN = {"Authorization": f"Bearer {make_token()}"}


def original() -> str:
    return "original"


def things(route_class: type[APIRoute]) -> APIRouter:
    router = APIRouter(prefix="/api/things", route_class=route_class)

    @router.get("/broken")
    def broken() -> None:
        raise ValueError("patient-4711")

    @router.get("/{id}")
    def thing(id: int, value: str = Depends(original)) -> Any:
        return {"id": id, "value": value}

    @router.get("")
    async def state(request: Request) -> Any:
        return getattr(request.app.state, "shared", None)

    return router


def plain() -> Any:
    app = FastAPI()
    app.include_router(things(APIRoute))
    return app


def template(settings: Settings) -> Any:
    return create_app(settings, entities=[things(ApiRoute)])


@contextmanager
def clients(settings: Settings) -> Iterator[dict[str, Any]]:
    """Open a TestClient of each application. The lifespan runs until the block ends."""
    with TestClient(plain(), headers=TOKEN) as one, TestClient(template(settings), headers=TOKEN) as two:
        yield {"plain": one, "template": two}


def test_a_test_client_asks_the_template_as_any_application(diff_settings: Settings) -> None:
    """The answer is the same, and has the headers of an answer over HTTP."""
    with clients(diff_settings) as both:
        answers = [client.get("/api/things/7") for client in both.values()]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"id": 7, "value": "original"})] * 2
    assert answers[1].headers["x-content-type-options"] == "nosniff"


def test_an_unexpected_exception_is_an_answer_to_a_test_client(diff_settings: Settings) -> None:
    """Plain FastAPI raises it in the test. Here the test gets the answer that a client would get."""
    with clients(diff_settings) as both:
        with pytest.raises(ValueError, match="patient-4711"):
            both["plain"].get("/api/things/broken")
        answer = both["template"].get("/api/things/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "patient" not in answer.text


def test_overrides_and_state_are_of_one_application(diff_settings: Settings) -> None:
    """What a test sets on one application does not change another in the same process, and can be undone."""
    one, two = template(diff_settings), template(diff_settings)
    one.dependency_overrides[original], one.state.shared = lambda: "replaced", "of the first"
    with TestClient(one, headers=TOKEN) as first, TestClient(two, headers=TOKEN) as second:
        assert [client.get("/api/things/7").json()["value"] for client in (first, second)] == ["replaced", "original"]
        assert [client.get("/api/things").json() for client in (first, second)] == ["of the first", None]
        one.dependency_overrides.clear()
        assert first.get("/api/things/7").json()["value"] == "original"


def test_a_handler_of_a_team_takes_the_place_of_ours(diff_settings: Settings) -> None:
    """A handler that FastAPI's documentation shows makes plain text of validation errors."""

    async def in_words(_: Request, error: Exception) -> PlainTextResponse:
        assert isinstance(error, RequestValidationError)
        return PlainTextResponse(f"wrong: {error.errors()[0]['loc']}", 400)

    found = []
    for app in (plain(), template(diff_settings)):
        app.exception_handler(RequestValidationError)(in_words)
        with TestClient(app, headers=TOKEN) as client:
            answer = client.get("/api/things/seventh")
            found.append((answer.status_code, answer.text))
    assert found == [(400, "wrong: ('path', 'id')")] * 2


def test_httpx_asks_it_without_a_server(diff_settings: Settings) -> None:
    """ASGITransport works as FastAPI documents it for asynchronous tests."""

    async def get_thing(app: Any) -> Any:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test", headers=TOKEN) as client,
        ):
            return (await client.get("/api/things/7")).json()

    answers = [asyncio.run(get_thing(app)) for app in (plain(), template(diff_settings))]
    assert answers == [{"id": 7, "value": "original"}] * 2


def test_the_template_is_fastapi(diff_settings: Settings) -> None:
    """What `create_app` returns is an instance of FastAPI's class, whose document has every path."""
    app = template(diff_settings)
    assert isinstance(app, FastAPI)
    assert set(plain().openapi()["paths"]) <= set(app.openapi()["paths"])


def test_settings_come_from_the_environment(diff_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """create_app() without arguments reads them: `uvicorn --factory app.main:create_app` and `fastapi dev` work."""
    assert diff_settings.database_url
    assert diff_settings.better_auth_secret
    monkeypatch.setenv("DATABASE_URL", diff_settings.database_url.get_secret_value())
    monkeypatch.setenv("BETTER_AUTH_SECRET", diff_settings.better_auth_secret.get_secret_value())
    create: Any = create_app
    with TestClient(create()) as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/api/examples?limit=1", headers=TOKEN).json() == []
