"""A table without `user_id`: everyone's to read, and nobody's to change."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import op
from fastapi import APIRouter

from app.auth import CurrentAdministrator, CurrentUser
from app.db import CurrentDatabase
from app.main import create_app
from app.migrations.row_security import share
from app.settings import Settings
from app.web.route import ApiRoute
from devtools.examples.schema import change_schema
from tests.support import SECRET, UNLIMITED, Api, make_token, run_api
from tests.telemetry.scrapes import scrape

COUNTRY = sa.table("country", sa.column("code"))
CODES = sa.select(COUNTRY.c.code).order_by(COUNTRY.c.code)
CHANGES: dict[str, sa.Executable] = {
    "insert": sa.insert(COUNTRY).values(code="xx"),
    "update": sa.text("UPDATE country SET code = 'xx' WHERE code = 'de'"),
    "delete": sa.text("DELETE FROM country"),
    "truncate": sa.text("TRUNCATE country"),
}

router = APIRouter(prefix="/api/countries", route_class=ApiRoute)


@router.get("")
def countries(database: CurrentDatabase, user: CurrentUser) -> list[Any]:
    """List all."""
    return [row.code for row in database.execute(user, CODES, {})]


@router.get("/all")
def all_countries(database: CurrentDatabase, administrator: CurrentAdministrator) -> list[Any]:
    """List all, as an administrator."""
    return [row.code for row in database.execute(administrator, CODES, {})]


@router.get("/{change}")
def change(database: CurrentDatabase, user: CurrentUser, change: str) -> None:
    """Try to change one."""
    database.execute(user, CHANGES[change], {})


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """An application of one entity, whose table a migration fills and shares."""
    with change_schema(database_url):
        op.create_table("country", sa.Column("code", sa.Text(), primary_key=True))
        op.bulk_insert(sa.table("country", sa.column("code", sa.Text())), [{"code": "de"}, {"code": "fr"}])
        share("country")
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, **UNLIMITED)
    with run_api(settings, partial(create_app, entities=(router,))) as running_api:
        yield running_api


def test_every_user_reads_all_of_a_shared_table(api: Api) -> None:
    """Two users and an administrator see the same rows."""
    for user in ("alice", "bob"):
        with api.client(user) as client:
            assert client.get("/api/countries").json() == ["de", "fr"]
    with api.client(None, Authorization=f"Bearer {make_token('root', role='admin')}") as root:
        assert root.get("/api/countries/all").json() == ["de", "fr"]


@pytest.mark.parametrize("change", CHANGES)
def test_nobody_changes_a_shared_table(api: Api, change: str) -> None:
    """The database refuses whatever the code tries; no value that a client sends can lead here, so it is a 500."""
    with api.client("alice") as alice:
        assert alice.get(f"/api/countries/{change}").status_code == 500
        assert scrape(alice).value("db_errors_total", code="42501") == 1
        assert alice.get("/api/countries").json() == ["de", "fr"]
