"""An administrator looks across users: by a role of the database that may do no more, and never unseen."""

import json
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import httpx
import pytest
from fastapi import APIRouter
from sqlalchemy import Executable, exc, func, insert, select, text
from sqlmodel import col

from app.auth import Administrator, CurrentAdministrator, CurrentUser
from app.auth.tokens import principal_of
from app.db import CurrentDatabase, Database
from app.main import ENTITIES, create_app
from app.settings import Settings
from app.telemetry.logs import JsonFormatter
from app.web.route import ApiRoute
from devtools.examples.models import Example
from tests.key_server import ED, KeyServer
from tests.support import SECRET, UNLIMITED, Api, make_token, run_api
from tests.telemetry.scrapes import scrape

OWNERS = select(col(Example.user_id)).distinct().order_by(col(Example.user_id))
CHANGES: dict[str, Executable] = {
    "INSERT": insert(Example).values(user_id="root", title="an example", completed=False),
    "UPDATE": text("UPDATE example SET title = 'taken'"),
    "DELETE": text("DELETE FROM example"),
    "SELECT": select(col(Example.id)).with_for_update(),
    "TRUNCATE": text("TRUNCATE example"),
}

router = APIRouter(prefix="/api/admin", route_class=ApiRoute)


@router.get("/owners")
def owners(database: CurrentDatabase, administrator: CurrentAdministrator) -> list[str]:
    """List who has examples."""
    return [row.user_id for row in database.execute(administrator, OWNERS, {})]


@router.get("/transaction")
def transaction(database: CurrentDatabase, administrator: CurrentAdministrator) -> list[Any]:
    """List who has examples, and how many there are."""
    with database.transaction(administrator) as session:
        found = session.connection().scalars(OWNERS).all()
        return [*found, session.connection().scalar(select(func.count()).select_from(Example))]


@router.get("/both")
def both(database: CurrentDatabase, user: CurrentUser, administrator: CurrentAdministrator) -> list[list[str]]:
    """Ask the same as the user and as the administrator, in turns."""
    turns = (user, administrator, user)
    return [[row.user_id for row in database.execute(turn, OWNERS, {})] for turn in turns]


@router.get("/mine")
def mine(database: CurrentDatabase, user: CurrentUser) -> list[str]:
    """Ask for everyone's rows as whoever asks."""
    return [row.user_id for row in database.execute(user, OWNERS, {})]


@router.get("/change/{change}")
def change(
    database: CurrentDatabase,
    administrator: CurrentAdministrator,
    change: Literal["INSERT", "UPDATE", "DELETE", "SELECT", "TRUNCATE"],
) -> None:
    """Try to change something."""
    database.execute(administrator, CHANGES[change], {})


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The application with an administrator's routes; alice and bob have an example each."""
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, **UNLIMITED)
    with run_api(settings, partial(create_app, entities=(*ENTITIES, router))) as running_api:
        for name in ("alice", "bob"):
            with running_api.client(name) as client:
                assert client.post("/api/examples", json={"title": f"of {name}"}).status_code == 201
        yield running_api


def bearer(**claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {make_token('root', **claims)}"}


@pytest.fixture
def root(api: Api) -> Iterator[httpx.Client]:
    """An administrator, who has no examples."""
    with api.client(None, **bearer(role="admin")) as client:
        yield client


def test_an_administrator_sees_rows_of_all_users(root: httpx.Client) -> None:
    """By one statement as in a transaction, and however often the same token comes."""
    assert [root.get("/api/admin/owners").json() for _ in range(2)] == [["alice", "bob"]] * 2
    assert root.get("/api/admin/transaction").json() == ["alice", "bob", 2]
    operation = root.get("/openapi.json").json()["paths"]["/api/admin/owners"]["get"]
    assert (operation["security"], "403" in operation["responses"]) == ([{"betterAuth": []}], True)


def test_nobody_else_does(api: Api, alice: httpx.Client) -> None:
    """A user is told that this is for administrators, a stranger to send a token; both before anything is looked up."""
    refused = alice.get("/api/admin/owners")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert refused.json()["detail"] == "The token has no `role`."
    with api.client(None) as stranger:
        assert stranger.get("/api/admin/owners").status_code == 401
    assert scrape(alice).value("admin_statements_total") == 0


def test_an_administrator_as_a_user_is_a_user(api: Api, root: httpx.Client) -> None:
    """As an ordinary principal, in the same request too, an administrator sees own rows alone."""
    assert root.get("/api/admin/mine").json() == []
    assert root.get("/api/examples").json() == []
    assert root.get("/api/admin/both").json() == [[], ["alice", "bob"], []]
    with api.client("alice") as alice:
        assert alice.get("/api/admin/mine").json() == ["alice"]


@pytest.mark.parametrize("change", CHANGES)
def test_an_administrator_changes_nothing(api: Api, root: httpx.Client, change: str) -> None:
    """The database refuses to write, to lock and to empty a table: such a route is a mistake of the code."""
    assert root.get(f"/api/admin/change/{change}").status_code == 500
    assert scrape(root).value("db_errors_total", code="42501") == 1
    for name in ("alice", "bob"):
        with api.client(name) as client:
            assert [example["title"] for example in client.get("/api/examples").json()] == [f"of {name}"]


ROLES = [
    ("admin", 200),
    ("user,admin", 200),
    ("admin,editor", 200),
    (["user", "admin"], 200),
    ("user", 403),
    ("", 403),
    ("administrator", 403),
    ("Admin", 403),
    ("user, admin", 403),
    ("superadmin,user", 403),
    (["superadmin", "user,admin"], 403),
    ([], 403),
    (None, 403),
]


@pytest.mark.parametrize(("role", "status"), ROLES)
def test_the_tokens_role_says_who_is_one(api: Api, role: Any, status: int) -> None:
    """`admin` in a list, or among the roles that Better Auth separates by commas; anything else makes none."""
    with api.client(None, **bearer(role=role)) as client:
        assert [client.get("/api/admin/owners").status_code for _ in range(2)] == [status] * 2
        assert client.get("/api/admin/mine").json() == []
    assert principal_of({"sub": "root", "role": role}).is_administrator is (status == 200)


def test_a_token_by_key_says_so_too(issuer: KeyServer, database_url: str) -> None:
    """Better Auth's own tokens, signed by its keys, carry the role of their user."""
    settings = Settings(database_url=database_url, better_auth_url=issuer.url, **UNLIMITED)
    with run_api(settings, partial(create_app, entities=(router,))) as api, api.client(None) as client:
        for role, status in (("admin", 200), ("user", 403)):
            headers = {"Authorization": f"Bearer {ED.token(issuer.url, role=role)}"}
            assert client.get("/api/admin/owners", headers=headers).status_code == status


def test_each_statement_is_written_down(root: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """A line for each, in transactions too: who, what and in which trace, without a value; none for a user's own."""
    caplog.set_level(logging.INFO, "app.admin")
    caplog.handler.setFormatter(JsonFormatter())
    answers = [root.get(f"/api/admin/{path}") for path in ("owners", "transaction", "mine", "change/INSERT")]
    lines = [json.loads(line) for line in caplog.text.splitlines() if '"app.admin"' in line]
    told = ["SELECT example", "SELECT example", "SELECT example", "INSERT example"]
    assert [line["message"] for line in lines] == [f"administrator root: {query}" for query in told]
    assert [(line["user_id"], line["query"]) for line in lines] == [("root", query) for query in told]
    traces = [answers[number].headers["x-trace-id"] for number in (0, 1, 1, 3)]
    assert [line["trace_id"] for line in lines] == traces
    assert "FROM example" in lines[0]["db.query.text"]
    assert "an example" not in caplog.text


def test_each_statement_is_counted(root: httpx.Client) -> None:
    """By command and table, from 0 on, refused ones too; a preamble and a user's own statement are none."""
    names = {"operation": "SELECT", "table": "example"}
    assert scrape(root).value("admin_statements_total", **names) == 0
    for path in ("owners", "transaction", "mine", "change/DELETE", "change/INSERT"):
        root.get(f"/api/admin/{path}")
    seen = scrape(root)
    assert seen.value("admin_statements_total", **names) == 3
    assert seen.value("admin_statements_total", operation="INSERT", table="example") == 1
    assert seen.value("admin_statements_total", operation="DELETE", table="none") == 1
    assert seen.value("admin_statements_total") == 5


def test_a_log_without_metrics_is_kept_all_the_same(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither METRICS_ENABLED=false nor OTEL_SDK_DISABLED=true makes an administrator unseen."""
    caplog.set_level(logging.INFO, "app.admin")
    settings = Settings(
        database_url=database_url, better_auth_secret=SECRET, metrics_enabled=False, otel_sdk_disabled=True
    )
    with run_api(settings, partial(create_app, entities=(router,))) as api, api.client(None) as client:
        assert client.get("/api/admin/owners", headers=bearer(role="admin")).status_code == 200
    assert "administrator root: SELECT example" in caplog.messages


def test_a_principal_is_an_administrator_by_its_class(database_url: str) -> None:
    """Code without a request may look as well; what is slow is explained as the role that asked."""
    database, looking = Database(database_url, 1, 5), Administrator("job")
    plan = database.explain(looking, "SELECT user_id FROM example", {})
    assert "app.user_id" not in json.dumps(plan)
    with pytest.raises(exc.ProgrammingError, match="permission denied"):
        database.execute(looking, CHANGES["UPDATE"], {})
    database.close()
