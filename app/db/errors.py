"""The database's errors as a client learns of them, and whose fault it was that the time was used up."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from app.db import deadline
from app.errors import (
    UNKNOWN,
    AppError,
    Conflict,
    DatabaseBusy,
    DatabaseUnavailable,
    InvalidValue,
    Unavailable,
)

# By SQLSTATE, or by its class (the first two characters): https://www.postgresql.org/docs/current/errcodes-appendix.html
ERRORS: dict[str, type[AppError]] = {
    "08": DatabaseUnavailable,  # connection
    "23": Conflict,  # unique, foreign key (23001 where it restricts), exclusion
    "23502": InvalidValue,  # not null
    "23514": InvalidValue,  # check
    "25006": DatabaseUnavailable,  # a standby answers while a failover goes on
    "28": DatabaseUnavailable,  # the login is not let in
    "40001": DatabaseBusy,  # serialization failure
    "40P01": DatabaseBusy,  # deadlock
    "53": DatabaseUnavailable,  # resources
    "54": InvalidValue,  # too large for its index, too deep for the stack
    "55P03": DatabaseBusy,  # lock_timeout
    "57": DatabaseUnavailable,  # operator intervention, statement_timeout included
}
FORBIDDEN = "42501"  # the role has no such right, or the row would be another user's

logger = logging.getLogger(__name__)


@contextmanager
def translated_errors(*, outcome_unknown: bool = False) -> Iterator[None]:
    """Raise an AppError in place of the database's error; a mistake of our code stays the exception it is.

    With `outcome_unknown` a statement may have run although its answer never came.
    """
    try:
        yield
    except (exc.TimeoutError, deadline.DeadlineExceeded) as error:  # the second where SQLAlchemy sets up a transaction
        raise unavailable() from error
    except exc.DBAPIError as error:
        if translated := translation(error, outcome_unknown=outcome_unknown):
            raise translated from error
        raise


def translation(error: exc.DBAPIError, *, outcome_unknown: bool) -> AppError | None:
    """Return the answer to a client, or None for a mistake of our code."""
    if error.connection_invalidated or isinstance(error.orig, deadline.DeadlineExceeded):
        return unavailable(error, UNKNOWN if outcome_unknown else None)
    sqlstate = getattr(error.orig, "pgcode", None) or ""
    answer = ERRORS.get(sqlstate) or ERRORS.get(sqlstate[:2])
    is_refused = isinstance(error, exc.OperationalError) and not sqlstate  # libpq had no connection to send it on
    if answer is DatabaseUnavailable or is_refused:
        return unavailable(error)
    if isinstance(error, exc.DataError):  # class 22; the driver's own has no SQLSTATE
        answer = InvalidValue
    if answer:
        logger.info("the database refused a change: %s %s", type(error.orig).__name__, sqlstate)
    if sqlstate == FORBIDDEN:
        logger.warning("the role may not do this: does the migration of the table call protect() or share()?")
    return answer() if answer else None


def unavailable(error: exc.DBAPIError | None = None, detail: str | None = None) -> Unavailable:
    """Return the refusal for want of time, or for `error`; the log has what a client must not know.

    Where something else used the request's time, the database is not blamed, unless it leaves an outcome unknown.
    """
    if detail is None and (cause := deadline.find_other_cause()):
        return cause()
    if error:
        sqlstate = getattr(error.orig, "pgcode", None) or ""
        logger.warning("the database is unavailable: %s %s", type(error.orig).__name__, sqlstate)
    return DatabaseUnavailable(detail)
