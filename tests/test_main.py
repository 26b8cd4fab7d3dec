"""One application, and two of them in one process."""

from collections.abc import Callable
from threading import Event

import httpx
from fastapi import APIRouter, FastAPI, Request
from fastapi.testclient import TestClient

from app.auth import CurrentUser
from app.main import create_app
from app.record import current
from app.settings import Settings
from app.web.route import ApiRoute
from tests.support import ORIGIN, SECRET, UNLIMITED, make_token, run_api


def test_two_applications_do_not_disturb_each_other(new_database: Callable[[], str]) -> None:
    """Each has its own database, secret, origins and limits, and the end of one is not the end of the other."""
    other_secret = "another-secret-that-is-long-enough"
    first = Settings(database_url=new_database(), better_auth_secret=SECRET, rate_limit="3/hour")
    second = Settings(database_url=new_database(), better_auth_secret=other_secret, cors_origins=(ORIGIN,), **UNLIMITED)
    with run_api(second) as api:
        token = make_token(key=other_secret)
        with run_api(first) as short_lived, short_lived.client() as client:
            assert client.post("/api/examples", json={"title": "only here"}).status_code == 201
            assert ask(api.url, token).json() == []
            assert ask(api.url, make_token()).status_code == 401
            assert ask(short_lived.url, token).status_code == 401
            assert "access-control-allow-origin" not in ask(short_lived.url, make_token()).headers
            assert [client.get("/api/examples").status_code for _ in range(2)] == [200, 429]
        answers = [ask(api.url, token) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200}
        assert answers[0].headers["access-control-allow-origin"] == ORIGIN


def ask(url: str, token: str) -> httpx.Response:
    return httpx.get(f"{url}/api/examples", headers={"Authorization": f"Bearer {token}", "Origin": ORIGIN})


async def other_user(request: Request, user: CurrentUser) -> list[str]:
    """Ask another application of this process, as another user, and say who asks here before and afterwards."""
    transport = httpx.ASGITransport(request.app.state.other)
    async with httpx.AsyncClient(transport=transport, base_url="http://other") as client:
        answer = await client.get("/api/who", headers={"Authorization": f"Bearer {make_token('bob')}"})
    return [user.user_id, answer.json(), current().principal.user_id, str(current().app is request.app)]


async def who(user: CurrentUser) -> str:
    return user.user_id


def test_a_call_to_another_application_is_another_request(new_database: Callable[[], str]) -> None:
    """In the same example: afterwards the first request has its own user, database and deadline again."""
    router = APIRouter(prefix="/api", route_class=ApiRoute)
    router.add_api_route("/other", other_user)
    router.add_api_route("/who", who)
    settings = Settings(database_url=new_database(), better_auth_secret=SECRET, **UNLIMITED)

    def create(chosen: Settings, draining: Event) -> FastAPI:
        app = create_app(chosen, draining, entities=[router])
        app.state.other = create_app(settings, entities=[router])
        return app

    with run_api(settings, create) as api, api.client("alice") as client:
        assert client.get("/api/other").json() == ["alice", "bob", "alice", "True"]


def test_an_application_can_be_started_again(new_database: Callable[[], str]) -> None:
    """As tests do that share one: each `with` is a start, and each end an end."""
    app = create_app(Settings(database_url=new_database(), better_auth_secret=SECRET, **UNLIMITED))
    for _ in range(3):
        with TestClient(app, headers={"Authorization": f"Bearer {make_token()}"}) as client:
            assert client.get("/api/examples").status_code == 200
            assert client.get("/health").json() == {"status": "healthy"}
