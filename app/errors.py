"""Every refusal that a client can act on: raised where it is known, answered by app.web.problems.

An error's `code` never changes; `detail` is for people. Neither holds what the client sent or a library's exception.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from fastapi import HTTPException
from typing_extensions import TypedDict  # pydantic wants this one below Python 3.12

MAX_ERRORS = 20
MAX_NAMES = 20  # in one message
UNKNOWN = (
    "The database did not answer in time, so whether the change was made is not known. "
    "Ask again with the same Idempotency-Key, or read before you retry."
)


class FieldError(TypedDict):
    """What is wrong with one field: `pointer` is a JSON pointer (RFC 6901) into the body, `/query/…` or `/header/…`."""

    pointer: str
    message: str


def list_known(names: Iterable[str]) -> str:
    """Return the names that there are, for a message about one that there is not."""
    found = sorted(names)
    left_out = f" and {len(found) - MAX_NAMES} more" if len(found) > MAX_NAMES else ""
    return f"known are: {', '.join(found[:MAX_NAMES])}{left_out}" if found else "there are none"


class AppError(HTTPException):
    """A refusal that a client can act on; each subclass is one `code`. What catches an HTTPException catches it too."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    detail: str = "The server met an error it did not expect."

    def __init__(
        self, detail: str | None = None, *, headers: Mapping[str, str] | None = None, errors: Sequence[FieldError] = ()
    ) -> None:
        super().__init__(self.status, detail or self.detail, dict(headers or {}))
        self.errors = list(errors[:MAX_ERRORS])


class NotFound(AppError):
    """No such thing, or none that this user may see: an answer never says which of the two."""

    status, code, detail = 404, "not_found", "There is no such resource."


class Forbidden(AppError):
    """The user is known, and may not do this."""

    status, code, detail = 403, "forbidden", "The user may not do this."


class Conflict(AppError):
    """A row that is there already stands in the way, or one is missing: the answer says neither which nor whose.

    `__cause__` is SQLAlchemy's error, whose `orig.diag` names the constraint, for an entity that can say more.
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
    """This process has more requests than it can answer in time; if they waited, all would be late."""

    code, detail = "overloaded", "The service has more to do than it can for the moment."


class RequestDeadline(Unavailable):
    """The time of the request is used up, and it was not the database that used it: slow code, or another service."""

    code, detail = "request_deadline", "The time for this request was used up before it was done."


class DatabaseUnavailable(Unavailable):
    """The database could not be reached, or used the request's time and did not answer."""

    code, detail = "database_unavailable", "The database did not answer in time."


class DatabaseBusy(Unavailable):
    """Another transaction holds what this one needs."""

    code, detail = "database_busy", "Another request is changing the same data. Nothing was changed by this one."
