"""What the database says, turned into what a client can act on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from app.db import deadline
from app.errors import UNKNOWN, Conflict, DatabaseBusy, DatabaseUnavailable, InvalidValue

BUSY = {"55P03", "40001", "40P01"}  # lock_timeout, serialization failure, deadlock
FORBIDDEN = "42501"  # what the role was not granted, or a row for somebody else
UNAVAILABLE = {"08", "53", "57"}  # classes: connection, resources, operator intervention (statement_timeout included)
READ_ONLY = "25006"  # a standby, while a failover goes on
# https://www.postgresql.org/docs/current/errcodes-appendix.html
CONFLICT = "23"  # class: unique, foreign key (23001 where it restricts), exclusion; and of the class, not a conflict:
INVALID = {"23502", "23514"}  # not null, check
LIMITS = "54"  # class: a value too large for its index, too deep for the stack

logger = logging.getLogger(__name__)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the database says into what a client can act on; our own mistakes stay exceptions."""
    try:
        yield
    except (exc.TimeoutError, deadline.DeadlineExceeded) as error:  # the second where SQLAlchemy sets up a transaction
        raise DatabaseUnavailable from error
    except exc.DBAPIError as error:
        sqlstate = getattr(error.orig, "pgcode", None)
        if sqlstate in BUSY:
            raise DatabaseBusy from error
        no_answer = error.connection_invalidated or isinstance(error.orig, deadline.DeadlineExceeded)
        if no_answer or sqlstate == READ_ONLY or (sqlstate or "")[:2] in UNAVAILABLE:
            raise unavailable(error) from error
        if refused := refusal(error, sqlstate or ""):
            logger.info("the database refused a change: %s %s", type(error.orig).__name__, sqlstate or "")
            raise refused from error
        if sqlstate == FORBIDDEN:
            logger.warning("the role may not do this: does the migration of the table call protect() or share()?")
        raise


def refusal(error: exc.DBAPIError, sqlstate: str) -> Conflict | InvalidValue | None:
    """Return what a client is told of an error that its own values may have caused, or None for a mistake of ours."""
    if isinstance(error, exc.DataError) or sqlstate in INVALID or sqlstate.startswith(LIMITS):
        return InvalidValue()  # the driver's DataError is class 22
    return Conflict() if sqlstate.startswith(CONFLICT) else None


@contextmanager
def doubts() -> Iterator[None]:
    """Say of a write that got no answer that it may have been made all the same."""
    try:
        yield
    except exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise unavailable(error, UNKNOWN) from error


def unavailable(error: exc.DBAPIError, detail: str | None = None) -> DatabaseUnavailable:
    """Return the refusal for `error`, and tell the log what a client must not know."""
    sqlstate = getattr(error.orig, "pgcode", None)
    logger.warning("the database is unavailable: %s %s", type(error.orig).__name__, sqlstate or "")
    return DatabaseUnavailable(detail)
