"""Tutorial: Dependencies, of every shape; Advanced: Advanced Dependencies."""

from functools import partial
from typing import Annotated, Any

from fastapi import BackgroundTasks, Body, Cookie, Depends, Header, HTTPException, Path, Request, Response
from pydantic import BaseModel

from tests.fastapi.case import Routes, note


def note_router() -> None:
    note("router")


routes = Routes("/api/dependencies", dependencies=[Depends(note_router)])
router = routes.router


async def common(q: str | None = None, skip: int = 0) -> dict[str, Any]:
    note("common")
    return {"q": q, "skip": skip}


def common_sync(q: str | None = None, limit: int = 100) -> dict[str, Any]:
    note("common_sync")
    return {"q": q, "limit": limit}


class CommonParams:
    def __init__(self, q: str | None = None, skip: int = 0) -> None:
        self.q, self.skip = q, skip


class Checker:
    def __init__(self, wanted: str) -> None:
        self.wanted = wanted

    def __call__(self, q: str = "") -> bool:
        return self.wanted in q


class AsyncChecker(Checker):
    async def __call__(self, q: str = "") -> bool:  # type: ignore[override]
        note("async checker")
        return self.wanted in q


def shared() -> str:
    note("shared")
    return "shared"


def left(value: Annotated[str, Depends(shared)]) -> str:
    return f"left {value}"


async def right(value: Annotated[str, Depends(shared)]) -> str:
    return f"right {value}"


def greeting(word: str, name: str = "you") -> str:
    return f"{word} {name}"


def query_extractor(q: str | None = None) -> str | None:
    return q


def query_or_cookie(
    q: Annotated[str | None, Depends(query_extractor)], last_query: Annotated[str | None, Cookie()] = None
) -> str | None:
    return q or last_query


async def verify_token(x_token: Annotated[str, Header()]) -> None:
    note("verify_token")
    if x_token != "fake-super-secret-token":
        raise HTTPException(status_code=400, detail="X-Token header invalid", headers={"X-Why": "token"})


def read_everything(item_id: Annotated[int, Path()], q: int = 0, x_tag: Annotated[str, Header()] = "none") -> list[Any]:
    return [item_id, q, x_tag]


class Sent(BaseModel):
    name: str


def read_name(sent: Sent) -> str:
    note("read_name")
    return sent.name


def read_token(token: Annotated[str, Body(embed=True)]) -> str:
    return token


def add_task(background: BackgroundTasks, q: str = "") -> None:
    background.add_task(note, f"later {q}")


def decorate(response: Response) -> None:
    response.headers["X-Dependency"] = "yes"
    response.set_cookie("seen", "once")
    response.status_code = 202


async def remember(request: Request) -> None:
    request.state.remembered = "for the endpoint"


Common = Annotated[dict[str, Any], Depends(common)]


@routes.get("/async")
async def use_async(commons: Common) -> Any:
    return commons


@routes.get("/sync")
async def use_sync(commons: Annotated[dict[str, Any], Depends(common_sync)]) -> Any:
    return commons


@routes.get("/class")
def use_class(commons: Annotated[CommonParams, Depends()]) -> Any:
    return [commons.q, commons.skip]


@routes.get("/instance")
def instance(has: Annotated[bool, Depends(Checker("bar"))], nor: Annotated[bool, Depends(AsyncChecker("foo"))]) -> Any:
    return [has, nor]


@routes.get("/partial")
async def use_partial(said: Annotated[str, Depends(partial(greeting, "hello"))]) -> Any:
    return said


@routes.get("/sub")
async def sub(query: Annotated[str | None, Depends(query_or_cookie)]) -> Any:
    return query


@routes.get("/shared")
def use_shared(one: Annotated[str, Depends(left)], two: Annotated[str, Depends(right)]) -> Any:
    return [one, two]


@routes.get("/uncached")
async def uncached(one: Annotated[str, Depends(shared)], two: Annotated[str, Depends(shared, use_cache=False)]) -> Any:
    return [one, two]


@routes.get("/verified", dependencies=[Depends(verify_token), Depends(shared)])
async def verified() -> Any:
    note("endpoint")
    return "verified"


@routes.get("/everything/{item_id}")
def everything(found: Annotated[list[Any], Depends(read_everything)], item_id: int) -> Any:
    return [*found, item_id]


@routes.get("/quota")
def quota(value: Annotated[str, Depends(shared)], size: int, limit: int = 1) -> Any:
    note("endpoint")
    return [value, size, limit]


@routes.post("/body")
async def body(name: Annotated[str, Depends(read_name)], value: Annotated[str, Depends(shared)]) -> Any:
    return [name, value]


@routes.post("/bodies")
def bodies(token: Annotated[str, Depends(read_token)], item: Annotated[Sent, Body(embed=True)]) -> Any:
    return [token, item]


@routes.get("/background", dependencies=[Depends(add_task)])
async def background(tasks: BackgroundTasks) -> Any:
    tasks.add_task(note, "of the endpoint")
    note("endpoint")
    return "now"


@routes.get("/response", dependencies=[Depends(decorate)])
def response() -> Any:
    return {"decorated": True}


@routes.get("/response-itself", dependencies=[Depends(decorate)])
def response_itself() -> Response:
    return Response("as it is", media_type="text/plain")


@routes.get("/state", dependencies=[Depends(remember)])
def state(request: Request) -> Any:
    return request.state.remembered


TOKEN = {"X-Token": "fake-super-secret-token"}

case = routes.case
CASES = [
    case("a coroutine", "GET /async?q=foo&skip=3"),
    case("a coroutine's parameter at fault", "GET /async?skip=three"),
    case("a function", "GET /sync?limit=5"),
    case("a class", "GET /class?q=x&skip=2"),
    case("instances that are called", "GET /instance?q=foobar"),
    case("a partial", "GET /partial?name=me"),
    case("a dependency of a dependency", "GET /sub", headers={"Cookie": "last_query=old"}),
    case("shared, and run once", "GET /shared"),
    case("not cached, and run twice", "GET /uncached"),
    case("of the operation", "GET /verified", headers=TOKEN),
    case("that refuses", "GET /verified", headers={"X-Token": "wrong"}),
    case("whose parameter is missing", "GET /verified"),
    case("on path, query and header", "GET /everything/5?q=2", headers={"X-Tag": "t"}),
    case("on path, query and header, at fault", "GET /everything/five5?q=two2"),
    case("run once", "GET /quota?size=1"),
    case("run once though a value is wrong", "GET /quota?size=wrong"),
    case("run once though a value is missing", "GET /quota?limit=1"),
    case("on the body", "POST /body", json={"name": "Foo"}),
    case("on a body at fault", "POST /body", json={"nom": "Foo"}),
    case("on part of the body", "POST /bodies", json={"token": "t", "item": {"name": "Foo"}}),
    case("that adds a background task", "GET /background?q=x"),
    case("that sets headers, a cookie and the status", "GET /response"),
    case("that sets them, but the endpoint returns a response", "GET /response-itself"),
    case("that writes into the state", "GET /state"),
]
