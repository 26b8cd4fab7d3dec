"""Tutorial: Response Model, Status Code; Advanced: custom, direct and additional responses, cookies and headers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Response, status
from fastapi.encoders import jsonable_encoder
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from tests.fastapi.case import Routes

routes = Routes("/api/responses")
router = routes.router


class BaseUser(BaseModel):
    username: str
    full_name: str | None = None


class UserIn(BaseUser):
    password: str


class Item(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    name: str
    description: str | None = None
    price: float = Field(alias="thePrice")
    tax: float = 10.5
    tags: list[str] = []


class Typed(TypedDict):
    a: int


@dataclass
class Dated:
    name: str
    price: float


class Spaced(JSONResponse):
    media_type = "application/json; spaced"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, indent=2).encode()


ITEM = Item(name="Foo", price=50.2)


@routes.post("/filtered", response_model=BaseUser)
async def filtered(user: UserIn) -> Any:
    return user


@routes.post("/annotated")
def annotated(user: UserIn) -> BaseUser:
    return user


@routes.get("/unset", response_model=Item, response_model_exclude_unset=True)
async def unset() -> Any:
    return {"name": "Foo", "thePrice": 50.2}


@routes.get("/include", response_model=Item, response_model_include={"name", "tax"})
def include() -> Any:
    return ITEM


@routes.get("/exclude", response_model=Item, response_model_exclude={"tax"}, response_model_by_alias=False)
async def exclude() -> Any:
    return ITEM


@routes.get(
    "/defaults", response_model=list[Item], response_model_exclude_defaults=True, response_model_exclude_none=True
)
def defaults() -> Any:
    return [ITEM, ITEM]


@routes.get("/dict")
async def as_dict() -> dict[str, float]:
    return {"foo": 2.3}


@routes.get("/none")
async def none() -> None:
    """Answer null."""


@routes.get("/untyped", response_model=None)
def untyped() -> Any:
    return {"item": ITEM, "text": "é", "number": 1}


@routes.get("/text")
def text() -> str:
    return "text"


@routes.get("/int")
async def number() -> int:
    return 3


@routes.get("/dataclass")
async def as_dataclass() -> Dated:
    return Dated("Foo", 1.5)


@routes.get("/typed")
def typed() -> Typed:
    return {"a": 1}


@routes.get("/spaced", response_class=Spaced)
async def spaced() -> Any:
    return [{"item": "Foo"}]


@routes.get("/html", response_class=HTMLResponse)
def html() -> Any:
    return "<p>é</p>"


@routes.get("/plain", response_class=PlainTextResponse)
async def plain() -> Any:
    return "plain"


@routes.get("/redirect")
async def redirect() -> RedirectResponse:
    return RedirectResponse("https://example.com/é")


@routes.get("/redirect-class", response_class=RedirectResponse, status_code=302)
def redirect_class() -> Any:
    return "https://example.com/"


@routes.get("/file", response_class=FileResponse)
def file() -> Any:
    return Path(__file__)


@routes.get("/file-named")
async def file_named() -> FileResponse:
    return FileResponse(__file__, filename="named.py", media_type="text/x-python")


@routes.get("/json")
async def as_json() -> JSONResponse:
    return JSONResponse(jsonable_encoder(ITEM), 203, {"X-Cat-Dog": "alone in the world", "Content-Language": "en-US"})


@routes.post("/cookies")
def cookies(response: Response) -> Any:
    response.set_cookie("fakesession", "fake value", max_age=60, httponly=True, samesite="strict")
    response.set_cookie("other", "2")
    response.headers["X-One"] = "1"
    response.headers["Cache-Control"] = "max-age=60"
    return {"message": "Come to the dark side"}


@routes.operation("put", "/status", status_code=200)
async def changed(response: Response) -> Any:
    response.status_code = status.HTTP_201_CREATED
    return "created"


@routes.post("/created", status_code=201, responses={409: {"description": "Taken"}})
def created() -> Item:
    return ITEM


@routes.operation("delete", "/gone", status_code=204)
def gone() -> None:
    """Answer nothing."""


@routes.get("/said-response")
async def said_response() -> Response:
    return {"in fact": "a dict"}  # type: ignore[return-value]


@routes.get("/either")
def either(*, teleport: bool = False) -> Response:
    return RedirectResponse("/elsewhere") if teleport else JSONResponse({"message": "here"})


@routes.get("/raw")
def raw() -> Response:
    return Response(b"<x/>", media_type="application/xml", headers={"X-Raw": "yes"})


@routes.get("/wrong", response_model=Item)
async def wrong() -> Any:
    return {"name": "no price"}


@routes.get("/nan")
async def nan() -> float:
    return float("nan")


USER = {"username": "john", "password": "secret", "full_name": "John"}

case = routes.case
CASES = [
    case("filtered by response_model", "POST /filtered", json=USER),
    case("filtered by annotation", "POST /annotated", json=USER),
    case("exclude_unset", "GET /unset"),
    case("include", "GET /include"),
    case("exclude, not by alias", "GET /exclude"),
    case("exclude_defaults and exclude_none", "GET /defaults"),
    *(case(name, f"GET /{name}") for name in "dict none untyped text int dataclass typed spaced html plain".split()),
    *(case(name, f"GET /{name}") for name in "redirect redirect-class file file-named json said-response raw".split()),
    case("a part of a file", "GET /file", headers={"Range": "bytes=3-11"}),
    case("cookies and headers", "POST /cookies"),
    case("another status", "PUT /status"),
    case("201", "POST /created"),
    case("204", "DELETE /gone"),
    case("a redirect or JSON: JSON", "GET /either"),
    case("a redirect or JSON: a redirect", "GET /either?teleport=true"),
    case("not what was promised", "GET /wrong"),
    case("NaN", "GET /nan"),
]
