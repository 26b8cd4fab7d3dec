"""A table as FastAPI's tutorial on databases writes it, with an owner."""

from collections.abc import Iterator
from functools import partial

import pytest
import sqlalchemy as sa
from alembic import op
from fastapi import APIRouter
from sqlmodel import Field, SQLModel, select

from app.auth import CurrentUser
from app.db import CurrentSession
from app.main import create_app
from app.migrations.row_security import protect
from app.settings import Settings
from app.web.route import ApiRoute
from devtools.examples.schema import change_schema
from tests.docs.pages import blocks
from tests.support import SECRET, UNLIMITED, Api, run_api

router = APIRouter(prefix="/api/heroes", route_class=ApiRoute)


class Tutorial(SQLModel):
    metadata = sa.MetaData()  # of this test alone


class HeroBase(Tutorial):
    name: str = Field(index=True)
    age: int | None = Field(default=None, index=True)


class Hero(HeroBase, table=True):
    id: int | None = Field(default=None, primary_key=True)
    user_id: str = Field(index=True)


class HeroPublic(HeroBase):
    id: int


class HeroCreate(HeroBase):
    pass


(CREATE_HERO,) = blocks("docs/fastapi.md", __file__)
exec(CREATE_HERO, globals() | {"CurrentUser": CurrentUser})  # noqa: S102  our own page


@router.get("", response_model=list[HeroPublic])
def read_heroes(session: CurrentSession) -> list[Hero]:
    return list(session.exec(select(Hero)).all())


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with change_schema(database_url):
        op.create_table(
            "hero",
            sa.Column("id", sa.Integer(), primary_key=True),
            sa.Column("name", sa.String(), nullable=False),
            sa.Column("age", sa.Integer()),
            sa.Column("user_id", sa.String(), nullable=False),
        )
        protect("hero")
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, **UNLIMITED)
    with run_api(settings, partial(create_app, entities=[router])) as served:
        yield served


def test_a_table_of_the_tutorial_works_and_is_the_users_own(api: Api) -> None:
    """With its serial id, its strings, and a model for what is answered."""
    with api.client("alice") as alice, api.client("bob") as bob:
        assert alice.post("/api/heroes", json={"name": "Deadpond"}).json() == {"id": 1, "name": "Deadpond", "age": None}
        assert bob.post("/api/heroes", json={"name": "Rusty-Man", "age": 48}).json()["id"] == 2
        assert [hero["name"] for hero in alice.get("/api/heroes").json()] == ["Deadpond"]
