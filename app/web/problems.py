"""Answers to errors: RFC 9457 problem+json, for every error in one place."""

import json
import logging
import re
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from http.client import responses as phrases
from typing import Any

from fastapi import Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from fastapi.utils import is_body_allowed_for_status_code
from opentelemetry.trace import format_trace_id, get_current_span
from starlette._utils import is_async_callable
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from app.errors import MAX_ERRORS, UNKNOWN, AppError, FieldError, InvalidRequest, NotFound, Unavailable
from app.record import CURRENT

MAX_POINTER = 200
MESSAGES = {  # https://docs.pydantic.dev/latest/errors/validation_errors/
    "union_tag_invalid": "Input should have one of the expected tags",
    "uuid_parsing": "Input should be a valid UUID",
}
SAFE = {"GET", "HEAD"}  # RFC 9110, 9.2.1: a request that was cut changed nothing

logger = logging.getLogger("app.requests")


def problem(error: AppError) -> Response:
    """Return the response for `error`, as application/problem+json (RFC 9457)."""
    members = {"errors": error.errors} if error.errors else {}
    return problem_response(error.status, error.code, error.detail, error.headers, **members)


def problem_response(
    status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """Return an RFC 9457 response with further `members`; its `title` is the status's phrase, as `about:blank` asks.

    A 503 for want of time says what used it. This and the code stand in the request's record, for the log.
    """
    title = phrases.get(status, "Error")
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    if (trace := get_current_span().get_span_context()).is_valid:
        body["trace_id"] = format_trace_id(trace.trace_id)
    if record := CURRENT.get():
        record.code = code
        if status == HTTPStatus.SERVICE_UNAVAILABLE and record.is_late:
            body["spent"] = record.spent = record.account()
    return Response(json.dumps(body | members, allow_nan=False), status, headers, "application/problem+json")


async def _answer_app_error(_: Request, error: AppError) -> Response:
    return problem(error)


async def _answer_http_error(request: Request, error: HTTPException) -> Response:
    """Refusals of the framework itself (unknown paths, wrong methods), and what an endpoint raises by FastAPI's name.

    A detail that is no text becomes the member `data`.
    """
    status, headers = error.status_code, dict(error.headers or {})
    phrase = phrases.get(status, "Error")
    if not is_body_allowed_for_status_code(status):
        return Response(status_code=status, headers=headers)
    if status == HTTPStatus.METHOD_NOT_ALLOWED and error.detail == phrase:
        headers["Allow"] = ", ".join(_allowed_methods(request))
        return problem_response(status, "method_not_allowed", "The resource does not know this method.", headers)
    if status == HTTPStatus.NOT_FOUND and error.detail == phrase:
        return problem_response(status, NotFound.code, NotFound.detail, headers)
    code = re.sub("[^a-z0-9]+", "_", phrase.lower()).strip("_")
    if isinstance(error.detail, str):
        return problem_response(status, code, error.detail, headers)
    return problem_response(status, code, phrase, headers, data=jsonable_encoder(error.detail))


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods of every route of the path: Starlette names only those of the first (RFC 9110, 15.5.6)."""
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


async def _answer_invalid_request(_: Request, error: RequestValidationError) -> Response:
    return problem(InvalidRequest(errors=field_errors(error.errors())))


def field_errors(errors: Sequence[Any]) -> list[FieldError]:
    """Return pydantic's `errors` without the values they hold."""
    return [{"pointer": pointer_to(error.get("loc", ())), "message": _message(error)} for error in errors[:MAX_ERRORS]]


def _message(error: Mapping[str, Any]) -> str:
    """Return pydantic's message, but for those that quote the value."""
    quoting = MESSAGES.get(error.get("type", ""))
    return quoting or str(error.get("msg", "is not acceptable")).removeprefix("Value error, ")


def pointer_to(location: Sequence[int | str]) -> str:
    """Return the JSON pointer to a place as FastAPI names it: of the body without `body`, and never a long one."""
    parts = location[1:] if location and location[0] == "body" else location
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)[:MAX_POINTER]


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


async def _answer_around(_: Request, __: Exception) -> Response:
    return problem(AppError())


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    AppError: _answer_app_error,
    HTTPException: _answer_http_error,
    RequestValidationError: _answer_invalid_request,
    # What nobody caught: within the server span by `answer_unexpected`; this also answers for the layers around it,
    # such as the metrics', where Starlette would answer in plain text.
    Exception: _answer_around,
}
