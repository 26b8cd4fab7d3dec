"""The applications to compare: plain FastAPI, and a twin of the template. Both run in uvicorn."""

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
    """Wraps an application: gives each request a log, knows when all requests have ended, and can alter the answers."""

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
            await self.app(scope, receive, self._alter(send) if self.altered else send)
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    def wait_for_log(self) -> tuple[str, ...]:
        """Return the log when all requests have ended, background tasks and generators included."""
        assert self._idle.wait(10), "the application does not come to an end"
        return tuple(self.log)

    def _alter(self, send: Send) -> Send:
        """Return a `send` that changes all aspects that are compared."""
        self.log.append("altered")
        first = True

        async def send_altered(message: Message) -> None:
            nonlocal first
            if message["type"] == "http.response.start":
                message = {**message, "status": ALTERED, "headers": []}
            elif first:
                message, first = {**message, "body": b"!" + message.get("body", b"")}, False
            await send(message)

        return send_altered


class RunningApp:
    """A running application and a client of it."""

    def __init__(self, recorder: Recorder, client: httpx.Client) -> None:
        self._recorder, self._client = recorder, client

    def send(self, case: Case, *, altered: bool = False) -> Answer:
        """Send the case's request. `altered` changes all aspects of the answer."""
        self._recorder.altered = altered
        self._recorder.log.clear()
        body, broken = b"", False
        with self._client.stream(case.method, case.path, **case.options) as response:
            try:
                for chunk in response.iter_bytes():
                    body += chunk
            except httpx.RemoteProtocolError:  # the server gave up half-way
                broken = True
        return Answer(response.status_code, response.headers, body, self._recorder.wait_for_log(), broken)


@contextmanager
def open_client(recorder: Recorder, port: int) -> Iterator[RunningApp]:
    """Open a client with a token for the application at `port`. Plain FastAPI ignores the token."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=HEADERS, timeout=10) as client:
        yield RunningApp(recorder, client)


@contextmanager
def run_uvicorn(app: ASGIApp) -> Iterator[int]:
    """Run `app` in uvicorn, in a thread of this process. Yield the port."""
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
    """Return FastAPI as in its documentation."""
    return FastAPI(**options)


def twin(**options: Any) -> FastAPI:
    """Return FastAPI with the contract's errors. The comparison must find no difference."""
    return FastAPI(exception_handlers=HANDLERS, **options)
