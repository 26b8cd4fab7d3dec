"""The answer to what nobody caught."""

import logging
from asyncio import CancelledError
from typing import Any

from starlette._utils import is_async_callable
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from app.errors import UNKNOWN, AppError, Unavailable, problem

SAFE = {"GET", "HEAD"}  # RFC 9110, 9.2.1: a request that was cut changed nothing

logger = logging.getLogger("app.requests")


async def answer_unexpected(request: Request, error: BaseException) -> Response:
    """Return the answer of the application's handler for unexpected errors, which may be a team's.

    A request is cancelled when the process leaves and cannot wait for it any longer: 503.
    """
    if isinstance(error, CancelledError):
        return problem(Unavailable(None if request.method in SAFE else UNKNOWN))
    handlers = request.app.exception_handlers
    handler: Any = handlers.get(500) or handlers[Exception]
    try:
        if is_async_callable(handler):
            response: Response = await handler(request, error)
            return response
        return await run_in_threadpool(handler, request, error)
    except Exception as second:
        logger.exception("the handler of unexpected errors failed: %s", type(second).__qualname__)
        return problem(AppError())
