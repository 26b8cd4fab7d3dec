"""What refuses a request before anything else looks at it: too large, too slow, or one too many at once."""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable

from starlette._utils import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import AppError, NotFound, Overloaded, Unavailable, problem
from app.record import PROBES, current
from app.web.routes import Routes
from app.web.upload import BODY_TIMEOUT_S, BodyTimeout, Upload, too_large

MAX_BODY_BYTES = 128 * 1024
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024
MAX_TARGET_BYTES = 8 * 1024  # RFC 9112, 3: at least 8000 octets are to be supported
MAX_DIGITS = 4300  # of a number that Python reads
LONG_NUMBER = re.compile(rf"\d{{{MAX_DIGITS + 1}}}")

logger = logging.getLogger(__name__)


class TargetTooLong(AppError):
    """Path and query are longer than any real ones."""

    status, code, detail = 414, "uri_too_long", f"The path and query are over {MAX_TARGET_BYTES} bytes."


class HeadersTooLarge(AppError):
    """RFC 6585, 5."""

    status, code, detail = 431, "headers_too_large", f"The headers are over {MAX_HEADER_BYTES} bytes or {MAX_HEADERS}."


class Disconnected(Exception):
    """The client left before its body was complete: nobody is there to answer."""


class Place:
    """One of the requests in flight, from its body's arrival until its answer begins."""

    def __init__(self, places: "Places") -> None:
        self._places = places
        self._held = True
        places.free -= 1

    def leave(self) -> None:
        """Give the place back, once."""
        if self._held:
            self._held = False
            self._places.free += 1


class Places:
    """Room for so many requests at once; `free` are left."""

    def __init__(self, number: int) -> None:
        self.number = self.free = number

    def take(self) -> Place:
        """Return a place.

        Raises:
            Overloaded: there is none left.

        """
        if not self.free:
            raise Overloaded
        return Place(self)


class Guard:
    """Refuses what is too large, too slow or too much at once, reads the body, and answers what nobody else did.

    A body that is still arriving and an answer that is not fetched hold no place among the requests in flight. A body
    over MAX_BODY_BYTES, of a route that takes it (`max_body_size`), is not read here but by its endpoint, once the
    token is verified; as many of these as of the others are served at once. `on_refusal` learns the method and status
    of each request that is refused here.
    """

    def __init__(self, app: ASGIApp, routes: Routes, max_in_flight: int) -> None:
        self._app, self._routes = app, routes
        self._requests, self._uploads = Places(max_in_flight), Places(max_in_flight)
        self.on_refusal: Callable[[str, int], None] = lambda _, __: None

    @property
    def in_flight(self) -> int:
        """Requests that hold a place now."""
        return sum(places.number - places.free for places in (self._requests, self._uploads))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = current()
        try:
            refuse_head(scope)
            places, receive = await self._take_body(scope, receive)
            if not isinstance(receive, Upload):
                record.start_deadline()
            await self._serve(places, scope, receive, send)
        except Disconnected:
            return
        except AppError as error:
            self.on_refusal(scope["method"], error.status)
            await problem(error)(scope, receive, send)
        except asyncio.CancelledError:  # the process leaves, and cannot wait for this body any longer
            if not record.status:
                self.on_refusal(scope["method"], Unavailable.status)
                await problem(Unavailable())(scope, receive, send)
        except Exception:
            logger.exception("unexpected error outside of the application")
            if not record.counted:
                self.on_refusal(scope["method"], record.status or AppError.status)
            if not record.status:
                await problem(AppError())(scope, receive, send)

    async def _take_body(self, scope: Scope, receive: Receive) -> tuple[Places, Receive]:
        """Return the body to be received again, or the way to receive one that is larger than usual."""
        length = _value(scope["headers"], b"content-length")
        is_chunked = _value(scope["headers"], b"transfer-encoding") is not None
        if not is_chunked and not int(length or 0):
            return self._requests, receive
        bound = self._routes.body_bound(scope, MAX_BODY_BYTES)
        if int(length or 0) > bound:
            raise too_large(bound)
        if bound > MAX_BODY_BYTES and (is_chunked or int(length or 0) > MAX_BODY_BYTES):
            return self._uploads, Upload(receive, bound)
        return self._requests, Replay(await read_body(receive, bound), receive)

    async def _serve(self, places: Places, scope: Scope, receive: Receive, send: Send) -> None:
        if get_route_path(scope) in PROBES:
            await self._app(scope, receive, send)
            return
        current().place = place = places.take()
        try:
            await self._app(scope, receive, send)
        finally:
            place.leave()


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


def refuse_head(scope: Scope) -> None:
    """Raise for a target or headers over their bounds, and for a path that is none."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET_BYTES:
        raise TargetTooLong
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        raise HeadersTooLarge
    path = scope["path"]
    if path.endswith("\n"):  # Starlette's patterns end in `$`, which lets a newline through
        raise NotFound
    if len(path) > MAX_DIGITS and LONG_NUMBER.search(path):  # a pattern `{id:int}` would raise
        raise NotFound


async def read_body(receive: Receive, bound: int) -> bytes:
    """Return the whole body.

    Raises:
        BodyTooLarge: it is over `bound` bytes.
        BodyTimeout: it did not arrive within BODY_TIMEOUT_S.
        Disconnected: the client left.

    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _read(receive, bound)
    except TimeoutError:
        raise BodyTimeout(headers={"Connection": "close"}) from None


async def _read(receive: Receive, bound: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body += message.get("body", b"")
        if len(body) > bound:
            raise too_large(bound)
        if not message.get("more_body", False):
            return bytes(body)


def _value(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    return next((value for name, value in headers if name == wanted), None)
