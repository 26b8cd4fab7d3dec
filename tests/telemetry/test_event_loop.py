"""Code on the event loop's thread that asks the database: refused while it is written, and told of in production."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from io import StringIO
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import text

from app.auth import CurrentUser
from app.db import CurrentDatabase, CurrentSession
from app.web.route import ApiRoute
from tests.support import Api, wait_until

ONE = text("SELECT 1")
SIZE = 8  # of the pool
REMEDY = "write it with `def`, or `await run_in_threadpool(...)` of fastapi.concurrency"

router = APIRouter(prefix="/api/on-loop", route_class=ApiRoute)
Start = Callable[..., AbstractContextManager[Api]]


async def count_rows(database: CurrentDatabase, user: CurrentUser) -> int:
    return len(database.execute(user, ONE, {}))


def count_rows_in_thread(session: CurrentSession) -> int:
    return len(session.connection().execute(ONE).all())


@router.get("/execute")
async def execute(database: CurrentDatabase, user: CurrentUser) -> int:
    return len(database.execute(user, ONE, {}))


@router.get("/dependency")
def dependency(number: Annotated[int, Depends(count_rows)]) -> int:
    return number


@router.get("/transaction")
async def transaction(database: CurrentDatabase, user: CurrentUser) -> int:
    with database.transaction(user) as session:
        return len(session.connection().execute(ONE).all())


@router.get("/session")
async def begun_in_thread(number: Annotated[int, Depends(count_rows_in_thread)], session: CurrentSession) -> int:
    return number * len(session.connection().execute(ONE).all())


@router.get("/background")
async def background(tasks: BackgroundTasks, database: CurrentDatabase, user: CurrentUser) -> int:
    tasks.add_task(count_rows, database, user)
    return 1


@router.get("/thread")
async def in_thread(database: CurrentDatabase, user: CurrentUser) -> int:
    return len(await run_in_threadpool(database.execute, user, ONE, {}))


BLOCKING = [f"/api/on-loop/{name}" for name in ("execute", "dependency", "transaction", "session")]


def said(log: StringIO, level: str) -> list[str]:
    """Return the JSON lines of this level that say what to do."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]
    return [line["message"] for line in lines if line["level"] == level and REMEDY in line["message"]]


@pytest.mark.parametrize("path", BLOCKING)
def test_a_statement_on_the_event_loop_is_an_error(traced: Start, log: StringIO, path: str) -> None:
    """A 500 whose log line says what to do, in JSON and in a terminal; no connection is lost by it."""
    with traced([router]) as api, api.client() as client:
        assert {client.get(path).status_code for _ in range(SIZE + 1)} == {500}
        assert client.get("/api/on-loop/thread").json() == 1
    assert said(log, "ERROR")[0].startswith(f"{path}: ")
    assert f"ERROR   {path}: " in log.getvalue()


def test_so_is_one_of_a_background_example(traced: Start, log: StringIO) -> None:
    """Its answer is sent already."""
    with traced([router]) as api, api.client() as client:
        assert client.get("/api/on-loop/background").json() == 1
        wait_until(lambda: said(log, "ERROR"))
        assert client.get("/api/on-loop/thread").json() == 1


def test_in_production_it_is_a_warning(traced: Start, log: StringIO) -> None:
    """It works, however slow it makes the others, and each route is told of once."""
    paths = [*BLOCKING, "/api/on-loop/background", "/api/on-loop/thread"]
    with traced([router], environment="production") as api, api.client() as client:
        assert [client.get(path).json() for path in paths * 2] == [1] * 12
        wait_until(lambda: len(said(log, "WARNING")) >= len(paths) - 1)
    told = [message.partition(":")[0] for message in said(log, "WARNING")]
    assert sorted(told) == sorted(paths[:-1])
