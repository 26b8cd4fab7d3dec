"""The applications that are compared: the template, plain FastAPI, and a twin that keeps the contract to the letter."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from socket import socket
from threading import Event, Thread
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.utils import is_body_allowed_for_status_code
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.fastapi.case import LOG, Case
from tests.fastapi.compare import Answer, pointer
from tests.support import make_token, wait_until

ALTERED = 299
# Each request has a connection of its own: uvicorn closes the one that an exception went through.
HEADERS = {
    "Authorization": f"Bearer {make_token()}",
    "Accept-Encoding": "identity",
    "Host": "api.example",
    "Connection": "close",
}


class Recorder:
    """Around an application: what it serves has a log, and it is known when all of it has ended."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.altered, self._busy = app, False, 0
        self._idle = Event()
        self.log: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        LOG.set(self.log)
        self._busy += 1
        self._idle.clear()
        try:
            await self.app(scope, receive, self._altering(send) if self.altered else send)
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    def settled(self) -> tuple[str, ...]:
        """Return the log once nothing is going on, background tasks and generators included."""
        assert self._idle.wait(10), "the application does not come to an end"
        return tuple(self.log)

    def _altering(self, send: Send) -> Send:
        """Change all that is compared."""
        self.log.append("altered")
        first = True

        async def altered(message: Message) -> None:
            nonlocal first
            if message["type"] == "http.response.start":
                message = {**message, "status": ALTERED, "headers": []}
            elif first:
                message, first = {**message, "body": b"!" + message.get("body", b"")}, False
            await send(message)

        return altered


class Served:
    """A running application, asked case by case."""

    def __init__(self, recorder: Recorder, client: httpx.Client) -> None:
        self._recorder, self._client = recorder, client

    def ask(self, case: Case, *, altered: bool = False) -> Answer:
        self._recorder.altered = altered
        self._recorder.log.clear()
        body, broken = b"", False
        with self._client.stream(case.method, case.path, **case.sent) as response:
            try:
                for chunk in response.iter_bytes():
                    body += chunk
            except httpx.RemoteProtocolError:  # the server gave up half-way
                broken = True
        return Answer(response.status_code, response.headers, body, self._recorder.settled(), broken)


@contextmanager
def asked(recorder: Recorder, port: int) -> Iterator[Served]:
    """Give the application at `port` a client with a token; plain FastAPI does not look at it."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=HEADERS, timeout=10) as client:
        yield Served(recorder, client)


@contextmanager
def uvicorn_running(app: ASGIApp) -> Iterator[int]:
    """Serve `app` as `uvicorn` does, in a thread of this process; give the port."""
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None, ws="none"))
        thread = Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        wait_until(lambda: server.started)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(15)
            assert not thread.is_alive()


def problem(status: int, detail: str, headers: Any = None, **members: Any) -> Response:
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, "code": "twin", **members}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


async def _http_error(_: Request, error: HTTPException) -> Response:
    status, detail, headers = error.status_code, error.detail, error.headers
    if not is_body_allowed_for_status_code(status):
        return Response(status_code=status, headers=headers)
    if isinstance(detail, str):
        return problem(status, detail, headers)
    return problem(status, HTTPStatus(status).phrase, headers, data=detail)


async def _invalid(_: Request, error: RequestValidationError) -> Response:
    errors = [{"pointer": pointer(one["loc"]), "message": one["msg"]} for one in error.errors()]
    return problem(422, "See the errors.", errors=errors)


async def _unexpected(_: Request, __: Exception) -> Response:
    return problem(500, "Something went wrong.")


HANDLERS: Any = {HTTPException: _http_error, RequestValidationError: _invalid, Exception: _unexpected}


def plain(**options: Any) -> FastAPI:
    """Return FastAPI as its documentation has it."""
    return FastAPI(**options)


def twin(**options: Any) -> FastAPI:
    """Return FastAPI with the contract's errors and nothing else: to it the comparison must have no objection."""
    return FastAPI(exception_handlers=HANDLERS, **options)
