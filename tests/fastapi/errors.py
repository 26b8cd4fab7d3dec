"""Tutorial: Handling Errors."""

from typing import Annotated, Any

from fastapi import Depends, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from tests.fastapi.case import Routes, note

routes = Routes("/api/errors")
router = routes.router

ITEMS = {"foo": "The Foo Wrestlers"}


class NameTaken(HTTPException):
    def __init__(self, name: str) -> None:
        super().__init__(409, f"{name} is taken", {"X-Name": name})


RAISED: dict[str, Exception] = {
    "text": HTTPException(404, "Project 7 has no such board"),
    "none": HTTPException(404),
    "dict": HTTPException(400, {"reason": "odd", "ids": [1, 2]}),
    "list": HTTPException(422, ["one", "two"]),
    "headers": HTTPException(401, "Not you", {"WWW-Authenticate": "Custom", "X-Error": "There goes my error"}),
    "teapot": HTTPException(418, "Nope! I don't like 3."),
    "unnamed teapot": HTTPException(418),
    "starlette": StarletteHTTPException(403, "Of Starlette"),
    "subclass": NameTaken("foo"),
    "unavailable": HTTPException(503, "Come back", {"Retry-After": "120"}),
    "not modified": HTTPException(304, headers={"ETag": '"1"'}),
    "validation": RequestValidationError([{"loc": ("body", "a"), "msg": "no", "type": "x", "input": "hidden"}]),
    "value": ValueError("unexpected: patient-4711"),
    "key": KeyError("unexpected"),
}


async def refuse(name: str = "") -> None:
    note("refuse")
    if name:
        raise HTTPException(403, {"refused": name})


@routes.get("/items/{item_id}")
async def read_item(item_id: str) -> Any:
    if item_id not in ITEMS:
        raise HTTPException(status_code=404, detail="Item not found")
    return {"item": ITEMS[item_id]}


@routes.get("/raised/{name}")
def raised(name: str) -> Any:
    note(name)
    raise RAISED[name]


@routes.get("/raised-async/{name}")
async def raised_async(name: str) -> Any:
    raise RAISED[name]


@routes.get("/dependency")
def dependency(found: Annotated[None, Depends(refuse)]) -> Any:
    note("endpoint")
    return found


@routes.get("/returned")
async def returned() -> JSONResponse:
    return JSONResponse({"message": "of the endpoint's own", "detail": "x"}, 404)


case = routes.case
CASES = [
    case("found", "GET /items/foo"),
    case("not found", "GET /items/bar"),
    *(case(f"raised: {name}", f"GET /raised/{name}") for name in RAISED),
    case("raised on the loop: dict", "GET /raised-async/dict"),
    case("raised on the loop: value", "GET /raised-async/value"),
    case("a dependency that refuses", "GET /dependency?name=x"),
    case("a dependency that does not", "GET /dependency"),
    case("an error that is returned", "GET /returned"),
]
