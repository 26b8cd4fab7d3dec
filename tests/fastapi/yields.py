"""Tutorial: Dependencies with yield: the order in which they run, and their exceptions."""

from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, HTTPException
from fastapi.responses import StreamingResponse

from tests.fastapi.case import Routes, note

routes = Routes("/api/yields")
router = routes.router

WORD: ContextVar[str] = ContextVar("word", default="nothing")


class OwnerError(Exception):
    pass


def session() -> Iterator[str]:
    note("open")
    try:
        yield "session"
    finally:
        note("close")


async def first() -> AsyncIterator[str]:
    note("open first")
    try:
        yield "first"
    finally:
        note("close first")


def second(value: Annotated[str, Depends(first)]) -> Iterator[str]:
    note("open second")
    try:
        yield f"{value} second"
    finally:
        note("close second")


async def third(value: Annotated[str, Depends(second)]) -> AsyncIterator[str]:
    note("open third")
    try:
        yield f"{value} third"
    finally:
        note("close third")


def username() -> Iterator[str]:
    try:
        yield "Rick"
    except OwnerError as error:
        note("caught")
        raise HTTPException(status_code=400, detail=f"Owner error: {error}") from None


async def watch_errors() -> AsyncIterator[str]:
    try:
        yield "seen"
    except HTTPException as error:
        note(f"saw {error.status_code}")
        raise


def swallow() -> Iterator[None]:
    try:
        yield
    except OwnerError:
        note("swallowed")


def raise_at_end() -> Iterator[None]:
    yield
    note("too late")
    raise HTTPException(status_code=418, detail="Too late")


async def set_word() -> AsyncIterator[None]:
    token = WORD.set("a word")
    yield
    note(WORD.get())
    WORD.reset(token)


@routes.get("/sync")
def sync(value: Annotated[str, Depends(session)], background: BackgroundTasks) -> Any:
    background.add_task(note, "background")
    note("endpoint")
    return value


@routes.get("/function")
async def function(
    value: Annotated[str, Depends(session, scope="function")],
    other: Annotated[str, Depends(first)],
    background: BackgroundTasks,
) -> Any:
    background.add_task(note, "background")
    note("endpoint")
    return [value, other]


@routes.get("/order")
async def order(value: Annotated[str, Depends(third)], again: Annotated[str, Depends(first)]) -> Any:
    note("endpoint")
    return [value, again]


@routes.get("/owner/{item_id}")
def owner(item_id: str, username: Annotated[str, Depends(username)], value: Annotated[str, Depends(session)]) -> Any:
    if item_id == "missing":
        raise HTTPException(status_code=404, detail="Item not found")
    if item_id != username:
        raise OwnerError(username)
    return [item_id, value]


@routes.get("/seen", dependencies=[Depends(watch_errors)])
async def use_seen() -> Any:
    raise HTTPException(status_code=409, detail={"reason": "taken"})


@routes.get("/swallowed", dependencies=[Depends(swallow)])
def use_swallowed() -> Any:
    raise OwnerError


@routes.get("/late", dependencies=[Depends(raise_at_end)])
def late() -> Any:
    return "already sent"


@routes.get("/in-time", dependencies=[Depends(raise_at_end, scope="function")])
def in_time() -> Any:
    return "never sent"


@routes.get("/word", dependencies=[Depends(set_word)])
def word() -> Any:
    return WORD.get()


@routes.get("/word-async", dependencies=[Depends(set_word)])
async def word_async() -> Any:
    return WORD.get()


@routes.get("/stream")
def stream(value: Annotated[str, Depends(session)]) -> StreamingResponse:
    def parts() -> Iterator[str]:
        for number in range(3):
            note(number)
            yield f"{value} {number}\n"

    return StreamingResponse(parts(), media_type="text/plain")


@routes.get("/wrong")
def wrong(value: Annotated[str, Depends(session)], size: int) -> Any:
    return [value, size]


case = routes.case
CASES = [
    case("a generator, closed after background tasks", "GET /sync"),
    case("closed before the answer", "GET /function"),
    case("three, closed in reverse", "GET /order"),
    case("nothing raised", "GET /owner/Rick"),
    case("an exception that becomes an error", "GET /owner/Morty"),
    case("an HTTPException that passes by", "GET /owner/missing"),
    case("an HTTPException that is seen", "GET /seen"),
    case("an exception that is swallowed", "GET /swallowed"),
    case("an exception after the answer", "GET /late"),
    case("an exception in time to be the answer", "GET /in-time"),
    case("a context variable", "GET /word"),
    case("a context variable on the loop", "GET /word-async"),
    case("open while the answer streams", "GET /stream"),
    case("closed though a value is wrong", "GET /wrong?size=large"),
]
