"""A transaction pooler stands between: PgBouncer, as Neon and others run it, with one connection for everybody."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy.exc import OperationalError

from app.db import Database
from app.settings import Settings
from devtools.examples.schema import migrate
from tests.copies import copy_project
from tests.migrations.team import add_migration
from tests.pgbouncer import pgbouncer
from tests.postmaster import Postmaster
from tests.process import run_command
from tests.support import SECRET, UNLIMITED, make_token, run_api

USERS = [f"user_{number}" for number in range(20)]
REQUESTS = 2000
LATER = """
create_index("example_title", "example", ["title"], concurrently=True)
backfill("example", "description = 'filled'", where="description IS NULL")
""".strip()


@pytest.fixture
def pooler(postmaster: Postmaster, request: pytest.FixtureRequest) -> Iterator[str]:
    """The host and port of a PgBouncer with one connection for each database, or so many; it speaks TLS alone."""
    with pgbouncer(postmaster, getattr(request, "param", 1)) as address:
        yield address


def settings(url: str) -> Settings:
    return Settings(database_url=url, better_auth_secret=SECRET, **UNLIMITED)


def test_twenty_users_on_one_connection_leak_nothing(postmaster: Postmaster, pooler: str) -> None:
    """Two thousand interleaved requests share one server connection; each is answered with its user's rows alone.

    Whoever comes after them by another way finds nothing of a user on that connection.
    """
    name = postmaster.new_database()
    url = f"postgres://tasks@{pooler}/{name}?sslmode=require"
    tokens = {user: make_token(user, org_id=f"of_{user}" if number % 2 else None) for number, user in enumerate(USERS)}

    def ask(number: int) -> None:
        user = USERS[number * 7 % len(USERS)]
        headers = {"Authorization": f"Bearer {tokens[user]}"}
        if number % 3 == 0:
            made = client.post("/api/examples", json={"title": f"of {user}"}, headers=headers)
            assert (made.status_code, made.json()["user_id"]) == (201, user)
        else:
            page = client.get("/api/examples?limit=10", headers=headers)
            assert page.status_code == 200
            assert {(example["user_id"], example["title"]) for example in page.json()} <= {(user, f"of {user}")}

    with run_api(settings(url)) as api, api.client(None) as client:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(ask, range(REQUESTS)))
        for user in USERS:
            page = client.get("/api/examples?limit=100", headers={"Authorization": f"Bearer {tokens[user]}"})
            assert {example["user_id"] for example in page.json()} == {user}
    assert postmaster.ask("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()", name) == [(2,)]
    with closing(psycopg2.connect(url)) as stranger, stranger.cursor() as cursor:
        settings_left = "current_setting('app.user_id', true), current_setting('app.org_id', true)"
        cursor.execute(f"SELECT current_user, {settings_left}, count(*) FROM example")
        assert cursor.fetchone() == ("tasks", "", "", 0)


@pytest.mark.parametrize("pooler", [2], indirect=True)
def test_a_schema_can_be_migrated_through_the_pooler(postmaster: Postmaster, pooler: str, tmp_path: Path) -> None:
    """Where there is no direct host the pooler will do: one connection holds the lock of migrations, another works."""
    postmaster.ask("CREATE DATABASE pooled OWNER tasks")
    url = f"postgres://tasks@{pooler}/pooled?sslmode=require"
    migrate(url)
    with run_api(settings(url)) as api, api.client() as client:
        assert client.post("/api/examples", json={"title": "an example"}).status_code == 201
    add_migration(copy_project(tmp_path), LATER)
    migrated = run_command(["migrate"], url, tmp_path)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert postmaster.ask("SELECT description FROM example", "pooled") == [("filled",)]
    left = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    assert postmaster.ask(left, "pooled") == [(0,)]


def test_what_a_url_says_of_the_connection_is_kept(postmaster: Postmaster, pooler: str) -> None:
    """`postgres://`, `sslmode` and `channel_binding` reach the driver, which honours or refuses them."""
    database = postmaster.new_database()
    for scheme in ("postgres", "postgresql"):
        with closing(
            Database.from_settings(settings(f"{scheme}://tasks@{pooler}/{database}?sslmode=require"))
        ) as found:
            assert found.login().name == "tasks"
    for query, refusal in (
        ("sslmode=disable", "SSL required"),
        ("sslmode=verify-full", "root certificate"),
        ("sslmode=require&channel_binding=require", "channel binding"),
    ):
        url = f"postgres://tasks@{pooler}/{database}?{query}"
        with closing(Database.from_settings(settings(url))) as refused, pytest.raises(OperationalError, match=refusal):
            refused.login()
