"""Tutorial: Path Parameters, Path Parameters and Numeric Validations."""

from datetime import date
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Path

from tests.fastapi.case import Routes, note

routes = Routes("/api/paths")
router = routes.router


class ModelName(StrEnum):
    alexnet = "alexnet"
    resnet = "resnet"


@routes.get("/users/me")
async def read_user_me() -> dict[str, str]:
    return {"user_id": "the current user"}


@routes.get("/users/{user_id}")
async def read_user(user_id: str) -> dict[str, str]:
    return {"user_id": user_id}


@routes.get("/items/{item_id}")
def read_item(item_id: int) -> dict[str, int]:
    note(item_id)
    return {"item_id": item_id}


@routes.get("/models/{model_name}")
async def get_model(model_name: ModelName) -> dict[str, object]:
    return {"model_name": model_name, "is": model_name is ModelName.alexnet}


@routes.get("/files/{file_path:path}")
async def read_file(file_path: str) -> dict[str, str]:
    return {"file_path": file_path}


@routes.get("/numbers/{item_id}")
async def numbers(item_id: Annotated[int, Path(title="The ID", gt=0, le=1000)]) -> int:
    return item_id


@routes.get("/sizes/{size}")
async def sizes(size: Annotated[float, Path(gt=0, lt=10.5)]) -> float:
    return size


@routes.get("/aliased/{item-id}")
async def aliased(item: Annotated[int, Path(alias="item-id")]) -> int:
    return item


@routes.get("/uuids/{id}")
async def uuids(id: UUID) -> UUID:
    return id


@routes.get("/days/{day}")
def days(day: date) -> date:
    return day


@routes.get("/converted/{number:int}")
async def converted(number: int) -> int:
    return number


@routes.get("/sides/{side}/{on}")
async def sides(side: Literal["left", "right"], *, on: bool) -> list[object]:
    return [side, on]


case = routes.case
CASES = [
    case("an int", "GET /items/3"),
    case("no int", "GET /items/foobar"),
    case("no int, but a float", "GET /items/4.2"),
    case("the earlier of two paths", "GET /users/me"),
    case("the later of two paths", "GET /users/7"),
    case("an enum", "GET /models/alexnet"),
    case("none of the enum", "GET /models/vgg16"),
    case("a path in a path", "GET /files/home/johndoe/myfile.txt"),
    case("a path that begins with a slash", "GET /files//home/johndoe"),
    case("a number within its bounds", "GET /numbers/1000"),
    case("a number out of its bounds", "GET /numbers/1001"),
    case("a float", "GET /sizes/10.25"),
    case("a float out of its bounds", "GET /sizes/10.75"),
    case("an alias", "GET /aliased/5"),
    case("an alias at fault", "GET /aliased/five5"),
    case("a UUID", "GET /uuids/16fd2706-8baf-433b-82eb-8c7fada847da"),
    case("no UUID", "GET /uuids/16fd2706"),
    case("a date", "GET /days/2026-02-03"),
    case("percent-encoded text", "GET /users/caf%C3%A9%20%26%20bar"),
    case("a convertor of Starlette", "GET /converted/12"),
    case("what a convertor does not take", "GET /converted/twelve"),
    case("a literal and a bool", "GET /sides/left/yes"),
    case("two parameters at fault", "GET /sides/middle/perhaps"),
    case("no such path", "GET /nowhere/at/all"),
]
