"""Tutorial: Request Body, Multiple Parameters, Fields and Nested Models."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Body, Path
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, field_validator
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from tests.fastapi.case import Routes, note

routes = Routes("/api/bodies")
router = routes.router


class Image(BaseModel):
    url: HttpUrl
    name: str


class Item(BaseModel):
    name: str = Field(min_length=2, examples=["Foo"])
    description: str | None = Field(default=None, title="The description", max_length=300)
    price: float = Field(gt=0, description="The price must be greater than zero")
    tags: set[str] = set()
    image: Image | None = None


class User(BaseModel):
    username: str


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    barks: bool = True


class Renamed(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)

    full_name: str
    zip_code: int = Field(alias="ZIP")

    @field_validator("full_name")
    @classmethod
    def two_words(cls, value: str) -> str:
        if " " not in value:
            raise ValueError("must be two words")
        return value.title()


class Typed(TypedDict):
    a: int


@dataclass
class Dated:
    name: str
    price: float = 1.0


@routes.post("/items")
async def create_item(item: Item) -> Any:
    note(item.name)
    return item


@routes.operation("put", "/items/{item_id}")
async def update_item(
    *, item_id: Annotated[int, Path(ge=0, le=1000)], q: str | None = None, item: Item | None = None
) -> Any:
    return {"item_id": item_id, "q": q, "item": item}


@routes.post("/two")
def two(item: Item, user: User) -> Any:
    note(user.username)
    return {"item": item, "user": user}


@routes.post("/two-and-more")
async def two_and_more(item: Item, user: User, importance: Annotated[int, Body(gt=0)]) -> Any:
    return [item, user, importance]


@routes.post("/embedded")
def embedded(item: Annotated[Item, Body(embed=True)]) -> Any:
    return item.name


@routes.post("/images")
async def images(images: list[Image]) -> Any:
    return images


@routes.post("/weights")
def weights(weights: dict[int, float]) -> Any:
    return weights


@routes.post("/union")
async def union(pet: Annotated[Cat | Dog, Field(discriminator="kind")]) -> Any:
    return {"was": type(pet).__name__, "pet": pet}


@routes.post("/either")
async def either(either: Image | User) -> Any:
    return type(either).__name__


@routes.post("/positive")
def positive(number: Annotated[int, Body(gt=0)]) -> Any:
    return number


@routes.post("/few")
def few(numbers: Annotated[list[int], Body(max_length=2)]) -> Any:
    return numbers


@routes.post("/numbers")
async def numbers(numbers: list[int]) -> Any:
    return sum(numbers)


@routes.post("/renamed")
def renamed(renamed: Renamed) -> Any:
    return renamed.model_dump()


@routes.post("/anything")
async def anything(anything: Annotated[Any, Body()]) -> Any:
    return {"type": type(anything).__name__, "value": anything}


@routes.post("/dict")
def as_dict(body: dict[str, Any]) -> Any:
    return body


@routes.post("/dataclass")
async def as_dataclass(body: Dated) -> Dated:
    return body


@routes.post("/typed")
async def as_typed(body: Typed) -> Typed:
    return body


@routes.post("/optional")
def optional(body: Annotated[User | None, Body()] = None) -> Any:
    return body and body.username


ITEM = {"name": "Foo", "price": 42.0, "tags": ["a"], "image": {"url": "https://x.example/a.jpg", "name": "An image"}}
WRONG_IMAGE = ITEM | {"image": {"url": "not a url", "name": "x"}}
IMAGES = [{"url": "https://x.example/1", "name": "1"}, {"url": "https://x.example/2"}]

case = routes.case
CASES = [
    case("a model", "POST /items", json=ITEM),
    case("a model, coerced, with more", "POST /items", json={"name": "Foo", "price": "3.5", "unknown": [1]}),
    case("a field that is missing", "POST /items", json={"name": "Foo"}),
    case("constraints of fields", "POST /items", json={"name": "F", "price": -1}),
    case("a nested field at fault", "POST /items", json=WRONG_IMAGE),
    case("another type", "POST /items", json=["not an item"]),
    case("path, query and body", "PUT /items/5?q=x", json=ITEM),
    case("path, query and no body", "PUT /items/5?q=x"),
    case("path and body at fault", "PUT /items/1001", json={"name": "Foo"}),
    case("two models", "POST /two", json={"item": ITEM, "user": {"username": "dave"}}),
    case("one of two models", "POST /two", json={"item": ITEM}),
    case("two models without a body", "POST /two"),
    case(
        "two models and a number", "POST /two-and-more", json={"item": ITEM, "user": {"username": "d"}, "importance": 5}
    ),
    case(
        "a number that is too small",
        "POST /two-and-more",
        json={"item": ITEM, "user": {"username": "d"}, "importance": 0},
    ),
    case("embedded", "POST /embedded", json={"item": ITEM}),
    case("what should be embedded", "POST /embedded", json=ITEM),
    case("a list of models", "POST /images", json=IMAGES[:1]),
    case("a list with one at fault", "POST /images", json=IMAGES),
    case("a dict of numbers", "POST /weights", json={"1": 2.5, "3": "4"}),
    case("a dict with a key at fault", "POST /weights", json={"first": 2.5}),
    case("a discriminated union", "POST /union", json={"kind": "dog"}),
    case("a discriminator at fault", "POST /union", json={"kind": "fish"}),
    case("a member of a union at fault", "POST /union", json={"kind": "cat", "lives": "nine"}),
    case("a union", "POST /either", json={"username": "dave"}),
    case("none of a union", "POST /either", json={"else": 1}),
    case("a number", "POST /positive", json=3),
    case("a number out of its bounds", "POST /positive", json=0),
    case("few", "POST /few", json=[1, 2]),
    case("too many", "POST /few", json=[1, 2, 3]),
    case("a list of numbers", "POST /numbers", json=[1, "2", 3]),
    case("aliases and a validator", "POST /renamed", json={"fullName": "ada king", "ZIP": "12345"}),
    case("names where aliases are asked for", "POST /renamed", json={"full_name": "ada king", "zip_code": 1}),
    case("what a validator refuses", "POST /renamed", json={"fullName": "mononym", "ZIP": 1}),
    case("anything: a list", "POST /anything", json=[1, {"a": None}]),
    case("anything: null", "POST /anything", content="null", headers={"Content-Type": "application/json"}),
    case("a dict", "POST /dict", json={"a": {"b": [1.5, True]}}),
    case("a dataclass", "POST /dataclass", json={"name": "x"}),
    case("a TypedDict", "POST /typed", json={"a": "1"}),
    case("optional and absent", "POST /optional"),
    case("optional and null", "POST /optional", content="null", headers={"Content-Type": "application/json"}),
]
