"""The gate asks for the token whatever FastAPI will choose: routes may be changed, or choose for themselves."""

from collections.abc import Callable

import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from app.web.gate import RefusedRoute
from app.web.route import ApiRoute, Handler
from tests.web.open_routes import GOOD, ask, catch_all, leaf, running


class Versioned(ApiRoute):
    """Takes a request by its header, as far as FastAPI is concerned."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if Headers(scope=scope).get("x-version") == "2" else (Match.NONE, {})


class Second(ApiRoute):
    """Takes a request by its query string."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if b"v=2" in scope["query_string"] else (Match.NONE, {})


class Tenants(ApiRoute):
    """Takes a request by what a middleware has found out."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if "tenant" in scope else (Match.NONE, {})


class FindTenant:
    """A middleware of a team's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "tenant": "acme"}, receive, send)


class Cached(ApiRoute):
    """Answers out of what it kept, as a route class of a team's may."""

    kept: str = "kept"

    def get_route_handler(self) -> Handler:
        async def answer(_: Request) -> Response:
            return PlainTextResponse(self.kept)

        super().get_route_handler()
        return answer


def spoil_order(app: FastAPI, done: list[str]) -> None:
    app.router.routes.insert(0, leaf("/{rest:path}", APIRoute, done).routes[0])


def spoil_route(app: FastAPI, done: list[str]) -> None:
    app.router.routes[0] = APIRoute("/api/closed", lambda: done.append("replaced"))


def spoil_match(app: FastAPI, done: list[str]) -> None:
    app.router.routes.clear()
    app.include_router(leaf("/api/closed", Versioned, []))
    app.include_router(catch_all(done))


def spoil_root(app: FastAPI, done: list[str]) -> None:
    app.include_router(catch_all(done))
    app.root_path = "/ap"


def spoil_handler(app: FastAPI, _: list[str]) -> None:
    app.router.routes[:0] = leaf("/api/closed", Cached, []).routes


@pytest.mark.parametrize("spoil", [spoil_order, spoil_route, spoil_match, spoil_root, spoil_handler])
@pytest.mark.parametrize("late", [False, True], ids=["before the start", "after it"])
def test_whatever_is_done_to_the_routes_no_stranger_gets_further(
    spoil: Callable[[FastAPI, list[str]], None],
    late: bool,  # noqa: FBT001
) -> None:
    """The token is asked for before FastAPI looks for a route: its choice may be another one than the gate's."""
    done: list[str] = []
    with running(leaf("/api/closed", ApiRoute, done)) as app:
        if late:
            ask(app, "/health/live")
        spoil(app, done)
        try:
            answers = ask(app, "/api/closed", "/api/other")
        except RefusedRoute:
            return
    assert {answer.status_code for answer in answers} <= {401, 404}
    assert done == []


@pytest.mark.parametrize("route_class", [Versioned, Second, Tenants])
def test_a_route_chooses_by_what_it_likes(route_class: type[ApiRoute]) -> None:
    """By what a middleware added too, though the instrumentations ask for the route before any has run."""
    router = APIRouter(route_class=route_class)
    router.add_api_route("/api/closed", lambda v: v)
    with running(router) as app:
        app.add_middleware(FindTenant)
        (answer,) = ask(app, "/api/closed?v=2", headers=GOOD | {"x-version": "2"})
        (refused,) = ask(app, "/api/closed?v=2", headers={"x-version": "2"})
    assert (answer.status_code, answer.json(), refused.status_code) == (200, "2", 401)


def test_an_open_route_is_not_used_where_a_closed_one_steps_aside() -> None:
    """By the query string, which the instrumentations do not see."""

    class First(ApiRoute):
        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            return (Match.NONE, {}) if b"v=2" in scope["query_string"] else super().matches(scope)

    done: list[str] = []
    with running(leaf("/api/closed", First, done)) as app:
        app.include_router(catch_all(done))
        first, second = ask(app, "/api/closed", "/api/closed?v=2", headers=GOOD)
    assert (first.status_code, second.status_code, done) == (200, 404, ["/api/closed"])


def test_the_router_of_another_application_finds_its_own_routes() -> None:
    """Mounted without a prefix, where the path is the same."""
    done: list[str] = []
    with running() as app, running(leaf("/own", APIRoute, done)) as other:
        app.mount("", other.router)
        (answer,) = ask(app, "/own")
    assert (answer.status_code, done) == (200, ["/own"])


def test_a_teams_handler_of_refusals_answers_those_of_the_gate() -> None:
    """A 404 or 401 under /api is answered by it like any other."""
    with running() as app:
        app.add_exception_handler(404, lambda _, __: PlainTextResponse("own", 404))
        assert ask(app, "/api/nothing")[0].text == "own"
