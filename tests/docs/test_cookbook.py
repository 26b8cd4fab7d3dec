"""The recipes of docs/cookbook.md, in one application."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

import httpx
import psycopg2
import pytest
import sqlalchemy as sa
from alembic import op
from sqlmodel import SQLModel

from app.auth import Principal
from app.db import Database
from app.main import create_app
from app.migrations.row_security import protect
from app.settings import Settings
from devtools.examples.schema import change_schema
from tests.copies import copy_project
from tests.docs.pages import blocks
from tests.process import needed, run_command
from tests.support import SECRET, UNLIMITED, Api, make_token, run_api, wait_until

BLOCKS = blocks("docs/cookbook.md", __file__)
JOB = next(block for block in BLOCKS if '__name__ == "__main__"' in block)
MIGRATION = next(block for block in BLOCKS if "def upgrade" in block)
SCRIPT = next(block for block in BLOCKS if block.startswith("async function"))
BOARDS = "\n".join(block for block in BLOCKS if block not in {JOB, MIGRATION, SCRIPT})
TIMEOUT_S = 0.5
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def boards() -> Iterator[ModuleType]:
    """The module of the page; its tables are no part of the application's own, which may have boards too."""
    own, SQLModel.metadata = SQLModel.metadata, sa.MetaData()
    module = ModuleType("app.boards")
    with pytest.MonkeyPatch.context() as modules:
        modules.setitem(sys.modules, module.__name__, module)
        exec(BOARDS, module.__dict__)  # noqa: S102  our own page
        module.__dict__["metadata"], SQLModel.metadata = SQLModel.metadata, own
        yield module


@pytest.fixture(scope="module")
def url(boards: ModuleType, new_database: Any) -> str:
    """A database with the tables of the page."""
    url: str = new_database()
    migration: dict[str, Any] = {}
    exec(MIGRATION, migration)  # noqa: S102  our own page
    with change_schema(url):
        op.execute("DROP TABLE IF EXISTS board, card, file, country, sales CASCADE")
        tables = [table for table in boards.metadata.sorted_tables if "user_id" in table.c]
        boards.metadata.create_all(op.get_bind(), tables)
        for table in tables:
            protect(table.name)
        migration["upgrade"]()
        op.create_table("sales", sa.Column("id", sa.Integer(), primary_key=True))
    return url


@pytest.fixture(scope="module")
def api(boards: ModuleType, url: str) -> Iterator[Api]:
    routers = [boards.boards, boards.cards, boards.files, boards.countries, boards.reports]
    settings = Settings(
        database_url=url, better_auth_secret=SECRET, request_deadline_ms=int(TIMEOUT_S * 1000), **UNLIMITED
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WAREHOUSE_URL", url)
        with run_api(settings, partial(create_app, entities=routers)) as served:
            yield served


Create = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def board_of(boards: ModuleType, api: Api) -> Iterator[Callable[[str], int]]:
    """A function that gives a user a board."""
    database = Database.from_settings(api.settings)

    def create(user: str) -> int:
        with database.transaction(Principal(user)) as session:
            board = boards.Board(user_id=user, name="a board")
            session.add(board)
        number: int = board.id
        return number

    yield create
    database.close()


@pytest.fixture
def create(board_of: Callable[[str], int]) -> Create:
    """A function that gives a user a board with these cards."""

    def create(client: httpx.Client, user: str, *titles: str, **fields: Any) -> list[dict[str, Any]]:
        board = board_of(user)
        answer = client.post("/api/cards/bulk", json=[{"board_id": board, "title": title} | fields for title in titles])
        assert answer.status_code == 201
        created: list[dict[str, Any]] = answer.json()
        return created

    return create


def titles(client: httpx.Client, **query: Any) -> list[list[str]]:
    """The titles of each page, to the last."""
    answer = client.get("/api/cards", params=query)
    pages = [answer]
    while "next" in answer.links:
        answer = client.get(answer.links["next"]["url"])
        pages.append(answer)
    assert {page.status_code for page in pages} == {200}
    return [[card["title"] for card in page.json()] for page in pages]


def test_a_child_refers_to_no_other_users_parent(api: Api, board_of: Callable[[str], int]) -> None:
    """Another user's board is as one that never was: a conflict, and no row."""
    with api.client("child-a") as alice, api.client("child-b") as bob:
        own = board_of("child-a")
        statuses = [
            client.post("/api/cards", json={"board_id": board, "title": "a card"}).status_code
            for client, board in ((alice, own), (bob, own), (bob, 999_999))
        ]
        assert statuses == [201, 409, 409]
        assert (titles(alice), titles(bob)) == ([["a card"]], [[]])


def test_filters_and_orders(api: Api, create: Create) -> None:
    """Several values of one parameter, and pages by title, in which equal titles have their order too."""
    with api.client("lists") as alice:
        create(alice, "lists", "b", "a", "a")
        create(alice, "lists", "c", status="done")
        assert titles(alice, order="title", limit=2) == [["a", "a"], ["b", "c"]]
        assert titles(alice, order="title", limit=1) == [["a"], ["a"], ["b"], ["c"]]
        assert titles(alice, status=["open", "done"]) == [["c", "a", "a", "b"]]
        assert titles(alice, status="done") == [["c"]]
        assert alice.get("/api/cards", params={"status": "lost"}).status_code == 422


def test_a_page_by_title_is_one_range_of_its_index(boards: ModuleType, url: str) -> None:
    """However many cards there are, it reads those of the page."""
    statement = str(boards.CARDS.page("title", ("cursor",)).compile(sa.create_engine("postgresql+psycopg2://")))
    given = {"owner": "lists", "after_title": "a", "after_id": 1, "page_limit": 3}
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection, connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off; SET enable_sort = off; SET ROLE tasks_api")
        cursor.execute(f"EXPLAIN {statement}", given)
        plan = "\n".join(line for (line,) in cursor)
    assert "Index Scan using card_user_id_title_id" in plan
    assert re.search(r"Index Cond: .*ROW\(\(?title\)?(::text)?, id\) > ROW", plan), plan


def test_a_file_comes_back_to_its_owner(api: Api) -> None:
    """As bytes that no browser runs, under the name that it had; nobody else has it."""
    with api.client("files-a") as alice, api.client("files-b") as bob:
        content = b"x" * 1024 * 1024
        number = alice.post("/api/files", files={"file": ("naïve.html", content)}).json()["id"]
        answer = alice.get(f"/api/files/{number}")
        assert (answer.content, answer.headers["Content-Type"]) == (content, "application/octet-stream")
        assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''na%C3%AFve.html"
        assert bob.get(f"/api/files/{number}").status_code == 404
        assert alice.post("/api/files", files={"file": b"x" * 6 * 1024 * 1024}).status_code == 413


def test_bulk_is_all_or_nothing(api: Api, create: Create) -> None:
    """One card that is refused takes the others back."""
    with api.client("bulk") as alice:
        (good, _) = create(alice, "bulk", "first", "second")
        bad = {"board_id": 999_999, "title": "third"}
        assert alice.post("/api/cards/bulk", json=[good | {"title": "fourth"}, bad]).status_code == 409
        for text in ("a\0", "\ud800"):
            body = json.dumps([good | {"title": text}] * 2)
            assert alice.post("/api/cards/bulk", content=body, headers=JSON).status_code == 422
        assert titles(alice) == [["second", "first"]]


def test_work_goes_on_after_the_answer(api: Api, create: Create) -> None:
    """And changes only the user's own rows."""
    with api.client("after-a") as alice, api.client("after-b") as bob:
        (card,) = create(alice, "after-a", "a card")
        for client in (bob, alice):
            assert client.post(f"/api/boards/{card['board_id']}/finish").status_code == 202
        wait_until(lambda: titles(alice, status="done") == [["a card"]])


def test_a_job_acts_as_each_user(api: Api, create: Create, url: str, tmp_path: Path) -> None:
    """It finds the users as an administrator, and sees the rows of one at a time."""
    with api.client("job-a") as alice, api.client("job-b") as bob:
        create(alice, "job-a", "one", "two")
        create(bob, "job-b", "three")
    copy_project(tmp_path)
    shutil.rmtree(tmp_path / "app/boards", ignore_errors=True)
    for name, text in (("boards", BOARDS), ("reminders", JOB)):
        (tmp_path / "app" / f"{name}.py").write_text(text)
    done = run_command([], url, tmp_path, module="app.reminders")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    told = {line["user_id"]: line["open"] for line in lines if line["message"] == "reminded"}
    assert (told["job-a"], told["job-b"]) == (2, 1)


def test_everyone_reads_the_countries(api: Api) -> None:
    """Without a token."""
    with api.client(None) as stranger:
        assert stranger.get("/countries").json() == [{"code": "de"}, {"code": "fr"}]


def test_a_second_database_has_the_same_deadline(api: Api, url: str) -> None:
    """It answers; and when it does not, it is given up in time."""
    with api.client("sales") as alice, closing(psycopg2.connect(url.replace("+psycopg2", ""))) as other:
        assert alice.get("/api/reports/sales").json() == 0
        other.cursor().execute("LOCK TABLE sales")
        started = monotonic()
        answer = alice.get("/api/reports/sales")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert monotonic() - started < TIMEOUT_S + 1


def test_a_script_reads_the_events(api: Api, create: Create) -> None:
    """It sends its token, and has each of the user's cards."""
    with api.client("events") as alice:
        create(alice, "events", "first", "second")
    call = f"""
        const headers = {{ Authorization: "Bearer {make_token("events")}" }};
        const call = (path) => fetch("{api.url}" + path, {{ headers }});
        for await (const card of readCards()) {{
          console.log(card.title);
          if (card.title === "second") process.exit();
        }}"""
    command = [needed("node"), "--input-type=module", "--eval", SCRIPT + call]
    found = subprocess.run(command, check=True, timeout=30, capture_output=True, text=True)
    assert found.stdout.split() == ["first", "second"]
