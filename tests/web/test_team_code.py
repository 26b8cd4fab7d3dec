"""What a team's code does that the application's own does not: each once went wrong."""

from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, Form, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from app.web.body import Body
from tests.web.team import api_router, call_routers

Client = httpx.AsyncClient


def test_dependencies_of_coroutines_run_once_or_each_time() -> None:
    """A shared one once a request, one with `use_cache=False` each time, whatever is wrong with the query."""
    router, ran = api_router(), list[str]()

    async def shared() -> str:
        ran.append("shared")
        return "shared"

    async def fresh() -> str:
        ran.append("fresh")
        return "fresh"

    async def both(a: Annotated[str, Depends(shared)], b: Annotated[str, Depends(fresh, use_cache=False)]) -> str:
        return a + b

    @router.get("/once")
    async def once(
        a: Annotated[str, Depends(shared)],
        b: Annotated[str, Depends(fresh, use_cache=False)],
        c: Annotated[str, Depends(both)],
        limit: int = 1,
    ) -> str:
        return f"{a}{b}{c}{limit}"

    good = call_routers(router, act=lambda client: client.get("/api/once"))
    assert (good.json(), ran) == ("sharedfreshsharedfresh1", ["shared", "fresh", "fresh"])
    ran.clear()
    assert call_routers(router, act=lambda client: client.get("/api/once?limit=x")).status_code == 422
    assert ran == ["shared", "fresh", "fresh"]


def test_errors_of_headers_are_in_the_order_of_the_signature() -> None:
    """Optional ones and required ones alike."""
    router = api_router()

    @router.get("/headers")
    async def headers(x_a: Annotated[int | None, Header()] = None, *, x_b: Annotated[int, Header()]) -> None:
        """Take two numbers."""

    answer = call_routers(router, act=lambda client: client.get("/api/headers", headers={"x-a": "a", "x-b": "b"}))
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/header/x-a", "/header/x-b"]


def test_an_override_touches_the_routes_that_use_it() -> None:
    """Query parameters that a replacement reads are known there, and nowhere else."""
    router = api_router()

    async def current() -> str:
        return "real"

    async def replacement(id: Annotated[int, Query()] = 0) -> str:
        return f"replaced {id}"

    @router.get("/used")
    async def used(value: Annotated[str, Depends(current)]) -> str:
        return value

    @router.get("/unused/{id}")
    async def unused(id: str) -> str:
        return id

    async def act(client: Client) -> list[httpx.Response]:
        return [await client.get(path) for path in ("/api/used?id=7", "/api/unused/7", "/api/unused/7?id=7")]

    answers = call_routers(router, act=act, prepare=lambda app: app.dependency_overrides.update({current: replacement}))
    assert [answer.status_code for answer in answers] == [200, 200, 422]
    assert answers[0].json() == "replaced 7"


def test_refusals_keep_what_they_were_given() -> None:
    """Headers of a 404, whatever its detail; a team's own validation error, though it lacks what pydantic's have."""
    router = api_router()

    @router.get("/gone")
    async def gone() -> None:
        raise HTTPException(404, headers={"X-Own": "there"})

    @router.get("/own")
    async def own() -> None:
        raise RequestValidationError([{"loc": ("query", "x"), "type": "own"}])

    found = call_routers(router, act=lambda client: client.get("/api/gone"))
    assert (found.status_code, found.json()["code"], found.headers["x-own"]) == (404, "not_found", "there")
    errors = call_routers(router, act=lambda client: client.get("/api/own")).json()["errors"]
    assert errors == [{"pointer": "/query/x", "message": "is not acceptable"}]


def test_what_is_hidden_is_not_told_to_who_misspells() -> None:
    """A parameter that the document leaves out works, and no message names it."""
    router = api_router()

    @router.get("/own")
    async def own(page: int = 1, *, debug: Annotated[bool, Query(include_in_schema=False)] = False) -> str:
        return f"{page} {debug}"

    async def act(client: Client) -> tuple[Any, Any]:
        return (await client.get("/api/own?debug=true")).json(), (await client.get("/api/own?pag=2")).json()

    answer, problem = call_routers(router, act=act)
    assert answer == "1 True"
    assert problem["errors"] == [{"pointer": "/query/pag", "message": "is no parameter here; known are: page"}]


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


@pytest.mark.parametrize("sent", [{"pet": {"kind": "patient-4711"}}, {"pet": {"kind": "cat"}, "id": "patient-4711"}])
def test_no_message_quotes_a_value(sent: Any) -> None:
    """Not even where pydantic's own does."""
    router = api_router()

    class Visit(BaseModel):
        pet: Annotated[Cat | Dog, Field(discriminator="kind")]
        id: UUID | None = None

    @router.post("/visits")
    async def visit(visit: Visit) -> None:
        """Take a visit."""

    answer = call_routers(router, act=lambda client: client.post("/api/visits", json=sent))
    assert answer.status_code == 422
    assert not [part for part in ("patient", "4711", "`p`") if part in answer.text]


def test_headers_of_an_endpoint_are_its_own() -> None:
    """What it says of caches and referrers stands alone; the rest is added."""
    router = api_router()

    @router.get("/own")
    async def own() -> Response:
        return Response(headers={"Cache-Control": "public, max-age=60", "Referrer-Policy": "origin"})

    headers = call_routers(router, act=lambda client: client.get("/api/own")).headers
    assert headers.get_list("cache-control") == ["public, max-age=60"]
    assert headers.get_list("referrer-policy") == ["origin"]
    assert headers.get_list("x-content-type-options") == ["nosniff"]


def test_a_strict_model_may_be_a_form() -> None:
    """A form is FastAPI's own business, whatever its model."""
    router = api_router()

    class Name(Body):
        name: str

    @router.post("/form")
    async def form(name: Annotated[Name, Form()]) -> str:
        return name.name

    assert call_routers(router, act=lambda client: client.post("/api/form", data={"name": "x"})).json() == "x"


def test_a_long_number_in_a_path_names_nothing() -> None:
    """Python reads no number of so many digits: 404, and no 500."""
    router = APIRouter()
    router.add_api_route("/numbers/{number:int}", lambda number: number)
    assert call_routers(router, act=lambda client: client.get(f"/numbers/{'9' * 5000}")).status_code == 404
    assert call_routers(router, act=lambda client: client.get(f"/numbers/{'9' * 4000}")).status_code == 200


@pytest.mark.parametrize("path", ["gathered", "solved"])
def test_no_depth_or_length_of_json_is_an_error_of_ours(path: str) -> None:
    """Whoever gathers the arguments: too deep or too long for Python is the client's fault."""
    router = api_router()

    class Anything(Body):
        value: Any

    @router.post("/gathered")
    async def gathered(_: Anything) -> None:
        """Take anything."""

    @router.post("/solved")
    async def solved(_: Anything, response: Response) -> None:
        response.headers["x-solved"] = "yes"

    values = ["[" * depth + "]" * depth for depth in (1, 50, *range(800, 1000, 4), 5000)] + ["9" * 4000, "9" * 5000]

    async def act(client: Client) -> list[int]:
        bodies = [f'{{"value": {value}}}' for value in values]
        headers = {"Content-Type": "application/json"}
        return [(await client.post(f"/api/{path}", content=body, headers=headers)).status_code for body in bodies]

    statuses = call_routers(router, act=act)
    assert (statuses[0], statuses[1], statuses[-2], statuses[-1]) == (200, 200, 200, 422)
    assert set(statuses[2:-2]) <= {400, 422}


class Handler:
    async def __call__(self, _: Request, error: Exception) -> Response:
        return PlainTextResponse(type(error).__name__, 418)


def test_an_own_answer_to_what_nobody_caught_counts_as_what_it_is() -> None:
    """By any kind of handler; the metric and the answer agree."""
    router = api_router()

    @router.get("/fail")
    async def fail() -> None:
        raise LookupError

    async def act(client: Client) -> tuple[httpx.Response, str]:
        return await client.get("/api/fail"), (await client.get("/metrics")).text

    answer, metrics = call_routers(router, act=act, prepare=lambda app: app.add_exception_handler(Exception, Handler()))
    assert (answer.status_code, answer.text) == (418, "LookupError")
    assert 'http_requests_total{handler="/api/fail",method="GET",status="418"} 1.0' in metrics


class Problem(BaseModel):
    """What a team calls a problem: one of a chess player's."""

    mate_in: int


class ValidationError(BaseModel):
    """A team's own, of the name of one of FastAPI's."""

    reason: str


def test_a_teams_schema_keeps_its_name() -> None:
    """Models named as one of the application's or of FastAPI's stay what they are, and so do the documented errors."""
    router = api_router()

    @router.post("/problems", responses={409: {"model": ValidationError}})
    async def create(problem: Problem) -> Problem:
        return problem

    document = call_routers(router, act=lambda client: client.get("/openapi.json")).json()
    schemas, operation = document["components"]["schemas"], document["paths"]["/api/problems"]["post"]
    own = {"$ref": "#/components/schemas/app__web__docs__Problem"}
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert set(schemas["Problem"]["properties"]) == {"mate_in"}
    assert set(schemas["ValidationError"]["properties"]) == {"reason"}
    for status in ("401", "422", "429"):
        assert operation["responses"][status]["content"] == {"application/problem+json": {"schema": own}}
    items = schemas["app__web__docs__Problem"]["properties"]["errors"]["anyOf"][0]["items"]
    assert items == {"$ref": "#/components/schemas/app__web__docs__FieldError"}
    assert "app__web__docs__FieldError" in schemas
    assert not {"HTTPValidationError", "FieldError"} & set(schemas)
