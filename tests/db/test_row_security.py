"""The second lock: PostgreSQL shows a user none but own rows, whatever a query forgets, at no extra round trip."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from typing import Any

import httpx
import psycopg2
import pytest
from alembic import op
from sqlalchemy import Column, Identity, Integer, MetaData, Table, Text, exc, func, insert, select, text
from sqlmodel import col

from app.auth import Principal
from app.db import Database
from app.db.roles import ADMIN_ROLE, ROLE
from app.migrations.row_security import every_row, protect
from app.serving import verify_database
from app.settings import Settings
from devtools.examples.models import Example
from devtools.examples.schema import change_schema
from devtools.postgres import Server
from tests.support import SECRET, Api

ALICE, BOB, NOBODY = Principal("alice"), Principal("bob"), Principal("")
OWNERS = select(col(Example.user_id)).distinct()
STATE = text("""
    SELECT current_user::text AS role, current_setting('app.user_id', true) AS user_id,
           current_setting('statement_timeout') AS statement_timeout, current_setting('lock_timeout') AS lock_timeout,
           pg_backend_pid() AS pid
""")
# Three policies: of whoever asks, on own rows or the organization's; of administrators, who look and no more; and of
# the owner, who maintains the rows.
UNPROTECTED = r"""
    SELECT DISTINCT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND a.attname IN ('user_id', 'org_id')
      AND NOT (c.relrowsecurity AND c.relforcerowsecurity
               AND (SELECT count(*) = 3 AND count(*) FILTER (WHERE polroles = '{0}' AND polcmd = '*'
                           AND pg_get_expr(polqual, polrelid) ~ '^\((user|org)_id = .*''app\.\1_id'
                           AND pg_get_expr(polwithcheck, polrelid) = pg_get_expr(polqual, polrelid)) = 1
                       AND count(*) FILTER (WHERE polroles = ARRAY[to_regrole(:admin)::oid] AND polcmd = 'r') = 1
                       AND count(*) FILTER (WHERE polroles = ARRAY[c.relowner] AND polcmd = '*'
                           AND pg_get_expr(polqual, polrelid) ~ '^\(current_setting\(''app.every_row''::text, true\) = '
                           AND pg_get_expr(polwithcheck, polrelid) = pg_get_expr(polqual, polrelid)) = 1
                    FROM pg_policy WHERE polrelid = c.oid)
               AND (SELECT array_agg(privilege_type ORDER BY privilege_type) = '{DELETE,INSERT,SELECT,UPDATE}'
                    FROM aclexplode(c.relacl) WHERE grantee = to_regrole(:role))
               AND (SELECT array_agg(privilege_type) = '{SELECT}'
                    FROM aclexplode(c.relacl) WHERE grantee = to_regrole(:admin))
               AND NOT EXISTS (SELECT FROM aclexplode(c.relacl) WHERE grantee = 0))
"""


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = Database(database_url, 1, 5)
    yield found
    found.close()


@pytest.fixture
def two_users(alice: httpx.Client, bob: httpx.Client) -> None:
    for client in (alice, bob):
        assert client.post("/api/examples", json={"title": "an example"}).status_code == 201


def new_example(owner: str) -> dict[str, Any]:
    return {"user_id": owner, "title": "an example", "completed": False}


@pytest.mark.usefixtures("two_users")
def test_a_query_without_its_filter_shows_nothing_foreign(database: Database) -> None:
    """A bare SELECT, UPDATE or DELETE reaches the rows of whoever asks and no others."""
    assert database.execute(ALICE, OWNERS, {}) == [("alice",)]
    assert database.execute(BOB, select(func.count()).select_from(Example), {}) == [(1,)]
    changed = database.execute(BOB, text("UPDATE example SET title = 'taken' RETURNING user_id"), {})
    deleted = database.execute(BOB, text("DELETE FROM example RETURNING user_id"), {})
    assert changed == deleted == [("bob",)]
    assert database.execute(ALICE, select(col(Example.title)), {}) == [("an example",)]


@pytest.mark.usefixtures("two_users")
def test_nobody_writes_for_another(database: Database) -> None:
    """Neither a new row nor a changed one may belong to somebody else."""
    with pytest.raises(exc.ProgrammingError, match="row-level security"):
        database.execute(ALICE, insert(Example), new_example("bob"))
    with pytest.raises(exc.ProgrammingError, match="row-level security"):
        database.execute(ALICE, text("UPDATE example SET user_id = 'bob' RETURNING id"), {})
    assert database.execute(BOB, select(func.count()).select_from(Example), {}) == [(1,)]


@pytest.mark.usefixtures("two_users")
def test_without_a_user_there_are_no_rows(database: Database, database_url: str) -> None:
    """An empty setting, a missing one, and the owner of the tables as such all see nothing."""
    assert database.execute(NOBODY, OWNERS, {}) == []
    with pytest.raises(exc.ProgrammingError, match="row-level security"):
        database.execute(NOBODY, insert(Example), new_example(""))
    with closing(psycopg2.connect(database_url.replace("+psycopg2", ""))) as owner, owner.cursor() as cursor:
        for statement in ("SELECT 1", f"SET ROLE {ROLE}"):
            cursor.execute(statement)
            cursor.execute("SELECT count(*) FROM example")
            assert cursor.fetchone() == (0,)


def test_every_table_of_users_is_protected(cluster: Server, database_url: str) -> None:
    """Each table with a column `user_id` or `org_id` has forced row-level security, a whole policy and grants.

    So a copied entity cannot forget. No role may TRUNCATE, which no policy stops, and administrators may but look.
    """
    name = database_url.partition("?")[0].rpartition("/")[2]
    catalog = Database(cluster.superuser_url(name), 1, 5)
    with catalog._probe.connect() as connection:
        roles = {"role": ROLE, "admin": ADMIN_ROLE}
        assert connection.execute(text(UNPROTECTED), roles).all() == []
        connection.execute(text("CREATE TABLE forgotten (user_id text)"))
        connection.execute(text("CREATE TABLE forgotten_too (org_id text)"))
        assert connection.execute(text(UNPROTECTED), roles).all() == [("forgotten",), ("forgotten_too",)]
        connection.execute(text(f"GRANT UPDATE ON example TO {ADMIN_ROLE}"))
        found = connection.execute(text(UNPROTECTED), roles).scalars()
        assert sorted(found) == ["example", "forgotten", "forgotten_too"]
    catalog.close()


@pytest.mark.parametrize("name", ["table", "public.table"])
def test_a_table_may_be_called_by_a_word_of_sql(database: Database, database_url: str, name: str) -> None:
    """It is quoted, as SQLAlchemy quotes it elsewhere; a schema that is named stays one."""
    table = Table("table", MetaData(), Column("id", Integer, Identity()), Column("user_id", Text))
    with change_schema(database_url):
        table.create(op.get_bind())
        protect(name)
        with every_row():
            op.execute(insert(table).values(user_id="bob"))
    for user in (ALICE, BOB):
        database.execute(user, insert(table), {"user_id": user.user_id})
    assert database.execute(ALICE, select(table.c.user_id), {}) == [("alice",)]
    assert database.execute(BOB, select(table.c.user_id), {}) == [("bob",), ("bob",)]


def test_the_embedded_login_is_bound(database: Database) -> None:
    """Development and tests run as a login that row-level security binds, so that they meet what production meets."""
    assert database.login() == ("tasks", False, None)
    attributes = text("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname ~ '^tasks(_api|_admin)?$'")
    assert [tuple(row) for row in database.execute(ALICE, attributes, {})] == [(False, False)] * 3


def test_a_login_that_bypasses_is_told_of(
    cluster: Server,
    database_url: str,
    serve: Callable[..., AbstractContextManager[Api]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A superuser's login serves, since the role is bound all the same, with one warning at the start."""
    name = database_url.partition("?")[0].rpartition("/")[2]
    verify_database(Settings(database_url=database_url, better_auth_secret=SECRET))
    assert "superuser" not in caplog.text
    with serve(database_url=cluster.superuser_url(name)) as api, api.client("alice") as alice, api.client("bob") as bob:
        verify_database(api.settings)
        assert caplog.text.count("superuser") == 1
        made = alice.post("/api/examples", json={"title": "mine"})
        assert (made.status_code, bob.get(made.headers["Location"]).status_code) == (201, 404)
        assert bob.get("/api/examples").json() == []


def test_nothing_of_a_user_is_left_on_a_connection(database: Database) -> None:
    """After a statement, a failed one and a transaction, the pooled connection is as its login made it."""
    (before,) = database.execute(ALICE, STATE, {})
    assert (before.role, before.user_id) == (ROLE, "alice")
    assert 0 < int(before.statement_timeout.removesuffix("ms")) < 5000
    with pytest.raises(exc.DBAPIError):
        database.execute(ALICE, text("SELECT nothing"), {})
    with pytest.raises(ZeroDivisionError), database.transaction(BOB):
        raise ZeroDivisionError
    with database.transaction(BOB) as session:
        session.add(Example(**new_example("bob")))
    with database._engine.connect() as connection:
        (after,) = connection.execute(STATE).all()
        assert connection.connection.dbapi_connection.autocommit  # type: ignore[union-attr]
        assert connection.connection.dbapi_connection.info.transaction_status == 0  # type: ignore[union-attr]
    assert tuple(after) == ("tasks", "", "0", "0", before.pid)


def test_a_transaction_commits_as_a_whole(database: Database) -> None:
    """Several statements, bound to one user: all of them, or none after any exception; others see them at the end."""
    with database.transaction(ALICE) as session:
        session.add_all([Example(**new_example("alice")), Example(**new_example("alice"))])
        session.flush()
        assert session.connection().scalars(OWNERS).all() == ["alice"]
    with pytest.raises(exc.DBAPIError, match="does not exist"), database.transaction(ALICE) as session:  # noqa: PT012
        session.add(Example(**new_example("alice")))
        session.flush()
        session.connection().exec_driver_sql("SELECT nothing")
    with pytest.raises(exc.ProgrammingError, match="row-level security"), database.transaction(BOB) as session:
        session.add_all([Example(**new_example("bob")), Example(**new_example("alice"))])
    with database.transaction(BOB) as session:
        assert session.connection().scalars(OWNERS).all() == []
    assert database.execute(ALICE, select(func.count()).select_from(Example), {}) == [(2,)]


def test_one_statement_at_a_time(database: Database) -> None:
    """Several sets of parameters would not be one transaction, so they are refused; a lone one need return nothing."""
    two: Any = [new_example("alice"), new_example("alice")]
    returning = insert(Example).returning(col(Example.id))
    for statement in (insert(Example), returning, text("UPDATE example SET title = :title RETURNING id")):
        with pytest.raises(exc.InvalidRequestError, match="transaction"):
            database.execute(ALICE, statement, two)
    assert database.execute(ALICE, OWNERS, {}) == []
    assert database.execute(ALICE, insert(Example), new_example("alice")) == []
    assert database.execute(ALICE, OWNERS, {}) == [("alice",)]
