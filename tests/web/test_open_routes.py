"""No route under /api answers a stranger, however it got there: refused at the start, and when it is asked for."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute, iter_route_contexts
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import Match, Mount, Route, Router
from starlette.types import Scope

from app.auth import CurrentUser
from app.main import create_app
from app.settings import Settings
from app.web.route import ApiRoute, Handler
from app.web.routes import OpenRoute
from tests.support import SECRET, make_token

NOWHERE = Settings(database_url="postgresql://nowhere/nothing", better_auth_secret=SECRET, otel_sdk_disabled=True)
GOOD = {"Authorization": f"Bearer {make_token()}"}


def leaf(path: str, route_class: type[APIRoute], done: list[str]) -> APIRouter:
    """A router of one route, which notes that it was reached."""
    router = APIRouter(route_class=route_class)
    router.add_api_route(path, lambda: done.append(path), methods=["GET"])
    return router


def plain_child(done: list[str]) -> APIRouter:
    parent = APIRouter(prefix="/api/parent", route_class=ApiRoute)
    parent.include_router(leaf("/child", APIRoute, done))
    return parent


def plain_leaf(done: list[str]) -> APIRouter:
    aggregate = APIRouter(prefix="/api/v1")
    aggregate.include_router(leaf("/closed", ApiRoute, done))
    aggregate.include_router(leaf("/leaf", APIRoute, done))
    return aggregate


def two_levels_down(done: list[str]) -> APIRouter:
    middle, top = APIRouter(prefix="/middle"), APIRouter(prefix="/api")
    middle.include_router(leaf("/deep", APIRoute, done), prefix="/far")
    top.include_router(middle)
    return top


def mounted(done: list[str]) -> APIRouter:
    async def answer(_: object) -> PlainTextResponse:
        done.append("mounted")
        return PlainTextResponse("open")

    inner, outer = APIRouter(), APIRouter(prefix="/api")
    inner.routes.append(Mount("/files", app=Router([Route("/one", answer)])))
    outer.include_router(inner)
    return outer


def pattern(done: list[str]) -> APIRouter:
    return leaf("/{tenant}/things", APIRoute, done)


def catch_all(done: list[str]) -> APIRouter:
    return leaf("/{rest:path}", APIRoute, done)


SEEN = {
    plain_child: ("/api/parent/child", "/api/parent/child"),
    plain_leaf: ("/api/v1/leaf", "/api/v1/leaf"),
    two_levels_down: ("/api/middle/far/deep", "/api/middle/far/deep"),
    mounted: ("/api/files", "/api/files/one"),
}
UNSEEN = {pattern: "/api/things", catch_all: "/api/anything/at/all"}

Shape = Callable[[list[str]], APIRouter]


@contextmanager
def running(*routers: APIRouter) -> Iterator[FastAPI]:
    app = create_app(NOWHERE, entities=routers)
    yield app
    for resource in (app.state.workers, app.state.readiness, app.state.database):
        resource.close()


def ask(app: FastAPI, *paths: str, headers: dict[str, str] | None = None) -> list[httpx.Response]:
    async def get() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            return [await client.get(path, headers=headers) for path in paths]

    return asyncio.run(get())


@pytest.mark.parametrize(("shape", "names"), SEEN.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_an_open_route_is_refused_at_the_start(shape: Shape, names: tuple[str, str]) -> None:
    """By its whole path, and with what to do about it."""
    remedy = (
        "move it out of /api" if shape is mounted else "give its router route_class=ApiRoute, or move it out of /api"
    )
    line = f"^{names[0]} would answer without a token: {remedy}.$"
    with pytest.raises(OpenRoute, match=line):
        create_app(NOWHERE, entities=[shape([])])


@pytest.mark.parametrize(("shape", "names"), SEEN.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_one_that_is_included_later_keeps_the_application_from_starting(shape: Shape, names: tuple[str, str]) -> None:
    """`include_router` on what `create_app` returned: nothing at all is answered."""
    with running() as app:
        app.include_router(shape([]))
        with pytest.raises(OpenRoute, match=names[0]):
            ask(app, "/health/live")


@pytest.mark.parametrize("headers", [None, GOOD], ids=["stranger", "user"])
@pytest.mark.parametrize(
    ("shape", "path"),
    [*((shape, names[1]) for shape, names in SEEN.items()), *UNSEEN.items()],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_open_route_is_refused_when_it_is_asked_for(
    shape: Shape, path: str, headers: dict[str, str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the start cannot see it, or it came after the start: 404, it does nothing, and the log names it, once."""
    done: list[str] = []
    with running() as app:
        assert ask(app, "/health/live")[0].status_code == 200
        app.include_router(shape(done))
        answers = ask(app, path, path, headers=headers)
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json()["code"] == "not_found"
    assert done == []
    assert (
        len(
            [
                line
                for line in caplog.messages
                if "is not used for paths under /api: only an ApiRoute asks for the token" in line
            ]
        )
        == 1
    )


class Versioned(ApiRoute):
    """Takes a request by its header, as far as FastAPI is concerned."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if Headers(scope=scope).get("x-version") == "2" else (Match.NONE, {})


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
        except OpenRoute:
            return
    assert {answer.status_code for answer in answers} <= {401, 404}
    assert done == []


def test_a_teams_handler_of_refusals_answers_those_of_the_gate() -> None:
    """A 404 or 401 under /api is answered by it like any other."""
    with running() as app:
        app.add_exception_handler(404, lambda _, __: PlainTextResponse("own", 404))
        assert ask(app, "/api/nothing")[0].text == "own"


def test_outside_of_the_api_they_answer_anyone() -> None:
    """A pattern and a catch-all are a team's own business anywhere else."""
    done: list[str] = []
    with running(pattern(done), catch_all(done)) as app:
        answers = ask(app, "/blue/things", "/apiary", "/API/x", "/x/api/tasks")
    assert [answer.status_code for answer in answers] == [200] * 4
    assert done == ["/{tenant}/things", "/{rest:path}", "/{rest:path}", "/{rest:path}"]


def test_a_closed_route_outside_of_the_api_is_closed() -> None:
    """The class decides, wherever the route is; a mounted application's as well."""
    inner = FastAPI()
    inner.include_router(leaf("/closed", ApiRoute, []))
    with running(leaf("/elsewhere", ApiRoute, [])) as app:
        app.mount("/mounted", inner)
        strangers = ask(app, "/elsewhere", "/mounted/closed")
        users = ask(app, "/elsewhere", "/mounted/closed", headers=GOOD)
    assert [answer.status_code for answer in strangers] == [401, 401]
    assert [answer.status_code for answer in users] == [200, 200]


def test_the_user_can_be_asked_for_anywhere() -> None:
    """`CurrentUser` on a plain route outside of /api asks for the token by itself, and counts the request."""
    router = APIRouter()

    @router.get("/whoami")
    async def whoami(user: CurrentUser) -> str:
        return user.user_id

    with running(router) as app:
        (stranger,), (user,) = ask(app, "/whoami"), ask(app, "/whoami", headers=GOOD)
    assert (stranger.status_code, stranger.json()["code"]) == (401, "token_missing")
    assert (user.json(), "RateLimit" in user.headers) == ("alice", True)


def test_a_websocket_under_the_api_is_refused() -> None:
    """At the start by its path; a pattern's when it is asked for."""
    router, unseen = APIRouter(prefix="/api"), APIRouter()
    router.add_api_websocket_route("/socket", lambda _: None)
    unseen.add_api_websocket_route("/{name}/socket", lambda _: None)
    with pytest.raises(OpenRoute, match=r"^/api/socket "):
        create_app(NOWHERE, entities=[router])
    sent = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/api/socket", "root_path": "", "headers": [], "query_string": b""}
    with running(unseen) as app:
        asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]  # ASGI's types are looser than these
    assert sent == [{"type": "websocket.close", "code": 1008}]


SEGMENTS = st.sampled_from(["", "/api", "/a", "/{x}"])
LEAVES = st.tuples(st.sampled_from(["/", "/api", "/a", "/{x}", "/{rest:path}"]), st.booleans())
TREES = st.recursive(
    LEAVES, lambda below: st.tuples(SEGMENTS, SEGMENTS, st.lists(below, min_size=1, max_size=3)), max_leaves=6
)
NAMES = (f"x{number}" for number in count())
ASKED = ["/api", "/api/", "/api/a", "/api/a/a", "/api/api", "/api/x/a", "/api/a/api/x"]


def grow(tree: tuple, done: list[str]) -> APIRouter:  # type: ignore[type-arg]  # a tree of trees has no finite type
    if len(tree) == 2:
        return leaf(tree[0], ApiRoute if tree[1] else APIRoute, done)
    prefix, included_as, below = tree
    prefix, included_as = (next(NAMES).join(part.split("x")) for part in (prefix, included_as))
    router = APIRouter(prefix=prefix)
    for child in below:
        router.include_router(grow(child, done), prefix=included_as)
    return router


@settings(max_examples=60, deadline=None)
@given(st.lists(TREES, min_size=1, max_size=3), st.booleans())
def test_no_stranger_gets_anything_from_any_tree_of_routers(trees: list[tuple], later: bool) -> None:  # type: ignore[type-arg]  # noqa: FBT001
    """Routers nested at random, with and without the route class, there from the start or added to a running one."""
    done: list[str] = []
    routers = [grow(tree, done) for tree in trees]
    try:
        with running(*([] if later else routers)) as app:
            ask(app, "/health/live")
            for router in routers if later else []:
                app.include_router(router)
            written = [route.path or "" for route in iter_route_contexts(app.routes)]
            paths = [path for path in written if path.startswith("/api") and "{" not in path]
            answers = ask(app, *ASKED, *paths)
    except OpenRoute:
        return
    assert [answer.status_code for answer in answers if answer.status_code not in {401, 404, 405}] == []
    assert done == []
