"""A route that takes larger bodies than usual, by FastAPI's own `max_body_size`."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Body, UploadFile
from fastapi.responses import StreamingResponse
from sqlalchemy import text
from starlette.requests import Request

from app.auth import CurrentUser, Principal
from app.db import CurrentDatabase, Database
from app.main import create_app
from app.settings import Settings
from app.web.guard import MAX_BODY_BYTES
from app.web.route import ApiRoute
from tests.support import SECRET, UNLIMITED, Api, make_token, run_api, wait_until
from tests.telemetry.scrapes import scrape
from tests.web.cases import AUTH
from tests.web.raw import connect, receive, request, send

BOUND = 8 * MAX_BODY_BYTES
FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
SHORT: dict[str, Any] = {"request_deadline_ms": 500}
TYPE = "Content-Type: application/octet-stream"
UPLOAD = request("POST", "/api/files/bytes", AUTH, TYPE, f"Content-Length: {BOUND}")

router = APIRouter(prefix="/api/files", route_class=ApiRoute)


@router.post("/form", max_body_size=BOUND)
def form(file: UploadFile, user: CurrentUser) -> dict[str, object]:
    return {"user": user.user_id, "size": len(file.file.read())}


@router.post("/bytes", max_body_size=BOUND)
def raw(body: bytes = Body()) -> int:
    return len(body)


@router.post("/stream", max_body_size=BOUND)
async def stream(request: Request) -> int:
    return sum([len(piece) async for piece in request.stream()])


@router.post("/unread", max_body_size=BOUND)
async def unread() -> str:
    return "not read"


@router.post("/slow", max_body_size=BOUND)
async def slow(request: Request, database: CurrentDatabase, user: CurrentUser) -> list[int]:
    return [await asyncio.to_thread(count, database, user) async for piece in request.stream() if piece]


def count(database: Database, user: Principal) -> int:
    return len(database.execute(user, text("SELECT 1"), {}))


@router.post("/answer", max_body_size=BOUND)
async def answer_first() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for _ in range(3):
            yield "x" * 1000
            await asyncio.sleep(0.05)

    return StreamingResponse(lines())


@router.post("/small", max_body_size=1000)
async def small(request: Request) -> int:
    return len(await request.body())


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, max_in_flight=1, **UNLIMITED, **SHORT)
    with run_api(settings, partial(create_app, entities=[router])) as served:
        yield served


@pytest.fixture
def alice(api: Api) -> Iterator[httpx.Client]:
    with api.client() as client:
        yield client


def pieces(size: int) -> Iterator[bytes]:
    for start in range(0, size, 16_384):
        yield b"x" * min(16_384, size - start)


def test_a_file_may_be_as_large_as_its_route_says(alice: httpx.Client) -> None:
    """Here a form with the file and what else belongs to it."""
    answer = alice.post("/api/files/form", files={"file": b"x" * (BOUND - 1000)})
    assert (answer.status_code, answer.json()) == (200, {"user": "alice", "size": BOUND - 1000})


@pytest.mark.parametrize("path", ["bytes", "stream"])
@pytest.mark.parametrize("size", [1, MAX_BODY_BYTES, MAX_BODY_BYTES + 1, BOUND])
@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "in chunks"])
def test_a_body_up_to_the_bound_arrives_whole(alice: httpx.Client, path: str, size: int, chunked: bool) -> None:  # noqa: FBT001
    """Whether its length is announced or not, and whoever reads it."""
    content: Any = pieces(size) if chunked else b"x" * size
    answer = alice.post(f"/api/files/{path}", content=content, headers={"Content-Type": "application/octet-stream"})
    assert (answer.status_code, answer.json()) == (200, size)


@pytest.mark.parametrize(("path", "bound"), [("bytes", BOUND), ("stream", BOUND), ("form", BOUND), ("small", 1000)])
@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "in chunks"])
def test_one_byte_more_is_too_large(api: Api, path: str, bound: int, chunked: bool) -> None:  # noqa: FBT001
    """413 as everywhere, with the route's own bound."""
    with connect(api.port) as connection:
        head = (AUTH, "Content-Type: multipart/form-data; boundary=x") if path == "form" else (AUTH, TYPE)
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {bound + 1}"
        send(connection, request("POST", f"/api/files/{path}", *head, length), token=make_token())
        if chunked:
            body = FILE.ljust(bound + 1, b"x")
            send(connection, b"%x\r\n%s\r\n" % (len(body), body))
        answer = receive(connection, "POST")
    assert (answer.status, answer.json()["code"]) == (413, "body_too_large")
    assert answer.json()["detail"] == f"The body is over {bound} bytes."


def test_a_stranger_is_refused_before_the_body_comes(api: Api) -> None:
    """What is larger than usual is not even read for one: 401 though nothing but the head was sent."""
    with connect(api.port) as connection:
        send(connection, request("POST", "/api/files/bytes", TYPE, f"Content-Length: {BOUND}"))
        assert receive(connection, "POST").status == 401


def test_an_upload_under_way_keeps_nobody_out(api: Api) -> None:
    """With room for one request, others are served while it arrives; a second upload is one too many."""
    with connect(api.port) as connection, api.client() as alice:
        send(connection, UPLOAD, token=make_token())
        wait_until(lambda: scrape(alice).value("http_requests_in_progress") == 1)
        assert alice.get("/api/files").status_code == 404
        assert alice.post("/api/files/small", content=b"x").json() == 1
        second = alice.post("/api/files/bytes", content=b"x" * BOUND, headers={"Content-Type": "text/plain"})
        assert (second.status_code, second.json()["code"]) == (503, "overloaded")
        send(connection, b"x" * BOUND)
        assert receive(connection, "POST").json() == BOUND
        wait_until(lambda: scrape(alice).value("http_requests_in_progress") == 0)


def test_each_statement_has_its_time_while_the_body_arrives(api: Api) -> None:
    """The request's deadline begins when it is complete."""
    with connect(api.port) as connection:
        head = request("POST", "/api/files/slow", AUTH, TYPE, f"Content-Length: {2 * MAX_BODY_BYTES}")
        send(connection, head + b"x", token=make_token())
        time.sleep(2 * api.settings.request_deadline_ms / 1000)  # a slow client's
        send(connection, b"x" * (2 * MAX_BODY_BYTES - 1))
        answer = receive(connection, "POST")
    assert (answer.status, set(answer.json())) == (200, {1})


def test_what_nobody_reads_breaks_no_answer(api: Api) -> None:
    """An answer that has begun goes on, though nobody reads what arrives meanwhile."""
    with connect(api.port) as connection:
        head = request("POST", "/api/files/answer", AUTH, TYPE, f"Content-Length: {BOUND}")
        send(connection, head, b"x" * BOUND, token=make_token())
        assert receive(connection, "POST").body == b"x" * 3000


@pytest.mark.slow
def test_an_upload_that_stands_still_ends(api: Api) -> None:
    """Whatever its route takes: 10 s after its last byte it is a 408, and its place is free."""
    with connect(api.port, timeout=30) as connection:
        send(connection, UPLOAD + b"x", token=make_token())
        answer = receive(connection, "POST")
    assert (answer.status, answer.json()["code"], answer.headers["connection"]) == (408, "body_timeout", "close")
    with api.client() as alice:
        assert alice.post("/api/files/bytes", content=b"x" * BOUND, headers={"Content-Type": "a/b"}).json() == BOUND


def test_a_client_that_leaves_gives_its_place_back(api: Api) -> None:
    """Half an upload, and nobody there: the next one is served."""
    with connect(api.port) as connection:
        send(connection, UPLOAD, token=make_token())
        send(connection, b"x" * 1000)
    with api.client() as alice:
        wait_until(lambda: scrape(alice).value("http_requests_in_progress") == 0)
        assert alice.post("/api/files/unread", content=b"x" * BOUND).json() == "not read"
        assert alice.post("/api/files/stream", content=pieces(BOUND)).json() == BOUND
