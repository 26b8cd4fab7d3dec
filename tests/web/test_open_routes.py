"""No route under /api answers a stranger, however it got there: refused at the start, and when it is asked for."""

import asyncio
from collections.abc import Callable
from itertools import count

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, Router

from app.auth import CurrentUser
from app.main import create_app
from app.web.gate import RefusedRoute
from app.web.route import ApiRoute
from tests.web.open_routes import GOOD, NOWHERE, ask, catch_all, leaf, running


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


SEEN = {
    plain_child: ("/api/parent/child", "/api/parent/child"),
    plain_leaf: ("/api/v1/leaf", "/api/v1/leaf"),
    two_levels_down: ("/api/middle/far/deep", "/api/middle/far/deep"),
    mounted: ("/api/files", "/api/files/one"),
}
UNSEEN = {pattern: "/api/things", catch_all: "/api/anything/at/all"}

Shape = Callable[[list[str]], APIRouter]


@pytest.mark.parametrize(("shape", "names"), SEEN.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_an_open_route_is_refused_at_the_start(shape: Shape, names: tuple[str, str]) -> None:
    """By its whole path, and with what to do about it."""
    remedy = (
        "move it out of /api" if shape is mounted else "give its router route_class=ApiRoute, or move it out of /api"
    )
    line = f"^{names[0]} would answer without a token: {remedy}.$"
    with pytest.raises(RefusedRoute, match=line):
        create_app(NOWHERE, entities=[shape([])])


@pytest.mark.parametrize(("shape", "names"), SEEN.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_one_that_is_included_later_keeps_the_application_from_starting(shape: Shape, names: tuple[str, str]) -> None:
    """`include_router` on what `create_app` returned: nothing at all is answered."""
    with running() as app:
        app.include_router(shape([]))
        with pytest.raises(RefusedRoute, match=names[0]):
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


def test_outside_of_the_api_they_answer_anyone() -> None:
    """A pattern and a catch-all are a team's own business anywhere else."""
    done: list[str] = []
    with running(pattern(done), catch_all(done)) as app:
        answers = ask(app, "/blue/things", "/apiary", "/API/x", "/x/api/examples")
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


def test_the_document_says_which_routes_are_closed() -> None:
    """An ApiRoute is, whether its endpoint takes the user or not; another route is, if it takes the user."""
    router = APIRouter()

    @router.get("/whoami")
    async def whoami(user: CurrentUser) -> str:
        return user.user_id

    routers = [leaf("/api/leaf", ApiRoute, []), leaf("/elsewhere", ApiRoute, []), leaf("/open", APIRoute, []), router]
    paths = create_app(NOWHERE, entities=routers).openapi()["paths"]
    told = {
        path: ("security" in paths[path]["get"], {"401", "429"} <= paths[path]["get"]["responses"].keys())
        for path in paths
    }
    closed = {path for path, said in told.items() if said == (True, True)}
    assert closed == {"/api/leaf", "/elsewhere", "/whoami"}
    assert {said for path, said in told.items() if path not in closed} == {(False, False)}


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


@pytest.mark.parametrize("prefix", ["/api", "/feed"])
def test_a_websocket_is_refused_at_the_start(prefix: str) -> None:
    """By its whole path, wherever it is, and by a server that finds it only when it starts as well."""
    router, outer = APIRouter(), APIRouter(prefix=prefix)
    router.add_api_websocket_route("/socket", lambda _: None)
    outer.include_router(router)
    line = rf"^{prefix}/socket is a WebSocket route, which is not served: leave it to another application\.$"
    with pytest.raises(RefusedRoute, match=line):
        create_app(NOWHERE, entities=[outer])
    with running() as app:
        app.include_router(outer)
        with pytest.raises(RefusedRoute, match=line), TestClient(app):
            pass


def test_a_websocket_under_the_api_is_refused_when_it_is_asked_for() -> None:
    """One that came after the start."""
    late, sent = APIRouter(), []
    late.add_api_websocket_route("/{name}/socket", lambda _: None)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/api/socket", "root_path": "", "headers": [], "query_string": b""}
    with running() as app:
        ask(app, "/health/live")
        app.include_router(late)
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
    except RefusedRoute:
        return
    assert [answer.status_code for answer in answers if answer.status_code not in {401, 404, 405}] == []
    assert done == []
