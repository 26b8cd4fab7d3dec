"""Tutorial: Query Parameters, their String Validations, and Query Parameter Models."""

from datetime import datetime
from enum import IntEnum
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, Json
from pydantic.alias_generators import to_camel

from tests.fastapi.case import Routes, note

routes = Routes("/api/queries")
router = routes.router


class Level(IntEnum):
    low = 1
    high = 2


class Filters(BaseModel):
    limit: int = Field(100, gt=0, le=100)
    order_by: Literal["created_at", "updated_at"] = "created_at"
    tags: list[str] = []


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    first_name: str
    last_names: list[str] = []


def _known(id: str | None) -> str | None:
    if id and not id.startswith("isbn-"):
        raise ValueError("must begin with isbn-")
    return id


@routes.get("/page")
async def page(skip: int = 0, limit: int = 10) -> dict[str, int]:
    note(f"page {skip} {limit}")
    return {"skip": skip, "limit": limit}


@routes.get("/needy/{item_id}")
async def needy(item_id: str, needed: str, skip: int = 0, limit: int | None = None) -> list[Any]:
    return [item_id, needed, skip, limit]


@routes.get("/short")
async def short(*, short: bool = False) -> bool:
    return short


@routes.get("/list")
async def listed(q: Annotated[list[str] | None, Query()] = None) -> Any:
    return {"q": q}


@routes.get("/numbers")
def numbers(q: Annotated[list[int], Query()] = [7, 8]) -> Any:  # noqa: B006  as documented
    return q


@routes.get("/set")
async def set_of(q: Annotated[set[int], Query(max_length=3)]) -> Any:
    return sorted(q)


@routes.get("/tuple")
async def tuple_of(q: Annotated[tuple[int, str], Query()]) -> Any:
    return q


@routes.get("/chosen")
async def chosen(level: Level, side: Literal["left", "right"] = "left") -> Any:
    return [level, side]


@routes.get("/aliased")
async def aliased(
    item: Annotated[str | None, Query(alias="item-query", min_length=3, pattern="^fixed", deprecated=True)] = None,
    hidden: Annotated[str | None, Query(include_in_schema=False)] = None,
) -> Any:
    return [item, hidden]


@routes.get("/renamed")
async def renamed(
    one: Annotated[int, Query(validation_alias="first")],
    two: Annotated[int, Query(validation_alias=AliasChoices("second", "zweitens"))] = 0,
) -> Any:
    return [one, two]


@routes.get("/bounded")
def bounded(size: Annotated[float, Query(gt=0, lt=10.5)], count: Annotated[int, Query(ge=1, multiple_of=5)] = 5) -> Any:
    return [size, count]


@routes.get("/model")
async def model(filters: Annotated[Filters, Query()]) -> Filters:
    note(filters.order_by)
    return filters


@routes.get("/camel")
def camel(query: Annotated[Camel, Query()]) -> Any:
    return query.model_dump()


@routes.get("/validated")
async def validated(id: Annotated[str | None, AfterValidator(_known)] = None) -> Any:
    return id


@routes.get("/old-style")
async def old_style(q: str = Query(default="x", max_length=4), since: datetime | None = None) -> Any:
    return [q, since]


@routes.get("/json")
async def json(value: Annotated[Json[list[str]], Query()]) -> Any:
    return value


case = routes.case
CASES = [
    case("defaults", "GET /page"),
    case("given", "GET /page?skip=20&limit=5"),
    case("no int", "GET /page?skip=twenty"),
    case("empty", "GET /page?skip="),
    case("required", "GET /needy/foo?needed=yes"),
    case("required and missing", "GET /needy/foo"),
    case("two at fault, in order", "GET /needy/foo?skip=nine&limit=eight"),
    *(case(f"a bool as {word}", f"GET /short?short={word}") for word in ("1", "True", "on", "yes", "OFF", "perhaps")),
    case("no list", "GET /list"),
    case("a list of one", "GET /list?q=foo"),
    case("a list of two", "GET /list?q=foo&q=bar"),
    case("a list's default", "GET /numbers"),
    case("a list of numbers", "GET /numbers?q=1&q=2"),
    case("a list with one at fault", "GET /numbers?q=1&q=second"),
    case("a set", "GET /set?q=2&q=1&q=2"),
    case("a set that is too large", "GET /set?q=1&q=2&q=3&q=4"),
    case("a tuple", "GET /tuple?q=1&q=one"),
    case("an enum and a literal", "GET /chosen?level=2&side=right"),
    case("neither of the enum nor of the literal", "GET /chosen?level=3&side=middle"),
    case("an alias", "GET /aliased?item-query=fixedquery&hidden=seen"),
    case("a pattern that does not match", "GET /aliased?item-query=nonregexquery"),
    case("a validation alias", "GET /renamed?first=1"),
    case("the first of an alias's choices", "GET /renamed?first=1&second=2"),
    case("the second of an alias's choices", "GET /renamed?first=1&zweitens=2"),
    case("a validation alias at fault", "GET /renamed?first=onee"),
    case("numbers within their bounds", "GET /bounded?size=10.25&count=10"),
    case("numbers out of their bounds", "GET /bounded?size=10.75&count=7"),
    case("a model", "GET /model?limit=10&order_by=updated_at&tags=a&tags=b"),
    case("a model's defaults", "GET /model"),
    case("a model at fault", "GET /model?limit=0&order_by=nothing"),
    case("an alias generator", "GET /camel?firstName=Ada&lastNames=King&lastNames=Lovelace"),
    case("an alias generator at fault", "GET /camel?lastNames=King"),
    case("a validator", "GET /validated?id=isbn-9781"),
    case("what a validator refuses", "GET /validated?id=imdb-tt03"),
    case("a default that is Query()", "GET /old-style?since=2026-02-03T04:05:06Z"),
    case("too long for Query()", "GET /old-style?q=%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9"),
    case("JSON", "GET /json?value=%5B%22a%22,%22b%22%5D"),
]
