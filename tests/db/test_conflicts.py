"""What the database has against a client's values is for the client to know: 409 or 422, never a 500, and no oracle."""

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from alembic import op
from fastapi import APIRouter
from sqlalchemy.dialects.postgresql import ExcludeConstraint

from app.auth import CurrentUser
from app.db import CurrentDatabase
from app.main import ENTITIES, create_app
from app.migrations.row_security import protect
from app.settings import Settings
from app.web.body import Body
from app.web.route import ApiRoute
from devtools.examples.schema import change_schema
from tests.support import SECRET, UNLIMITED, Api, run_api

WAYS = ("execute", "transaction")
NOT_COMPARED = {"date", "server-timing", "x-trace-id", "ratelimit"}
LONG = "".join(Random(7).choices("0123456789abcdef", k=9000))  # noqa: S311  any text that does not compress

COMMENT = sa.table("comment", *map(sa.column, ("user_id", "example_id", "text", "label", "slot", "place")))

router = APIRouter(prefix="/api/comments", route_class=ApiRoute)


class Comment(Body):
    """Whatever is of the type: the rules are the database's."""

    example_id: int
    text: str | None = "text"
    label: str | None = None
    slot: str | None = None
    place: int | None = None


@router.post("/execute", status_code=201)
def execute(database: CurrentDatabase, user: CurrentUser, body: Comment) -> None:
    """Insert a comment by one statement."""
    database.execute(user, sa.insert(COMMENT), {**body.model_dump(), "user_id": user.user_id})


@router.post("/transaction", status_code=201)
def transaction(database: CurrentDatabase, user: CurrentUser, body: Comment) -> None:
    """Insert a comment by one of several statements."""
    with database.transaction(user) as session:
        session.connection().execute(sa.insert(COMMENT), {**body.model_dump(), "user_id": user.user_id})
        session.connection().execute(sa.text("SELECT 1"))


@router.get("/count")
def count(database: CurrentDatabase, user: CurrentUser) -> int:
    """Count the user's comments."""
    return int(database.execute(user, sa.select(sa.func.count()).select_from(COMMENT), {})[0][0])


@router.get("/cast")
def cast(database: CurrentDatabase, user: CurrentUser, q: str) -> str:
    """Let the database read the client's text as a number."""
    return str(database.execute(user, sa.text("SELECT (:q)::integer"), {"q": q})[0][0])


@router.get("/mistake")
def mistake(database: CurrentDatabase, user: CurrentUser) -> None:
    """Ask for a table that nobody made."""
    database.execute(user, sa.text("SELECT 1 FROM nowhere"), {})


@router.delete("/of/{example}")
def delete_example(database: CurrentDatabase, user: CurrentUser, example: int) -> None:
    """Delete an example, whatever hangs on it."""
    database.execute(user, sa.text("DELETE FROM example WHERE id = :id"), {"id": example})


def create_comment() -> None:
    """A migration: a child of `example` with every kind of constraint."""
    op.create_table(
        "comment",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("example_id", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.VARCHAR(10_000), nullable=False),
        sa.Column("label", sa.Text()),
        sa.Column("slot", sa.Text()),
        sa.Column("place", sa.SmallInteger()),
        sa.ForeignKeyConstraint(["user_id", "example_id"], ["example.user_id", "example.id"], ondelete="RESTRICT"),
        sa.UniqueConstraint("user_id", "place", deferrable=True, initially="DEFERRED"),
        sa.CheckConstraint("place > 0"),
        ExcludeConstraint((sa.column("user_id"), "="), (sa.column("slot"), "="), using="btree"),
    )
    op.create_index("comment_user_id_example_id", "comment", ["user_id", "example_id"])
    op.create_index("comment_label", "comment", ["user_id", "label"], unique=True)
    protect("comment")


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The application with one entity more, and its table."""
    with change_schema(database_url):
        create_comment()
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, **UNLIMITED)
    with run_api(settings, partial(create_app, entities=(*ENTITIES, router))) as running_api:
        yield running_api


def new_example(client: httpx.Client) -> int:
    return int(client.post("/api/examples", json={"title": "an example"}).json()["id"])


def said(answer: httpx.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    """All that an answer tells: status, body and headers, but for what is another's each time."""
    headers = {name: value for name, value in answer.headers.items() if name not in NOT_COMPARED}
    return answer.status_code, answer.json() | {"trace_id": ""}, headers


CONFLICTS = {
    "unique": {"label": "taken"},
    "exclusion": {"slot": "taken"},
    "unique, deferred": {"place": 7},
}
INVALID = {
    "check": {"place": -1},
    "not null": {"text": None},
    "out of range": {"place": 40_000},
    "an id out of range": {"example_id": 2**70},
    "too long": {"text": "x" * 10_001},
    "too large for its index": {"label": LONG},
    "NUL": {"label": "a\0b"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("taken", CONFLICTS.values(), ids=CONFLICTS)
def test_what_is_there_already_is_a_conflict(
    alice: httpx.Client, bob: httpx.Client, way: str, taken: dict[str, Any]
) -> None:
    """409, nothing is changed, and no value or name of a constraint is told; of another user's rows nothing is met."""
    body = {"example_id": new_example(alice), **taken}
    assert alice.post(f"/api/comments/{way}", json=body).status_code == 201
    refused = alice.post(f"/api/comments/{way}", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert refused.json()["detail"] == "The change contradicts what is stored. Nothing was changed."
    assert alice.get("/api/comments/count").json() == 1
    assert bob.post(f"/api/comments/{way}", json=body | {"example_id": new_example(bob)}).status_code == 201


@pytest.mark.parametrize("way", WAYS)
def test_another_users_row_is_a_row_that_never_was(alice: httpx.Client, bob: httpx.Client, way: str) -> None:
    """A child of another user's example gets the answer of one whose parent does not exist, to the letter."""
    mine, foreign = new_example(bob), new_example(alice)
    assert bob.post(f"/api/comments/{way}", json={"example_id": mine}).status_code == 201
    of_another, of_none = (
        bob.post(f"/api/comments/{way}", json={"example_id": example}) for example in (foreign, foreign + 1000)
    )
    assert (of_another.status_code, of_another.json()["code"]) == (409, "conflict")
    assert said(of_another) == said(of_none)
    assert bob.get("/api/comments/count").json() == 1
    assert alice.delete(f"/api/examples/{foreign}").status_code == 204


def test_a_row_that_others_hang_on_is_a_conflict(alice: httpx.Client) -> None:
    """A parent whose foreign key restricts stays where it is."""
    example = new_example(alice)
    alice.post("/api/comments/execute", json={"example_id": example})
    refused = alice.delete(f"/api/comments/of/{example}")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert alice.get(f"/api/examples/{example}").status_code == 200


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", INVALID.values(), ids=INVALID)
def test_what_no_column_takes_is_invalid(alice: httpx.Client, way: str, wrong: dict[str, Any]) -> None:
    """422 where a value passes the code's own checks and not the database's; the answer quotes nothing of either."""
    refused = alice.post(f"/api/comments/{way}", json={"example_id": new_example(alice), **wrong})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert refused.json()["detail"] == "A value is not acceptable. Nothing was changed."
    assert alice.get("/api/comments/count").json() == 0


def test_a_value_that_a_read_cannot_take_is_invalid(alice: httpx.Client) -> None:
    """Text that is no number, one too large, and text that no server stores."""
    assert alice.get("/api/comments/cast?q=7").json() == "7"
    for text in ("seven", "99999999999", "%00"):
        refused = alice.get(f"/api/comments/cast?q={text}")
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


def test_a_mistake_of_the_code_stays_one(alice: httpx.Client) -> None:
    """A table that is not there is no fault of the client's."""
    answer = alice.get("/api/comments/mistake")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
