"""Lists in any order: by several columns, in either direction, with cursors that nobody can forge into a fault."""

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response

from app.auth import CurrentUser
from app.db import CurrentDatabase
from app.db.order import Order
from app.db.store import Listing, Store
from app.main import create_app
from app.settings import Settings
from app.web.paging import Page, next_link
from app.web.route import ApiRoute
from devtools.examples.models import Example
from tests.support import SECRET, UNLIMITED, run_api, run_sql

c = Example.metadata.tables["example"].c
READ = sa.select(c.id, c.title, c.completed, c.created_at).where(c.user_id == sa.bindparam("owner"))
LIST = Listing(
    READ,
    {
        "newest": [c.id.desc()],
        "created": [c.created_at, c.id],
        "title": [c.title, c.id],
        "title_down": [c.title.desc(), c.id.desc()],
        "mixed": [c.completed.desc(), c.title, c.id.desc()],
    },
    titles=c.title == sa.any_(sa.bindparam("titles")),
)
KEYS: dict[str, Any] = {
    "newest": lambda row: -row["id"],
    "created": lambda row: (row["created_at"], row["id"]),
    "title": lambda row: (row["title"], row["id"]),
    "mixed": lambda row: (not row["completed"], row["title"], -row["id"]),
}
# 12 rows: few titles and few times, so that most rows are equal in all but their id.
ROWS = """
    INSERT INTO example (user_id, title, completed, created_at)
    SELECT 'alice', (ARRAY['b', 'é', 'a"b'])[1 + n % 3], n % 2 = 0,
        TIMESTAMPTZ '2026-01-01Z' + (1 + n % 4) * INTERVAL '1 us'
    FROM generate_series(1, 12) AS n
"""
router = APIRouter(prefix="/api/lists", route_class=ApiRoute)


class InOrder(Page):
    order: str
    title: list[str] | None = None


@router.get("")
def read(
    query: Annotated[InOrder, Query()],
    database: CurrentDatabase,
    user: CurrentUser,
    request: Request,
    response: Response,
) -> list[dict[str, Any]]:
    found = Store(database, user).read_page(LIST, query.order, query.limit, cursor=query.cursor, titles=query.title)
    response.headers.update(next_link(request, found.cursor))
    return found.rows


@pytest.fixture(scope="module")
def alice(new_database: Any) -> Iterator[httpx.Client]:
    settings = Settings(database_url=new_database(), better_auth_secret=SECRET, **UNLIMITED)
    assert settings.database_url
    url = settings.database_url.get_secret_value()
    run_sql(url, f"SET app.every_row = 'on'; {ROWS}")
    with run_api(settings, partial(create_app, entities=[router])) as api, api.client("alice") as client:
        yield client


def walk(client: httpx.Client, order: str, limit: int, **query: Any) -> list[dict[str, Any]]:
    """Return the rows of all pages."""
    answer = client.get("/api/lists", params=query | {"order": order, "limit": limit})
    rows: list[dict[str, Any]] = answer.json()
    while "next" in answer.links:
        answer = client.get(answer.links["next"]["url"])
        rows += answer.json()
    return rows


def cursor_of(client: httpx.Client, order: str) -> str:
    link = client.get("/api/lists", params={"order": order, "limit": 1}).links["next"]["url"]
    return parse_qs(urlsplit(link).query)["cursor"][0]


def encode(*values: Any) -> str:
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize("order", KEYS)
@pytest.mark.parametrize("limit", [1, 5, 100])
def test_pages_hold_each_row_once_in_order(alice: httpx.Client, order: str, limit: int) -> None:
    """However many are equal in all but their id."""
    rows = walk(alice, order, limit)
    assert len({row["id"] for row in rows}) == 12
    assert all(KEYS[order](one) < KEYS[order](other) for one, other in pairwise(rows))


def test_an_order_goes_both_ways(alice: httpx.Client) -> None:
    """Downwards is upwards, backwards."""
    assert walk(alice, "title_down", 5) == walk(alice, "title", 5)[::-1]


def test_pages_keep_several_values_of_a_filter(alice: httpx.Client) -> None:
    """Each page has the rows of any of them."""
    rows = walk(alice, "title", 3, title=["b", "é"])
    assert [row["title"] for row in rows] == ["b"] * 4 + ["é"] * 4


def test_a_cursor_outlives_its_row(alice: httpx.Client) -> None:
    """It goes on where a row would be that is gone, or never was."""
    cursor = encode("title", "b", 2**62)
    assert [row["title"] for row in walk(alice, "title", 5, cursor=cursor)] == ["é"] * 4


@pytest.mark.parametrize(
    "cursor",
    [
        encode("title"),
        encode("title", "a"),
        encode("title", "a", 1, 1),
        encode("title", 1, 1),
        encode("title", "a", "1"),
        encode("title", "a", 2**63),
        encode("title", "a", 1.0),
        encode("title", "a", None),
        encode("title", None, 1),
        encode("title", ["a"], 1),
        encode("title_down", "a", 1),
        encode("title", "a\0", 1),
        encode("title", "a", 1) + "=",
        encode("title", "a", 1) + "!",
        encode("title", "a", 10) + "\n",
        "WyJ0aXRsZSIsImEiLCAxXQ",  # with a space in its JSON
        "WyJ0aXRsZSIsIlx1ZDgwMCIsMV0",  # a lone surrogate
        "W" * 6000,
        "",
        "AAAAAAAAAAE",
        "ÿ",
    ],
)
def test_a_forged_cursor_is_refused(alice: httpx.Client, cursor: str) -> None:
    """With 422, whatever it holds."""
    answer = alice.get("/api/lists", params={"order": "title", "cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("time", ["yesterday", "2026-01-01", 5, "2026-01-01T00:00:00+00:00"])
def test_a_forged_time_is_refused(alice: httpx.Client, time: Any) -> None:
    """A cursor is typed, and each value has one spelling."""
    answer = alice.get("/api/lists", params={"order": "created", "cursor": encode("created", time, 1)})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/query/cursor")


def test_a_cursor_of_another_order_is_refused(alice: httpx.Client) -> None:
    """It would name another place there."""
    for own in KEYS:
        for other in KEYS:
            answer = alice.get("/api/lists", params={"order": other, "cursor": cursor_of(alice, own)})
            assert answer.status_code == (200 if own == other else 422)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(sa.Interval(), timedelta(days=-3, microseconds=5)), (sa.Float(), float("inf")), (sa.LargeBinary(), b"\xff")],
)
def test_a_cursor_holds_every_value_of_a_column(kind: Any, value: Any) -> None:
    """Those too that JSON has no own way to write."""
    table = sa.Table(
        "any", sa.MetaData(), sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("x", kind, nullable=False)
    )
    order = Order("x", [table.c.x, table.c.id], sa.select(table))
    assert order.decode(order.encode({"x": value, "id": 1})) == {"after_x": value, "after_id": 1}


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ([c.description, c.id], "example.description may be NULL"),
        ([c.version, c.id], "example.version is not among the columns"),
        ([sa.func.lower(c.title), c.id], "is no column"),
        ([c.title], "must end with the primary key"),
    ],
)
def test_an_order_that_cannot_be_is_refused_at_the_start(columns: Any, fault: str) -> None:
    """By name, when the entity is imported."""
    with pytest.raises(ValueError, match=fault) as caught:
        Listing(READ.add_columns(c.description), {"wrong": columns})
    assert "'wrong'" in str(caught.value)
