"""Every refusal, as RFC 9457 problem+json: raised where it is known, mapped to HTTP once.

An error's `code` is part of the contract and never changes; `detail` is for people. Neither ever holds a value that the
client sent or the text of a library's exception.
"""

import json
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import HTTPException, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from fastapi.utils import is_body_allowed_for_status_code
from opentelemetry.trace import format_trace_id, get_current_span
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send
from typing_extensions import TypedDict  # pydantic wants this one below Python 3.12

from app.record import CURRENT

MAX_ERRORS = 20
MAX_POINTER = 200
MESSAGES = {  # https://docs.pydantic.dev/latest/errors/validation_errors/
    "union_tag_invalid": "Input should have one of the expected tags",
    "uuid_parsing": "Input should be a valid UUID",
}
UNKNOWN = (
    "The database did not answer in time, so whether the change was made is not known. "
    "Ask again with the same Idempotency-Key, or read before you retry."
)


class FieldError(TypedDict):
    """What is wrong with one field: `pointer` is an RFC 6901 JSON pointer into the body, or `/query/…`, `/header/…`."""

    pointer: str
    message: str


class AppError(HTTPException):
    """A refusal that a client can act on; each subclass is one `code`. What catches an HTTPException catches it too."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    detail: str = "The server met an error it did not expect."

    def __init__(
        self,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        super().__init__(self.status, detail or self.detail, dict(headers or {}))
        self.errors = list(errors[:MAX_ERRORS])


class NotFound(AppError):
    """No such thing, or none that this user may see: the two are told apart nowhere."""

    status, code, detail = 404, "not_found", "There is no such resource."


class Forbidden(AppError):
    """It is known who asks, and this is not for that user."""

    status, code, detail = 403, "forbidden", "This is for administrators alone."


class Conflict(AppError):
    """What is stored stands in the way: a row that is there already, or one that is missing.

    Which of the two is not told, nor whose row it is. `__cause__` is SQLAlchemy's error, whose `orig.diag` names the
    constraint: whoever can say more catches this and raises an error of its own.
    """

    status, code, detail = 409, "conflict", "The change contradicts what is stored. Nothing was changed."


class InvalidRequest(AppError):
    """The request was understood, and something in it is not acceptable."""

    status, code, detail = 422, "invalid_request", "The request is not acceptable; `errors` says where."


class InvalidValue(InvalidRequest):
    """The database does not take a value: it is out of range, too long, or against a rule of its column."""

    detail = "A value is not acceptable. Nothing was changed."


class MalformedBody(AppError):
    """The body is not JSON (RFC 8259) in UTF-8."""

    status, code, detail = 400, "malformed_json", "The body is not valid JSON in UTF-8 without a byte order mark."


class UnsupportedMediaType(AppError):
    """A body that does not say it is JSON, or that is compressed."""

    status, code, detail = 415, "unsupported_media_type", "Send the body as application/json in UTF-8."


class Unavailable(AppError):
    """A dependency did not answer; the same request may succeed soon."""

    status, code, detail = 503, "unavailable", "The service is not available for the moment."

    def __init__(self, detail: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class Overloaded(Unavailable):
    """This process cannot do in time all that it is asked to do; waiting would only make all of it late."""

    code, detail = "overloaded", "The service has more to do than it can for the moment."


class DatabaseUnavailable(Unavailable):
    """The database could not be reached, or did not answer in time."""

    code, detail = "database_unavailable", "The database did not answer in time."


class DatabaseBusy(Unavailable):
    """Another transaction holds what this one needs."""

    code, detail = "database_busy", "Another request is changing the same data. Nothing was changed by this one."


class ProblemResponse(Response):
    """An application/problem+json answer, whose code stands in the request's record for the log."""

    media_type = "application/problem+json"

    def __init__(self, body: Mapping[str, Any], headers: Mapping[str, str] | None) -> None:
        super().__init__(json.dumps(body, allow_nan=False), body["status"], headers)
        self._code = body["code"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if record := CURRENT.get():
            record.code = self._code
        await super().__call__(scope, receive, send)


def problem(error: AppError) -> Response:
    """Return the response for `error`, as application/problem+json (RFC 9457)."""
    members = {"errors": error.errors} if error.errors else {}
    return problem_response(error.status, error.code, error.detail, error.headers, **members)


def problem_response(
    status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """Return an RFC 9457 response with further `members`; its `title` is the status's phrase, as `about:blank` asks."""
    body: dict[str, Any] = {"type": "about:blank", "title": _phrase(status), "status": status, "detail": detail}
    body["code"] = code
    if (trace := get_current_span().get_span_context()).is_valid:
        body["trace_id"] = format_trace_id(trace.trace_id)
    return ProblemResponse(body | members, headers)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


async def _app_error(_: Request, error: AppError) -> Response:
    return problem(error)


async def _http_error(request: Request, error: StarletteHTTPException) -> Response:
    """Refusals of the framework itself (unknown paths, wrong methods), and what an endpoint raises by FastAPI's name.

    A detail that is no text becomes the member `data`.
    """
    status, headers = error.status_code, dict(error.headers or {})
    if not is_body_allowed_for_status_code(status):
        return Response(status_code=status, headers=headers)
    if status == HTTPStatus.METHOD_NOT_ALLOWED and error.detail == _phrase(status):
        headers["Allow"] = ", ".join(_allowed_methods(request))
        return problem_response(status, "method_not_allowed", "The resource does not know this method.", headers)
    phrase = _phrase(status)
    if status == HTTPStatus.NOT_FOUND and error.detail == phrase:
        return problem_response(status, NotFound.code, NotFound.detail, headers)
    code = re.sub("[^a-z0-9]+", "_", phrase.lower()).strip("_")
    if isinstance(error.detail, str):
        return problem_response(status, code, error.detail, headers)
    return problem_response(status, code, phrase, headers, data=jsonable_encoder(error.detail))


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods of every route of the path: Starlette names only those of the first (RFC 9110, 15.5.6)."""
    routes = [
        route for route in iter_route_contexts(request.app.routes) if route.matches(request.scope)[0] is not Match.NONE
    ]
    methods = {method for route in routes for method in route.methods or ()}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


async def _invalid_request(_: Request, error: RequestValidationError) -> Response:
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


async def _unexpected(_: Request, __: Exception) -> Response:
    return problem(AppError())


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    AppError: _app_error,
    StarletteHTTPException: _http_error,
    RequestValidationError: _invalid_request,
    # What nobody caught: within the server span by app.web.unexpected; this also answers for the layers around it,
    # such as the metrics', where Starlette would answer in plain text.
    Exception: _unexpected,
}
