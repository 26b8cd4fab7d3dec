"""Tutorial: Bigger Applications. Routers in routers, with dependencies and tags at each level; and methods."""

from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute

from tests.fastapi.case import Case, Routes, note


def level(name: str) -> Any:
    def note_level() -> None:
        note(f"level {name}")

    return Depends(note_level)


def refuse() -> None:
    note("refused")
    raise HTTPException(403, "Not by this way")


leaf = Routes("/leaf", tags=["leaf"], dependencies=[level("leaf")])
methods = Routes("/methods")


@leaf.get("", dependencies=[level("operation")])
def read_leaf(request: Request) -> Any:
    note("endpoint")
    return request.url.path


@leaf.get("/{item_id}", name="leaf_item", status_code=203)
async def read_leaf_item(item_id: int, request: Request) -> Any:
    return [item_id, request.scope["path_params"]]


@leaf.post("/{item_id}")
async def post_leaf_item(item_id: int, body: dict[str, int]) -> Any:
    return [item_id, body]


def _method(request: Request) -> Any:
    note(request.method)
    return [request.method]


for name in ("get", "post", "put", "patch", "delete", "options"):
    methods.operation(name, f"/{name}")(_method)
methods.operation("api_route", "/several", methods=["POST", "PUT"])(_method)


@methods.operation("api_route", "/with-head", methods=["GET", "HEAD"])
def with_head() -> Response:
    return Response("text", headers={"X-Head": "yes"})


@methods.operation("head", "/head")
async def head() -> Response:
    return Response(headers={"X-Head": "yes"})


def router(route_class: type[APIRoute]) -> APIRouter:
    root = APIRouter(prefix="/api/nested", tags=["root"], route_class=route_class, dependencies=[level("root")])
    middle = APIRouter(prefix="/middle", tags=["middle"], route_class=route_class, dependencies=[level("middle")])
    middle.include_router(leaf.router(route_class), prefix="/below", dependencies=[level("inclusion")])
    root.include_router(middle)
    root.include_router(leaf.router(route_class), prefix="/{tenant}", dependencies=[level("tenant")])
    root.include_router(leaf.router(route_class), prefix="/closed/to/all", dependencies=[Depends(refuse)])
    root.include_router(methods.router(route_class))
    return root


def case(name: str, call: str, **options: Any) -> Case:
    method, path = call.split(" ", 1)
    return Case(f"nested: {name}", method, f"/api/nested{path}", options)


CASES = [
    case("three levels", "GET /middle/below/leaf"),
    case("three levels, a parameter", "GET /middle/below/leaf/5"),
    case("three levels, a body", "POST /middle/below/leaf/5", json={"a": 1}),
    case("three levels, at fault", "GET /middle/below/leaf/fifth"),
    case("three levels, another method", "DELETE /middle/below/leaf/5"),
    case("three levels, no such path", "GET /middle/below/leaves"),
    case("the same router at another place", "GET /here/leaf/7"),
    case("the same router, closed", "GET /closed/to/all/leaf"),
    *(
        case(f"method {name}", f"{name} /methods/{name.lower()}")
        for name in "GET POST PUT PATCH DELETE OPTIONS".split()
    ),
    case("several methods, the first", "POST /methods/several"),
    case("several methods, the second", "PUT /methods/several"),
    case("several methods, another", "PATCH /methods/several"),
    case("GET and HEAD", "HEAD /methods/with-head"),
    case("only HEAD", "HEAD /methods/head"),
    case("a method that is none", "TRACE /methods/get"),
]
