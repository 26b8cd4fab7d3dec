"""Models derived from `app.web.body.Body`, in every place where FastAPI accepts a model."""

from typing import Annotated, Any

from fastapi import Body as FastAPIBody
from fastapi import Depends, Request
from pydantic import Field

from app.web.body import Body
from tests.fastapi.case import Routes, note

routes = Routes("/api/strict")
router = routes.router


class Strict(Body):
    size: int
    tags: list[str] = Field(default_factory=list)


class Other(Body):
    name: str


def read_size(body: Strict) -> int:
    note("read_size")
    return body.size


@routes.post("/one")
def one(body: Strict) -> Any:
    note(type(body).__name__)
    return body


@routes.post("/request")
async def with_request(body: Strict, request: Request) -> Any:
    return [body, type(await request.json()).__name__, (await request.body()).decode()]


@routes.post("/embedded")
async def embedded(body: Annotated[Strict, FastAPIBody(embed=True)]) -> Any:
    return body


@routes.post("/two")
def two(body: Strict, other: Other, number: Annotated[int, FastAPIBody(gt=0)] = 1) -> Any:
    return [body, other, number]


@routes.post("/list")
def listed(body: list[Strict]) -> Any:
    return body


@routes.post("/optional")
async def optional(body: Strict | None = None) -> Any:
    return body


@routes.post("/default")
def default(body: Strict = Strict(size=7)) -> Any:  # noqa: B008  a constant
    return body.size


@routes.post("/union")
async def union(body: Strict | Other) -> Any:
    return type(body).__name__


@routes.post("/dependency")
def dependency(size: Annotated[int, Depends(read_size)]) -> Any:
    return size


GOOD = {"size": 1, "tags": ["a"]}

case = routes.case
CASES = [
    case("a model", "POST /one", json=GOOD),
    case("a field that is missing", "POST /one", json={"tags": []}),
    case("an unknown field", "POST /one", json=GOOD | {"more": 1}),
    case("another type", "POST /one", json=GOOD | {"size": "12345"}),
    case("a list at fault", "POST /one", json=GOOD | {"tags": ["a", 2]}),
    case("no body", "POST /one"),
    case("a model and its request", "POST /request", json=GOOD),
    case("embedded", "POST /embedded", json={"body": GOOD}),
    case("embedded, at fault", "POST /embedded", json={"body": {"tags": []}}),
    case("two and a number", "POST /two", json={"body": GOOD, "other": {"name": "x"}, "number": 2}),
    case("two, both at fault", "POST /two", json={"body": {}, "other": {"name": 5}, "number": 0}),
    case("a list", "POST /list", json=[GOOD, {"size": 2}]),
    case("a list, the second at fault", "POST /list", json=[GOOD, {}]),
    case("optional and absent", "POST /optional"),
    case("optional and given", "POST /optional", json=GOOD),
    case("a default", "POST /default"),
    case("a union", "POST /union", json={"name": "x"}),
    case("in a dependency", "POST /dependency", json=GOOD),
    case("in a dependency, at fault", "POST /dependency", json={"size": None}),
]
