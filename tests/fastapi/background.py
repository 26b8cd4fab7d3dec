"""Tutorial: Background Tasks."""

import asyncio
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, HTTPException
from fastapi.responses import JSONResponse
from starlette.background import BackgroundTask
from starlette.background import BackgroundTasks as StarletteTasks

from tests.fastapi.case import Routes, note

routes = Routes("/api/background")
router = routes.router


def write(email: str, message: str = "") -> None:
    note(f"{email}: {message}")


async def write_async(email: str) -> None:
    await asyncio.sleep(0.001)
    note(email)


def failing() -> None:
    note("failing")
    raise ValueError("a background task failed")


def query(background: BackgroundTasks, q: str | None = None) -> str | None:
    if q:
        background.add_task(write, "log", message=q)
    return q


@routes.post("/send/{email}")
async def send(email: str, background: BackgroundTasks, q: Annotated[str | None, Depends(query)]) -> Any:
    background.add_task(write, email, message="some notification")
    note("endpoint")
    return {"message": "sent", "q": q}


@routes.post("/several")
def several(background: BackgroundTasks) -> Any:
    background.add_task(write_async, "first")
    background.add_task(write, "second")
    background.add_task(write_async, "third")
    return "several"


@routes.post("/response")
async def response() -> JSONResponse:
    return JSONResponse({"a": 1}, background=BackgroundTask(write, "of the response"))


@routes.post("/response-sync")
def response_sync(background: BackgroundTasks) -> JSONResponse:
    background.add_task(write, "not run: the response has its own")
    own = StarletteTasks()
    own.add_task(write_async, "one")
    own.add_task(write, "two")
    return JSONResponse({"a": 1}, background=own)


@routes.post("/added-to-response")
def added_to_response(background: BackgroundTasks) -> JSONResponse:
    background.add_task(write, "run with the response")
    return JSONResponse({"a": 1})


@routes.post("/failing")
def fails(background: BackgroundTasks) -> Any:
    background.add_task(failing)
    background.add_task(write, "never")
    return "before it failed"


@routes.post("/refused")
def refused(background: BackgroundTasks) -> Any:
    background.add_task(write, "never")
    raise HTTPException(400, "Refused")


case = routes.case
CASES = [
    case("a task, and one of a dependency", "POST /send/rick@example.com?q=portal"),
    case("several, in order", "POST /several"),
    case("of the response", "POST /response"),
    case("several of the response", "POST /response-sync"),
    case("with a response of its own", "POST /added-to-response"),
    case("that fails", "POST /failing"),
    case("of an endpoint that refuses", "POST /refused"),
]
