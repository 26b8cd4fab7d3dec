"""Bodies that are malformed, empty, of other types, or read by the endpoint itself; and the extra data types."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import Body, Depends, Request
from pydantic import BaseModel

from tests.fastapi.case import Routes, note

routes = Routes("/api/raw")
router = routes.router


class Item(BaseModel):
    name: str
    price: float = 0


class Extra(BaseModel):
    id: UUID
    start: datetime
    day: date
    after: timedelta
    at: time | None = None
    cost: Decimal
    parts: frozenset[int] = frozenset()
    data: bytes = b""


async def count_bytes(request: Request) -> int:
    note("dependency")
    return len(await request.body())


@routes.post("/model")
def model(item: Item) -> Any:
    note("endpoint")
    return item


@routes.post("/lenient")
async def lenient(item: Annotated[Item | None, Body()] = None) -> Any:
    return item


@routes.post("/text")
async def text(body: Annotated[str, Body(media_type="text/plain")]) -> Any:
    return body.upper()


@routes.post("/bytes")
async def as_bytes(body: Annotated[bytes, Body(media_type="application/octet-stream")]) -> Any:
    return len(body)


@routes.post("/json")
async def json(request: Request) -> Any:
    body = await request.json()
    return {"type": type(body).__name__, "body": body}


@routes.post("/body")
async def body(request: Request) -> Any:
    return [(await request.body()).decode(), request.headers.get("content-type")]


@routes.post("/stream")
async def stream(request: Request) -> Any:
    return sum([len(chunk) async for chunk in request.stream()])


@routes.post("/both")
async def both(item: Item, request: Request) -> Any:
    return [item, await request.json(), (await request.body()).decode()]


@routes.post("/dependency")
def dependency(item: Item, size: Annotated[int, Depends(count_bytes)]) -> Any:
    return [item, size]


@routes.post("/extra")
def extra(extra: Extra) -> Any:
    return extra


@routes.operation("put", "/extra-embedded")
async def extra_embedded(
    start: Annotated[datetime, Body()], after: Annotated[timedelta, Body()], at: Annotated[time | None, Body()] = None
) -> Any:
    return {"start": start + after, "after": after, "at": at}


@routes.get("/get")
async def get(item: Item) -> Any:
    return item


@routes.operation("delete", "/delete")
def delete(item: Annotated[Item | None, Body()] = None) -> Any:
    return item


EXTRA = {
    "id": "16fd2706-8baf-433b-82eb-8c7fada847da",
    "start": "2026-02-03T04:05:06+01:00",
    "day": "2026-02-03",
    "after": "P1DT2H",
    "at": "14:23:55.003",
    "cost": "1.20",
    "parts": [1, 1, 2],
    "data": "text",
}
JSON = {"Content-Type": "application/json"}

case = routes.case
CASES = [
    case("malformed", "POST /model", content='{"name": "Foo",}', headers=JSON),
    case("malformed, and a dependency", "POST /dependency", content='{"name": "secret', headers=JSON),
    case("not UTF-8", "POST /model", content=b'{"name": "\xff"}', headers=JSON),
    case("UTF-16", "POST /model", content='{"name": "Foo"}'.encode("utf-16"), headers=JSON),
    case("a byte order mark", "POST /model", content=b'\xef\xbb\xbf{"name": "Foo"}', headers=JSON),
    case("NaN", "POST /model", content='{"name": "Foo", "price": NaN}', headers=JSON),
    case("a key twice", "POST /model", content='{"name": "Foo", "name": "Bar"}', headers=JSON),
    case("JSON as text", "POST /model", content='{"name": "Foo"}', headers={"Content-Type": "text/plain"}),
    case("JSON as nothing", "POST /model", content='{"name": "Foo"}'),
    case(
        "JSON as a kind of JSON", "POST /model", content='{"name": "F"}', headers={"Content-Type": "application/x+json"}
    ),
    case(
        "JSON with a charset",
        "POST /model",
        content='{"name": "F"}',
        headers={"Content-Type": "application/json; charset=utf-8"},
    ),
    case("in chunks", "POST /model", content=[b'{"name": ', b'"Foo"}'], headers=JSON),
    case("empty", "POST /model", headers=JSON),
    case("empty, and not needed", "POST /lenient", headers=JSON),
    case("a form, for a model", "POST /model", data={"name": "Foo"}),
    case("text", "POST /text", content="a text", headers={"Content-Type": "text/plain"}),
    case("text in UTF-8", "POST /text", content="grün", headers={"Content-Type": "text/plain; charset=utf-8"}),
    case("text that is missing", "POST /text"),
    case("bytes", "POST /bytes", content=b"\x00\xff\x01", headers={"Content-Type": "application/octet-stream"}),
    case("request.json()", "POST /json", json={"a": [1, 2]}),
    case("request.json() of malformed JSON", "POST /json", content="{", headers=JSON, compares=frozenset({"status"})),
    case("request.body()", "POST /body", content="a body", headers={"Content-Type": "text/markdown"}),
    case("request.stream()", "POST /stream", content=[b"x" * 1000, b"y" * 1000]),
    case("a model and its request", "POST /both", content='{"name": "Foo", "more": 1}', headers=JSON),
    case("a model, and a dependency on the body", "POST /dependency", json={"name": "Foo"}),
    case("a model at fault, and a dependency", "POST /dependency", json={"nom": "Foo"}),
    case("extra types", "POST /extra", json=EXTRA),
    case("extra types at fault", "POST /extra", json=EXTRA | {"id": "16fd", "after": "a day", "cost": "dear"}),
    case("extra types, each in the body", "PUT /extra-embedded", json={"start": EXTRA["start"], "after": 3600}),
    case("with GET", "GET /get", json={"name": "Foo"}),
    case("with DELETE", "DELETE /delete", json={"name": "Foo"}),
    case("none with DELETE", "DELETE /delete"),
]
