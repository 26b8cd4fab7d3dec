"""The setting that lets the owner reach all rows: it is of no use to a request, and none can turn it on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import exc, func, select, text
from sqlmodel import col

from app.auth import Administrator, Principal
from app.db import Database
from devtools.examples.models import Example
from tests.process import ROOT
from tests.support import Api, make_token

ON = "SET LOCAL app.every_row = 'on'"
COUNT = select(func.count()).select_from(Example)
UPDATE = text("UPDATE example SET title = 'taken' RETURNING id")
ATTEMPTS: list[dict[str, Any]] = [
    {"params": {"app.every_row": "on", "every_row": "on", "limit": "50"}},
    {"headers": {"app.every_row": "on", "PGOPTIONS": "-c app.every_row=on", "X-App-Every-Row": "on"}},
    {"headers": {"Authorization": f"Bearer {make_token('bob', every_row='on', **{'app.every_row': 'on'})}"}},
    {"headers": {"Authorization": f"Bearer {make_token('bob', org_id='on', role='on')}"}},
    {"headers": {"Authorization": f"""Bearer {make_token("bob', true), set_config('app.every_row', 'on")}"""}},
]


@pytest.fixture
def database(database_url: str, alice: httpx.Client) -> Iterator[Database]:
    """The database, in which alice has a row."""
    assert alice.post("/api/examples", json={"title": "hers"}).status_code == 201
    found = Database(database_url, 1, 5)
    yield found
    found.close()


def test_with_it_on_a_user_reaches_no_more(database: Database) -> None:
    """The policy is for the owner of the table, and the roles of the API are not."""
    with database.transaction(Principal("bob")) as session:
        session.connection().exec_driver_sql(ON)
        assert session.connection().scalar(COUNT) == 0
        assert session.connection().execute(UPDATE).all() == []
    with database.transaction(Administrator("root")) as session:
        session.connection().exec_driver_sql(ON)
        with pytest.raises(exc.DBAPIError, match="permission denied"):
            session.connection().execute(UPDATE)
        session.rollback()
    assert database.execute(Principal("alice"), select(col(Example.title)), {}) == [("hers",)]


def test_it_ends_with_its_transaction(database: Database) -> None:
    """On the same connection, the next transaction of the owner sees nothing."""
    with database._engine.execution_options(isolation_level="READ COMMITTED").connect() as connection:
        with connection.begin():
            connection.exec_driver_sql(ON)
            assert connection.scalar(COUNT) == 1
        with connection.begin():
            assert connection.scalar(COUNT) == 0


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_no_request_turns_it_on(api: Api, database: Database, attempt: dict[str, Any]) -> None:
    """Neither by a parameter, a header nor a claim: bob's list stays empty, and the setting stays unset."""
    with api.client("bob") as bob:
        answer = bob.get("/api/examples", **attempt)
        assert answer.json() == [] or answer.status_code in {401, 422}, answer.text
    setting = text("SELECT current_setting('app.every_row', true)")
    assert database.execute(Principal("bob"), setting, {}) in ([("",)], [(None,)])


def test_only_migrations_name_it() -> None:
    """No other file of what production runs has the setting's name in it."""
    naming = {path for path in (ROOT / "app").rglob("*.py") if "every_row" in path.read_text()}
    assert {path.parent for path in naming} == {ROOT / Path("app/migrations")}
