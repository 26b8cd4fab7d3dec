"""What nobody caught, on the server span and in the log, without its message: that may quote what a client sent."""

import logging
from http import HTTPStatus

from opentelemetry.trace import StatusCode

from app.record import Record
from app.telemetry.logs import stack

PROBLEM = "app.problem.code"

logger = logging.getLogger("app.requests")


def note_failure(record: Record, error: BaseException) -> None:
    """Leave what nobody caught on the span and in the log, without its message."""
    event = failure_event(error)
    kind = event["exception.type"]
    record.span.set_status(StatusCode.ERROR, kind)
    record.span.add_event("exception", event)
    if record.status and not record.ended:
        record.broken, record.code, record.status = True, "answer_broken", HTTPStatus.INTERNAL_SERVER_ERROR
        record.span.set_attribute(PROBLEM, record.code)
        logger.error("the answer broke off: %s", kind, exc_info=error)
    else:
        logger.error("unexpected error: %s", kind, exc_info=error)


def failure_event(error: BaseException) -> dict[str, str]:
    """Return the attributes of an exception: its type and where it was raised, without its message."""
    return {"exception.type": type(error).__qualname__, "exception.stacktrace": stack(error)}
