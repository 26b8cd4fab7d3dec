"""Advanced: Stream Data, JSON Lines and Server-Sent Events. All of the body is compared."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, Header
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from tests.fastapi.case import Routes, note

routes = Routes("/api/streams")
router = routes.router


class Item(BaseModel):
    name: str
    description: str | None = None


class Prompt(BaseModel):
    text: str


class PNGStreamingResponse(StreamingResponse):
    media_type = "image/png"


ITEMS = [Item(name="Plumbus", description="A household device"), Item(name="Portal gun")]


def session() -> Iterator[str]:
    note("open")
    yield "session"
    note("close")


@routes.get("/lines")
async def lines() -> AsyncIterable[Item]:
    for item in ITEMS:
        await asyncio.sleep(0)
        note(item.name)
        yield item


@routes.get("/lines-sync")
def lines_sync(start: int = 0) -> Iterable[Item]:
    for item in ITEMS[start:]:
        note(item.name)
        yield item


@routes.get("/lines-untyped")
async def lines_untyped() -> Any:
    yield {"a": 1}
    yield "two"


@routes.get("/lines-session", status_code=203)
async def lines_session(value: Annotated[str, Depends(session)], background: BackgroundTasks) -> AsyncIterable[str]:
    background.add_task(note, "background")
    yield value
    note("endpoint")


@routes.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncIterable[Item]:
    for item in ITEMS:
        yield item


@routes.get("/events-sync", response_class=EventSourceResponse)
def events_sync(last_event_id: Annotated[int | None, Header()] = None) -> Iterable[Any]:
    yield ServerSentEvent(comment="of items")
    for number, item in enumerate(ITEMS):
        if last_event_id is None or number > last_event_id:
            yield ServerSentEvent(data=item, event="item", id=str(number), retry=5000)
    yield ServerSentEvent(raw_data="[DONE]", event="done")


@routes.post("/events-post", response_class=EventSourceResponse)
async def events_post(prompt: Prompt, value: Annotated[str, Depends(session)]) -> AsyncIterable[ServerSentEvent]:
    for word in prompt.text.split():
        yield ServerSentEvent(data=f"{value} {word}", event="token")


@routes.get("/raw", response_class=StreamingResponse)
async def raw() -> AsyncIterable[str]:
    for word in ("Rick: ", "é", "\n"):
        yield word


@routes.get("/raw-sync", response_class=PNGStreamingResponse)
def raw_sync() -> Iterable[bytes]:
    yield b"\x89PNG"
    yield b"\x00" * 3


@routes.get("/response")
async def response() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(5):
            await asyncio.sleep(0)
            yield b"part %d\n" % number
        note("sent")

    return StreamingResponse(parts(), media_type="text/plain", headers={"X-Parts": "5"})


@routes.get("/response-sync")
def response_sync() -> StreamingResponse:
    return StreamingResponse((f"part {number}\n" for number in range(5)), status_code=202)


@routes.get("/broken")
def broken() -> StreamingResponse:
    def parts() -> Iterator[str]:
        yield "a part\n"
        note("broke")
        raise RuntimeError("half-way")

    return StreamingResponse(parts(), media_type="text/plain")


@routes.get("/refused")
async def refused(size: int) -> AsyncIterable[int]:
    note("never")
    yield size


case = routes.case
CASES = [
    case("JSON Lines", "GET /lines"),
    case("JSON Lines of a generator", "GET /lines-sync?start=1"),
    case("JSON Lines of anything", "GET /lines-untyped"),
    case("JSON Lines and what goes with them", "GET /lines-session"),
    case("events", "GET /events"),
    case("events of a generator", "GET /events-sync"),
    case("events, continued", "GET /events-sync", headers={"Last-Event-ID": "0"}),
    case("events for a body", "POST /events-post", json={"text": "to be"}),
    case("events for a body at fault", "POST /events-post", json={"texts": "to be"}),
    case("text", "GET /raw"),
    case("bytes of a generator", "GET /raw-sync"),
    case("StreamingResponse", "GET /response"),
    case("StreamingResponse of a generator", "GET /response-sync"),
    case("a stream that breaks", "GET /broken"),
    case("a stream that is refused", "GET /refused?size=large"),
]
