"""How a body is received: within its bound and in time, as a whole or by its endpoint piece by piece."""

import asyncio

from starlette.types import Message, Receive

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


class Disconnected(Exception):
    """The client left before its body was complete: nobody is there to answer."""


class BodyReader:
    """Receives a body piece by piece; the request's deadline begins when it is complete.

    After BODY_TIMEOUT_S it must have come with UPLOAD_BYTES_PER_S, from its beginning on.

    Raises:
        BodyTooLarge, BodyTimeout: to whoever reads on: the guard, FastAPI or the endpoint.
    """

    def __init__(self, receive: Receive, bound: int) -> None:
        self._receive, self._bound, self._size = receive, bound, 0
        self._until = asyncio.get_running_loop().time() + BODY_TIMEOUT_S
        self._is_complete = False

    async def __call__(self) -> Message:
        if self._is_complete or current().status:  # FastAPI reads on to learn that the client left
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until + self._size / UPLOAD_BYTES_PER_S):
                message = await self._receive()
        except TimeoutError:
            if current().status:
                return await self._receive()
            raise BodyTimeout(headers={"Connection": "close"}) from None
        self._size += len(message.get("body", b""))
        if self._size > self._bound and not current().status:
            raise BodyTooLarge(self._bound)
        if not message.get("more_body", False):
            self._is_complete = True
            current().start_deadline()
        return message


async def read_whole(receive: Receive, bound: int) -> Receive:
    """Read the whole body now, within BODY_TIMEOUT_S, and return how to receive it again.

    Raises:
        BodyTooLarge, BodyTimeout: as BodyReader.
        Disconnected: the client left.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await _read(BodyReader(receive, bound))
    except TimeoutError:
        raise BodyTimeout(headers={"Connection": "close"}) from None
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


async def _read(receive: Receive) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)
