"""Rows of an organization: the examples' own files, changed as docs/entity.md says, over HTTP and in the database."""

import importlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import psycopg2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, exc, pool, text
from sqlmodel import SQLModel

from app import main
from app.auth import Administrator, Claims, Principal
from app.db import Database
from app.errors import Forbidden
from app.main import create_app
from app.settings import Settings
from devtools.entity import make_entity
from devtools.examples.schema import change_schema
from tests.devtools.template import AS_IT_CAME, REASON, copy_template, run
from tests.docs.pages import ROOT, apply, blocks
from tests.support import SECRET, UNLIMITED, Api, make_token, run_api

DIFF, CONFTEST = blocks("docs/entity.md", __file__)
EXAMPLES = ROOT / "devtools" / "examples"
BOARDS = "/api/keepsakes"  # the page's boards, by a name that no copy has
SETTINGS = text("SELECT current_setting('app.user_id', true), current_setting('app.org_id', true)")


def rename(text: str, old: str, new: str) -> str:
    for case in (str.lower, str.title, str.upper):
        text = text.replace(case(old), case(new))
    return text


def write_boards(folder: Path) -> None:
    """Write a copy of the examples, changed as the page says."""
    places = {name: folder / f"app/boards/{name}.py" for name in ("models", "queries", "routes")}
    for name, place in (places | {"migration": folder / "app/migrations/versions/0002_board.py"}).items():
        place.parent.mkdir(parents=True, exist_ok=True)
        source = rename((EXAMPLES / f"{name}.py").read_text(), "example", "board")
        place.write_text(source.replace("devtools.boards", "app.boards"))
    apply(folder, DIFF)


def import_keepsakes(folder: Path) -> None:
    """Let the boards in `folder` be imported by another name."""
    write_boards(folder)
    for place in folder.rglob("*.py"):
        place.write_text(rename(place.read_text().replace("app.boards", "keepsakes"), "board", "keepsake"))
    package = ModuleType("keepsakes")
    package.__path__ = [str(folder / "app/boards"), str(folder / "app/migrations/versions")]
    sys.modules["keepsakes"] = package
    importlib.import_module("keepsakes.routes")


@pytest.fixture(scope="module")
def url(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    import_keepsakes(tmp_path_factory.mktemp("copy"))
    url = new_database()
    with change_schema(url):
        importlib.import_module("keepsakes.0002_board").upgrade()
    yield url
    SQLModel.metadata.remove(SQLModel.metadata.tables["keepsake"])
    for name in [name for name in sys.modules if name.startswith("keepsakes")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def api(url: str) -> Iterator[Api]:
    """An application with one connection to the database, which all requests share."""
    routers = (*main.ENTITIES, sys.modules["keepsakes.routes"].router)
    settings = Settings(database_url=url, better_auth_secret=SECRET, database_pool_size=1, **UNLIMITED)
    with run_api(settings, partial(create_app, entities=routers)) as running_api:
        yield running_api


class Asker:
    """Sends requests as users of organizations."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def __call__(
        self, user: str, org_id: str | None, method: str = "GET", path: str = BOARDS, body: Any = None, **headers: str
    ) -> httpx.Response:
        headers["Authorization"] = f"Bearer {make_token(user, org_id=org_id)}"
        return self._client.request(method, path, json=body, headers=headers)

    def make(self, user: str, org_id: str, title: str = "a board", **headers: str) -> Any:
        made = self(user, org_id, "POST", body={"title": title}, **headers)
        assert made.status_code == 201
        return made.json()


@pytest.fixture(scope="module")
def client(api: Api) -> Iterator[httpx.Client]:
    with api.client(None) as client:
        yield client


@pytest.fixture
def ask(client: httpx.Client, url: str) -> Asker:
    """Nothing is left of the tests before."""
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as owner, owner.cursor() as cursor:
        cursor.execute("SET LOCAL app.every_row = 'on'; DELETE FROM keepsake; COMMIT")
    return Asker(client)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with closing(Database(url, 1, 5)) as found:
        yield found


def member(user: str, org_id: str | None) -> Principal:
    return Principal(user, Claims(org_id=org_id))


def test_the_pages_migration_makes_the_pages_model(url: str) -> None:
    """Columns and indexes are the same in both."""
    with create_engine(url, poolclass=pool.NullPool).connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), SQLModel.metadata)
    assert "keepsake" not in str(differences)


def test_members_share_their_rows(ask: Asker) -> None:
    """Whoever made one: each reads, lists, changes and deletes it, and it says who made it."""
    board = ask.make("alice", "acme")
    path = f"{BOARDS}/{board['id']}"
    assert board["user_id"] == "alice"
    assert ask("bob", "acme").json() == [board]
    assert ask("bob", "acme", path=path).json() == board
    changed = ask("bob", "acme", "PATCH", path, {"title": "changed"})
    assert (changed.status_code, changed.json()["user_id"]) == (200, "alice")
    assert ask("alice", "acme", path=path).json() == changed.json()
    assert ask("bob", "acme", "DELETE", path).status_code == 204
    assert ask("alice", "acme").json() == []


@pytest.mark.parametrize("user", ["alice", "carol"])
def test_another_organization_has_other_rows(ask: Asker, user: str) -> None:
    """A row is a 404 as one that never was, to the user who made it too, who asks for another organization now."""
    board = ask.make("alice", "acme")
    whole = {"title": "taken", "description": None, "completed": True}
    for org_id in ("globex", "ACME", "acme-", "acm", "alice"):
        assert ask(user, org_id).json() == []
        for method, suffix, body in (
            ("GET", "", None),
            ("PUT", "", whole),
            ("PATCH", "", {"title": "taken"}),
            ("PATCH", "/complete", None),
            ("DELETE", "", None),
        ):
            foreign = ask(user, org_id, method, f"{BOARDS}/{board['id']}{suffix}", body)
            missing = ask(user, org_id, method, f"{BOARDS}/{board['id'] + 1000}{suffix}", body)
            assert foreign.status_code == missing.status_code == 404
            assert foreign.json() | {"trace_id": ""} == missing.json() | {"trace_id": ""}
    assert ask("bob", "acme").json() == [board]


def test_who_has_no_organization_is_told_so(ask: Asker) -> None:
    """403 for every call, the user's own rows of other days included; the organization is no field of a body."""
    board = ask.make("alice", "acme")
    for method, path, body in (
        ("GET", BOARDS, None),
        ("POST", BOARDS, {"title": "t"}),
        ("GET", f"{BOARDS}/{board['id']}", None),
    ):
        refused = ask("alice", None, method, path, body)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert refused.json()["detail"] == "The token has no `org_id`."
    assert ask("alice", "globex", "POST", body={"title": "t", "org_id": "acme"}).status_code == 422


def test_a_store_that_forgets_to_ask_for_one_asks(database: Database) -> None:
    """With `CurrentUser` in the place of `CurrentMember` it answers the same 403."""
    store = sys.modules["keepsakes.queries"].KeepsakeStore(database, member("alice", None))
    with pytest.raises(Forbidden, match="org_id"):
        store.get(1)


def test_a_key_is_its_users_in_an_organization(ask: Asker) -> None:
    """A retry makes no second row; the same key of a colleague, or for another organization, makes one."""
    key = {"Idempotency-Key": "order-1"}
    first = ask.make("alice", "acme", **key)
    again = ask("alice", "acme", "POST", body={"title": "a board"}, **key)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first, "true")
    others = [ask.make("bob", "acme", "of bob", **key), ask.make("alice", "globex", **key)]
    assert len({board["id"] for board in (first, *others)}) == 3
    assert ask("bob", "acme", "POST", body={"title": "of bob"}, **key).json() == others[0]
    assert ask("alice", "acme", "POST", body={"title": "other"}, **key).json()["code"] == "idempotency_key_reused"


def test_a_users_own_rows_stay_the_users(ask: Asker) -> None:
    """An organization opens no other table: a colleague sees none of them, and the user all, whichever is active."""
    mine = ask("alice", "acme", "POST", "/api/examples", {"title": "mine"}).json()
    assert ask("bob", "acme", path="/api/examples").json() == []
    assert [ask("alice", org_id, path="/api/examples").json() for org_id in (None, "globex")] == [[mine]] * 2


def test_requests_on_one_connection_stay_apart(ask: Asker) -> None:
    """Users who change their organization with each request, and others who have none, share a connection."""
    users, organizations = [f"user_{number}" for number in range(4)], ["acme", "globex", None]

    def work(number: int) -> None:
        user, org_id = users[number % 4], organizations[number * 7 % 3]
        if org_id is None:
            assert ask(user, None).status_code == 403
            assert {row["user_id"] for row in ask(user, None, path="/api/examples").json()} <= {user}
        else:
            ask.make(user, org_id, f"of {org_id}")
            assert {board["title"] for board in ask(user, org_id).json()} == {f"of {org_id}"}

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(60)))


def test_the_database_scopes_by_organization(ask: Asker, database: Database) -> None:
    """A bare statement reaches the organization's rows and no others, in a transaction too; a user alone none."""
    for org_id in ("acme", "globex"):
        ask.make("alice", org_id)
    every, taken = text("SELECT org_id FROM keepsake"), text("UPDATE keepsake SET title = 'taken' RETURNING org_id")
    assert database.execute(member("bob", "acme"), every, {}) == [("acme",)]
    assert database.execute(member("bob", "acme"), taken, {}) == [("acme",)]
    with database.transaction(member("bob", "globex")) as session:
        assert session.connection().execute(taken).all() == [("globex",)]
        session.commit()
        assert session.connection().execute(every).all() == [("globex",)]
    for nobody in (member("alice", None), Principal(""), member("acme", None)):
        assert database.execute(nobody, every, {}) == database.execute(nobody, taken, {}) == []
        with database.transaction(nobody) as session:
            assert session.connection().execute(every).all() == []


def test_nobody_writes_for_another_organization(ask: Asker, database: Database) -> None:
    """Neither a new row, nor a changed one, may belong to another organization, or to none."""
    ask.make("alice", "acme")
    insert = text("INSERT INTO keepsake (user_id, org_id, title, completed) VALUES ('alice', :org_id, 't', false)")
    move = text("UPDATE keepsake SET org_id = :org_id RETURNING id")
    for org_id in ("globex", "", None):
        for statement in (insert, move):
            with pytest.raises(exc.ProgrammingError, match="row-level security"):
                database.execute(member("alice", "acme"), statement, {"org_id": org_id})
    for own in ("acme", "", None):
        with pytest.raises(exc.ProgrammingError, match="row-level security"):
            database.execute(member("alice", None), insert, {"org_id": own})


def test_nothing_of_an_organization_is_left_on_a_connection(database: Database) -> None:
    """After a statement, a failed one and a transaction, whoever comes next on the connection has none."""
    alice = member("alice", "acme")
    assert [*database.execute(alice, SETTINGS, {})] == [("alice", "acme")]
    assert [*database.execute(member("bob", None), SETTINGS, {})] == [("bob", "")]
    with pytest.raises(exc.DBAPIError):
        database.execute(alice, text("SELECT nothing"), {})
    assert [*database.execute(member("bob", None), SETTINGS, {})] == [("bob", "")]
    with pytest.raises(ZeroDivisionError), database.transaction(alice) as session:  # noqa: PT012
        assert session.connection().execute(SETTINGS).all() == [("alice", "acme")]
        raise ZeroDivisionError
    with database.transaction(member("bob", None)) as session:
        assert session.connection().execute(SETTINGS).all() == [("bob", "")]
    with database._engine.connect() as connection:
        assert connection.execute(SETTINGS).all() == [("", "")]


def test_an_administrator_sees_rows_of_all_organizations(ask: Asker, database: Database) -> None:
    """And changes none, the own organization's included."""
    for org_id in ("acme", "globex"):
        ask.make("alice", org_id)
    for root in (Administrator("root"), Administrator("root", Claims(org_id="acme"))):
        found = database.execute(root, text("SELECT org_id FROM keepsake ORDER BY id"), {})
        assert found == [("acme",), ("globex",)]
        with pytest.raises(exc.ProgrammingError, match="permission denied"):
            database.execute(root, text("UPDATE keepsake SET title = 'taken' RETURNING id"), {})


CHECKS = (
    "tests/db/test_row_security.py::test_every_table_of_users_is_protected",
    "tests/migrations/test_migrations.py::test_the_models_are_what_was_migrated",
)


@pytest.mark.slow
@pytest.mark.skipif(not AS_IT_CAME, reason=REASON)
def test_a_copy_with_boards_of_organizations_stays_green(tmp_path: Path) -> None:
    """The tests that came with the boards hold between organizations, once the page's users have one each."""
    copy = copy_template(tmp_path / "a copy")
    make_entity(copy, "board")
    apply(copy, DIFF)
    (copy / "tests/boards/conftest.py").write_text(CONFTEST)
    run(copy, sys.executable, "-m", "pytest", "-q", "tests/boards", *CHECKS)
