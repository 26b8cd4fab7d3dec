"""The outermost layer: no request is larger or slower than this, and no exception leaves without an answer."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from threading import Event

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import UNKNOWN, AppError, NotFound, Unavailable, problem

MAX_BODY_BYTES = 128 * 1024
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024
MAX_TARGET_BYTES = 8 * 1024  # RFC 9112, 3: at least 8000 octets are to be supported
BODY_TIMEOUT_S = 10
UNCAPPED = ("/health", "/metrics")
SAFE = {"GET", "HEAD"}  # RFC 9110, 9.2.1: a request that was cut changed nothing

logger = logging.getLogger(__name__)


class BodyTimeout(AppError):
    """The body did not arrive in time; the connection is closed, since the rest may still be on its way."""

    status, code, detail = 408, "body_timeout", f"The body did not arrive within {BODY_TIMEOUT_S} s."


class BodyTooLarge(AppError):
    """The body is larger than any that a route would take."""

    status, code, detail = 413, "body_too_large", f"The body is over {MAX_BODY_BYTES} bytes."


class TargetTooLong(AppError):
    """Path and query are longer than any real ones."""

    status, code, detail = 414, "uri_too_long", f"The path and query are over {MAX_TARGET_BYTES} bytes."


class HeadersTooLarge(AppError):
    """RFC 6585, 5."""

    status, code, detail = 431, "headers_too_large", f"The headers are over {MAX_HEADER_BYTES} bytes or {MAX_HEADERS}."


class Overloaded(Unavailable):
    """More requests are in flight than this process can serve in time: waiting would only make all of them late."""

    code, detail = "overloaded", "The service has more to do than it can for the moment."


class Disconnected(Exception):
    """The client left before its body was complete: nobody is there to answer."""


class Guard:
    """Refuses what is too large, too slow or too much at once, reads the body, and answers what nobody else did.

    A body that is still arriving and an answer that is not fetched hold no place among the requests in flight. Once
    `draining` is set, every answer asks the client to come back on another connection. `on_refusal` learns the
    method and status of each request that is refused here.
    """

    def __init__(self, app: ASGIApp, max_in_flight: int, draining: Event) -> None:
        self._app, self._draining = app, draining
        self._places = self._free = max_in_flight
        self.on_refusal: Callable[[str, int], None] = lambda _, __: None

    @property
    def in_flight(self) -> int:
        """Requests that hold a place now."""
        return self._places - self._free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = Answer(send, self._draining)
        try:
            refuse_size(scope)
            refuse_newline(scope)
            body = await read_body(scope, receive)
            await self._within_cap(as_get(scope), Replay(body, receive), answer)
        except Disconnected:
            return
        except AppError as error:
            self.on_refusal(as_get(scope)["method"], error.status)
            await problem(error)(scope, receive, answer)
        except asyncio.CancelledError:  # the process leaves, and cannot wait for this one any longer
            if not answer.started:
                await problem(Unavailable(None if scope["method"] in SAFE else UNKNOWN))(scope, receive, answer)
        except Exception:
            logger.exception("unexpected error outside of the application")
            if not answer.started:
                await problem(AppError())(scope, receive, answer)

    async def _within_cap(self, scope: Scope, receive: Receive, answer: "Answer") -> None:
        if scope["path"].startswith(UNCAPPED):
            await self._app(scope, receive, answer)
            return
        if not self._free:
            raise Overloaded
        self._free -= 1
        with answer.place as place:
            place.callback(self._give_back)
            await self._app(scope, receive, answer)

    def _give_back(self) -> None:
        self._free += 1


class Answer:
    """Sends, and knows whether the answer has begun: then it gives back the request's `place`."""

    def __init__(self, send: Send, draining: Event) -> None:
        self._send, self._draining = send, draining
        self.started, self.place = False, ExitStack()

    async def __call__(self, message: Message) -> None:
        self.place.close()
        if not self.started and self._draining.is_set():
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        self.started = True
        await self._send(message)


class Replay:
    """Receives a body that was read before."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._receive = receive
        self._body: bytes | None = body

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def as_get(scope: Scope) -> Scope:
    """Return HEAD as the GET it stands for (RFC 9110, 9.3.2); the server leaves out the body."""
    return {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope


def refuse_size(scope: Scope) -> None:
    """Raise for a target, headers or an announced body over their bounds."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET_BYTES:
        raise TargetTooLong
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        raise HeadersTooLarge
    if int(_value(headers, b"content-length") or 0) > MAX_BODY_BYTES:
        raise BodyTooLarge


def refuse_newline(scope: Scope) -> None:
    """Raise for a path that ends in a newline: Starlette's patterns end in `$`, which lets one through."""
    if scope["path"].endswith("\n"):
        raise NotFound


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Return the whole body.

    Raises:
        BodyTooLarge: it is over MAX_BODY_BYTES.
        BodyTimeout: it did not arrive within BODY_TIMEOUT_S.
        Disconnected: the client left.

    """
    headers = scope["headers"]
    if _value(headers, b"content-length") is None and _value(headers, b"transfer-encoding") is None:
        return b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _read(receive)
    except TimeoutError:
        raise BodyTimeout(headers={"Connection": "close"}) from None


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge
        if not message.get("more_body", False):
            return bytes(body)


def _value(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    return next((value for name, value in headers if name == wanted), None)
