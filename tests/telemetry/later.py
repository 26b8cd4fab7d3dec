"""An entity whose endpoints go on after their answer has begun; `seen` is what they found then."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Body, Depends
from fastapi.responses import StreamingResponse
from sqlalchemy import text

from app.auth import CurrentUser
from app.db import CurrentDatabase, CurrentSession
from app.web.route import ApiRoute

TIMEOUT_S = 0.4
LATER_S = 0.6
COUNT = text("SELECT count(*) FROM example")

router = APIRouter(prefix="/api/later", route_class=ApiRoute)
seen: list[Any] = []
kept: set[asyncio.Task[None]] = set()


@router.post("/background")
def background(tasks: BackgroundTasks, database: CurrentDatabase, user: CurrentUser) -> str:
    def ask() -> None:
        time.sleep(LATER_S)
        seen.append(database.execute(user, COUNT, {})[0][0])

    tasks.add_task(ask)
    return "begun"


@router.post("/example")
async def example(database: CurrentDatabase, user: CurrentUser) -> str:
    async def ask() -> None:
        await asyncio.sleep(LATER_S)
        seen.append((await asyncio.to_thread(database.execute, user, COUNT, {}))[0][0])

    kept.add(asyncio.create_task(ask()))
    return "begun"


@router.get("/stream")
def stream(database: CurrentDatabase, user: CurrentUser) -> StreamingResponse:
    def lines() -> Iterator[str]:
        yield "first\n"
        time.sleep(LATER_S)
        yield f"{database.execute(user, COUNT, {})[0][0]}\n"
        time.sleep(LATER_S)
        with database.transaction(user) as session:
            yield f"{session.connection().execute(COUNT).scalar()}\n"

    return StreamingResponse(lines())


@router.get("/locked")
def locked(database: CurrentDatabase, user: CurrentUser) -> StreamingResponse:
    def lines() -> Iterator[str]:
        yield "first\n"
        database.execute(user, COUNT, {})

    return StreamingResponse(lines())


@router.post("/failing")
def failing(name: Annotated[str, Body()], tasks: BackgroundTasks) -> str:
    def fail() -> None:
        raise ValueError(name)

    tasks.add_task(fail)
    return "begun"


@router.post("/broken")
def broken(name: Annotated[str, Body()]) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        yield "first\n"
        raise LookupError(name)

    return StreamingResponse(lines())


async def teardown(name: Annotated[str, Body()]) -> AsyncIterator[str]:
    yield "opened"
    raise ValueError(name)


@router.post("/teardown")
async def tear_down(opened: Annotated[str, Depends(teardown)]) -> str:
    return opened


@router.post("/lost")
async def lost(name: Annotated[str, Body()]) -> str:
    async def fail() -> None:
        raise ValueError(name)

    asyncio.create_task(fail())  # noqa: RUF006  nobody keeps it
    return "begun"


@router.post("/session")
def add(session: CurrentSession, user: CurrentUser) -> list[int]:
    insert = text("INSERT INTO example (user_id, title, completed) VALUES (:user, 'in a session', false)")
    found = []
    for _ in range(2):
        session.connection().execute(insert, {"user": user.user_id})
        session.commit()
        found.append(session.connection().execute(COUNT).scalar_one())
    return found
