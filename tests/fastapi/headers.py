"""Tutorial: Header Parameters, Cookie Parameters, and the models of both."""

from typing import Annotated, Any

from fastapi import Cookie, Header, Request
from pydantic import BaseModel

from tests.fastapi.case import Routes

routes = Routes("/api/headers")
router = routes.router


class CommonHeaders(BaseModel):
    host: str
    save_data: bool
    if_modified_since: str | None = None
    x_tag: list[str] = []


class Cookies(BaseModel):
    session_id: str
    fatebook_tracker: str | None = None


@routes.get("/agent")
async def agent(user_agent: Annotated[str | None, Header()] = None) -> Any:
    return {"User-Agent": user_agent}


@routes.get("/strange")
async def strange(strange_header: Annotated[str | None, Header(convert_underscores=False)] = None) -> Any:
    return strange_header


@routes.get("/list")
def listed(x_token: Annotated[list[str] | None, Header()] = None) -> Any:
    return x_token


@routes.get("/needed")
async def needed(x_number: Annotated[int, Header(ge=1)], key: Annotated[str, Header(alias="X-API-Key")]) -> Any:
    return [x_number, key]


@routes.get("/model")
async def model(headers: Annotated[CommonHeaders, Header()]) -> Any:
    return headers


@routes.get("/optional")
def optional(x_one: Annotated[str | None, Header()] = None, x_two: Annotated[str, Header()] = "two") -> Any:
    return [x_one, x_two]


@routes.get("/cookie")
async def cookie(ads_id: Annotated[str | None, Cookie()] = None) -> Any:
    return {"ads_id": ads_id}


@routes.get("/cookie-needed")
def cookie_needed(count: Annotated[int, Cookie()], other: Annotated[str, Cookie(alias="other-name")] = "no") -> Any:
    return [count, other]


@routes.get("/cookie-model")
async def cookie_model(cookies: Annotated[Cookies, Cookie()]) -> Any:
    return cookies


@routes.get("/request")
async def of_the_request(request: Request) -> Any:
    return [request.headers["x-one"], request.cookies, request.method, str(request.url), request.path_params]


case = routes.case
CASES = [
    case("a header", "GET /agent", headers={"User-Agent": "testclient"}),
    case("underscores kept", "GET /strange", headers={"strange_header": "odd"}),
    case("a list", "GET /list", headers=[("X-Token", "foo"), ("X-Token", "bar")]),
    case("no list", "GET /list"),
    case("a number and an alias", "GET /needed", headers={"X-Number": "2", "x-api-key": "k"}),
    case("required and missing", "GET /needed"),
    case("a number at fault", "GET /needed", headers={"X-Number": "zero0", "X-API-Key": "k"}),
    case("a model", "GET /model", headers=[("Save-Data", "true"), ("X-Tag", "one"), ("X-Tag", "two")]),
    case("a model at fault", "GET /model", headers={"If-Modified-Since": "yesterday"}),
    case("left out", "GET /optional"),
    case("one of two", "GET /optional", headers={"X-Two": "2"}),
    case("a cookie", "GET /cookie", headers={"Cookie": "ads_id=portal; other=1"}),
    case("no cookie", "GET /cookie"),
    case("cookies by number and alias", "GET /cookie-needed", headers={"Cookie": "count=3; other-name=yes"}),
    case("a cookie that is missing", "GET /cookie-needed"),
    case("a cookie at fault", "GET /cookie-needed", headers={"Cookie": "count=three"}),
    case("a model of cookies", "GET /cookie-model", headers={"Cookie": "session_id=s; fatebook_tracker=f"}),
    case("a model of cookies at fault", "GET /cookie-model", headers={"Cookie": "fatebook_tracker=f"}),
    case("the request's own", "GET /request?", headers={"X-One": "1", "Cookie": 'a=b; c="d e"'}),
]
