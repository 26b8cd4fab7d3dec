"""What refuses a request before anything else looks at it: too large, too slow, or one too many at once."""

import asyncio
import logging
import re
from collections.abc import Callable

from starlette._utils import get_route_path
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import AppError, NotFound, Overloaded, Unavailable
from app.record import PROBES, Record, current
from app.web.body_reader import BodyReader, BodyTooLarge, read_whole
from app.web.gate import Routes
from app.web.problems import problem

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


class Guard:
    """Refuses what is too large, too slow or too much at once, reads the body, and answers what nobody else did.

    A body that is still arriving and an answer that is not fetched hold no place among the requests in flight. A body
    over MAX_BODY_BYTES, of a route that takes it (`max_body_size`), is not read here but by its endpoint, once the
    token is verified; as many of these as of the others are served at once. `on_refusal` learns the method and status
    of each request that is refused here.
    """

    def __init__(self, app: ASGIApp, routes: Routes, max_in_flight: int) -> None:
        self._app, self._routes, self._max_in_flight = app, routes, max_in_flight
        self._requests: set[Record] = set()
        self._uploads: set[Record] = set()
        self.on_refusal: Callable[[str, int], None] = lambda _, __: None

    @property
    def in_flight(self) -> int:
        """Requests that hold a place now."""
        return len(self._requests) + len(self._uploads)

    @property
    def is_full(self) -> bool:
        """Whether there is no place for another request; uploads have their own."""
        return len(self._requests) >= self._max_in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = current()
        try:
            check_head(scope)
            await self._serve(scope, await self._receive_body(scope, receive), send)
        except ClientDisconnect:
            return  # before its body was complete: nobody is there to answer
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

    async def _receive_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body; return how to receive it again, or the reader of one that is larger than usual."""
        headers = dict(scope["headers"])
        length = int(headers.get(b"content-length") or 0)
        is_chunked = b"transfer-encoding" in headers
        if not length and not is_chunked:
            current().start_deadline()
            return receive
        bound = self._routes.body_bound(scope, MAX_BODY_BYTES)
        if length > bound:
            raise BodyTooLarge(bound)
        if bound > MAX_BODY_BYTES and (is_chunked or length > MAX_BODY_BYTES):
            return BodyReader(receive, bound)
        return await read_whole(scope, receive, bound)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if get_route_path(scope) in PROBES:
            await self._app(scope, receive, send)
            return
        record, in_flight = current(), self._uploads if isinstance(receive, BodyReader) else self._requests
        if len(in_flight) >= self._max_in_flight:
            raise Overloaded
        in_flight.add(record)
        record.in_flight = in_flight
        try:
            await self._app(scope, receive, send)
        finally:
            in_flight.discard(record)


def check_head(scope: Scope) -> None:
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
