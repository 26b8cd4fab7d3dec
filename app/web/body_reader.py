"""How a body is received: within its bound and in time, as a whole or by its endpoint piece by piece."""

import asyncio
import math

from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from app.errors import AppError
from app.record import current

BODY_TIMEOUT_S = 10
UPLOAD_BYTES_PER_S = 128 * 1024


class BodyTimeout(AppError):
    """The body did not arrive in time; the connection is closed, since the rest may still be on its way."""

    status, code, detail = 408, "body_timeout", "The body did not arrive in time."


class BodyTooLarge(AppError):
    """The body is larger than its route takes."""

    status, code = 413, "body_too_large"

    def __init__(self, bound: int) -> None:
        super().__init__(f"The body is over {bound} bytes.")


class BodyReader:
    """Receives a body piece by piece; the request's deadline begins when it is complete.

    The body has BODY_TIMEOUT_S, and after that as long as all of it, from its beginning on, came with `bytes_per_s`.
    Whoever reads on gets BodyTooLarge or BodyTimeout: the guard, FastAPI or the endpoint.
    """

    def __init__(self, receive: Receive, bound: int, bytes_per_s: float = UPLOAD_BYTES_PER_S) -> None:
        self._receive, self._bound, self._bytes_per_s = receive, bound, bytes_per_s
        self._until = asyncio.get_running_loop().time() + BODY_TIMEOUT_S
        self._size = 0
        self._is_complete = False

    async def __call__(self) -> Message:
        if self._is_complete or current().status:  # FastAPI reads on to learn that the client left
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until + self._size / self._bytes_per_s):
                message = await self._receive()
        except TimeoutError:
            if current().status:
                return await self._receive()
            raise BodyTimeout(headers={"Connection": "close"}) from None
        self._size += len(message.get("body", b""))
        current().request_bytes = self._size
        if self._size > self._bound and not current().status:
            raise BodyTooLarge(self._bound)
        if not message.get("more_body", False):
            self._is_complete = True
            current().start_deadline()
        return message


async def read_whole(scope: Scope, receive: Receive, bound: int) -> Receive:
    """Read the whole body now, within BODY_TIMEOUT_S, and return how to receive it again."""
    body = await Request(scope, BodyReader(receive, bound, bytes_per_s=math.inf)).body()
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
