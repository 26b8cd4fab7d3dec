"""Endpoints asked without FastAPI's machinery get what FastAPI would give them, and the unusual goes its way."""

from collections.abc import AsyncIterator, Iterator
from threading import current_thread
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Cookie, Depends, Header, Query, Request, Response
from pydantic import BaseModel

from app.auth import CurrentUser
from app.main import create_app
from app.settings import Settings
from app.web.params import Id
from app.web.route import ApiRoute, json
from tests.support import SECRET, UNLIMITED, running, until

router = APIRouter(prefix="/api/things", route_class=ApiRoute)


class Filters(BaseModel):
    colour: str = "any"
    size: int = 1


async def seen(request: Request) -> list[str]:
    """Counts how often it is asked in one request."""
    request.state.times = getattr(request.state, "times", 0) + 1
    return [request.method, str(request.state.times)]


async def again(first: Annotated[list[str], Depends(seen)]) -> str:
    return " ".join(first)


async def closing() -> AsyncIterator[str]:
    yield "opened"


Seen = Annotated[list[str], Depends(seen)]


def said(*parts: object) -> Response:
    return json(b'"%s"' % " ".join(map(str, parts)).encode())


@router.get("/once")
def once(first: Seen, second: Annotated[str, Depends(again)]) -> Response:
    return said(*first, second)


@router.get("/query")
def query(filters: Annotated[Filters, Query()]) -> Response:
    return said(filters.colour, filters.size)


@router.get("/header")
def header(
    x_tag: Annotated[list[str] | None, Header()] = None, x_one: Annotated[str | None, Header()] = None
) -> Response:
    return said(x_tag, x_one)


@router.get("/cookie")
def cookie(taste: Annotated[str, Cookie()]) -> Response:
    return said(taste)


@router.get("/generator")
def generator(opened: Annotated[str, Depends(closing)]) -> Response:
    return said(opened)


@router.get("/background")
def background(tasks: BackgroundTasks, request: Request) -> Response:
    tasks.add_task(done.append, request.method)
    return said("later")


@router.get("/model", response_model=Filters)
def model() -> Any:
    return {"colour": "red", "size": 3, "hidden": True}


@router.get("/thread")
def thread(user: CurrentUser) -> Response:
    return said(user.user_id, current_thread().name.partition("_")[0])


@router.get("/coroutine")
async def coroutine(user: CurrentUser) -> Response:
    return said(user.user_id, current_thread().name.partition("_")[0])


@router.get("/number/{id}")
def number(id: Id, twice: Annotated[int, Query()]) -> Response:
    return said(id * twice)


@router.post("/body/{id}", status_code=201)
def body(id: Id, body: Filters, user: CurrentUser) -> Response:
    return said(id, body.colour, body.size, user.user_id)


@router.post("/optional")
def optional(body: Filters = Filters(colour="none")) -> Response:  # noqa: B008  a constant
    return said(body.colour)


done: list[str] = []


@pytest.fixture
def things(database_url: str) -> Iterator[Any]:
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, **UNLIMITED)
    with (
        running(settings, lambda chosen, draining: create_app(chosen, draining, entities=[router])) as api,
        api.client("alice") as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("once", "GET 1 GET 1"),
        ("query", "any 1"),
        ("query?colour=red&size=7", "red 7"),
        ("header", "None None"),
        ("generator", "opened"),
        ("thread", "alice worker"),
        ("number/21?twice=2", "42"),
    ],
)
def test_an_endpoint_gets_what_it_asks_for(things: Any, path: str, wanted: str) -> None:
    """Each dependency once a request, each part of the request by its type, in a worker thread."""
    answer = things.get(f"/api/things/{path}")
    assert (answer.status_code, answer.json()) == (200, wanted)


def test_a_coroutine_stays_on_the_event_loop(things: Any) -> None:
    """An endpoint that waits for nothing but coroutines needs no thread of ours."""
    assert things.get("/api/things/coroutine").json() != things.get("/api/things/thread").json()


def test_headers_arrive_where_they_are_sent(things: Any) -> None:
    """Several lines of a list, the value of a single one."""
    headers = [("X-Tag", "a"), ("X-Tag", "b"), ("X-One", "c")]
    assert things.get("/api/things/header", headers=headers).json() == "['a', 'b'] c"


def test_cookies_background_tasks_and_models_are_fastapis(things: Any) -> None:
    """What is not gathered here works as FastAPI has it."""
    assert things.get("/api/things/cookie", headers={"Cookie": "taste=sweet"}).json() == "sweet"
    assert things.get("/api/things/background").json() == "later"
    until(lambda: done == ["GET"])
    assert things.get("/api/things/model").json() == {"colour": "red", "size": 3}


def test_bodies_are_validated_or_default(things: Any) -> None:
    """A body by its model, the default where none was sent, an error where one is needed."""
    sent = things.post("/api/things/body/5", json={"colour": "red"})
    assert (sent.status_code, sent.json()) == (200, "5 red 1 alice")
    assert things.post("/api/things/optional").json() == "none"
    assert things.post("/api/things/optional", json={"colour": "blue"}).json() == "blue"
    assert things.post("/api/things/body/5").status_code == 422
    assert things.post("/api/things/body/5", json={"size": "x"}).json()["errors"][0]["pointer"] == "/size"


@pytest.mark.parametrize("path", ["query?size=x", "number/21", "number/21?twice=x", "cookie"])
def test_what_is_missing_or_wrong_is_named(things: Any, path: str) -> None:
    """The error is the one of every other route."""
    answer = things.get(f"/api/things/{path}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
