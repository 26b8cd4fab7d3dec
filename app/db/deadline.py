"""One monotonic deadline a request: every wait ends at it.

The wait callback is the client's end of a query: if the server is frozen, no server setting and no TCP keepalive ends
the wait. It costs 3 to 12 us a query, holds for every psycopg2 connection of the process, and rules out COPY and large
objects (https://www.psycopg.org/docs/advanced.html#support-for-coroutine-libraries).
"""

import select
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import inf
from time import monotonic
from typing import Any

import psycopg2
from psycopg2 import extensions

from app.errors import Overloaded, RequestDeadline, Unavailable
from app.record import CURRENT, Record


class DeadlineExceeded(psycopg2.OperationalError):
    """The server did not answer in time. SQLAlchemy gives the connection up because this is an error of the driver."""

    def __init__(self, waited_s: float, message: str = "the deadline has passed") -> None:
        super().__init__(message)
        self.waited_s = waited_s


@contextmanager
def start(seconds: float) -> Iterator[None]:
    """Start a deadline of `seconds` in place of the request's."""
    before = CURRENT.get()
    record = Record(seconds)
    record.start_deadline()
    CURRENT.set(record)
    try:
        yield
    finally:
        CURRENT.set(before)  # no token: a dependency may be opened in one context and closed in another


def ensure(seconds: float) -> AbstractContextManager[None]:
    """Keep the request's deadline; where there is no request, start one of `seconds`."""
    return start(seconds) if CURRENT.get() is None else nullcontext()


def remaining() -> float:
    """Return the seconds left, below 0 once they are spent; infinity where there is no deadline."""
    record = CURRENT.get()
    return inf if record is None else record.remaining()


def find_other_cause() -> type[Unavailable] | None:
    """Return what a request whose time is used up is answered, where the database had less than half of that time."""
    record = CURRENT.get()
    if record is None or record.app is None or not record.is_late:  # there is no request, or it has time left
        return None
    half = (record.timeout_s - record.remaining()) / 2
    if record.database_seconds >= half:
        return None
    return Overloaded if record.thread_wait >= half else RequestDeadline


def install() -> None:
    """End every wait of psycopg2 at the deadline, connecting included."""
    extensions.set_wait_callback(_wait)


def _wait(connection: Any) -> None:
    whole = remaining()  # as it was when the wait began: if the HTTP answer begins now, the end stays
    end = monotonic() + whole
    while (state := connection.poll()) != extensions.POLL_OK:
        left = end - monotonic()
        if left <= 0:
            raise DeadlineExceeded(max(0.0, whole))
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        poll.poll(None if left == inf else left * 1000)
