"""Bodies that are larger or slower than a route takes, and those that an endpoint reads as they arrive."""

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

    status, code, detail = 413, "body_too_large", "The body is too large."


class Upload:
    """Receives a body piece by piece, within its bound and in time; the request's deadline begins when it is complete.

    After BODY_TIMEOUT_S it must have come with UPLOAD_BYTES_PER_S, from its beginning on.

    Raises:
        BodyTooLarge, BodyTimeout: where the endpoint, or FastAPI for it, reads on.

    """

    def __init__(self, receive: Receive, bound: int) -> None:
        self._receive, self._bound, self._size = receive, bound, 0
        self._until = asyncio.get_running_loop().time() + BODY_TIMEOUT_S
        self._is_complete = False

    async def __call__(self) -> Message:
        if self._is_complete or current().status:  # whoever waits for the client to leave reads on as well
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
            raise too_large(self._bound)
        if not message.get("more_body", False):
            self._is_complete = True
            current().start_deadline()
        return message


def too_large(bound: int) -> BodyTooLarge:
    """Return the refusal of a body over `bound` bytes."""
    return BodyTooLarge(f"The body is over {bound} bytes.")
