"""One monotonic deadline a request: whatever waits, waits for what is left of it.

The wait callback is the client's own end of a query: no server setting and no TCP keepalive saves a client whose server
is frozen. It costs 3 to 12 us a query, holds for every psycopg2 connection of the process, and rules out COPY and large
objects (https://www.psycopg.org/docs/advanced.html#support-for-coroutine-libraries).
"""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import Any

import psycopg2
from psycopg2 import extensions

from app.record import CURRENT, Record


class DeadlineExceeded(psycopg2.OperationalError):
    """The server did not answer in time; a subclass of the driver's error, or SQLAlchemy would keep the connection."""


@contextmanager
def apart(seconds: float) -> Iterator[None]:
    """Work under a deadline of its own, whatever is left of the request's."""
    before = CURRENT.get()
    record = Record(seconds)
    record.start_deadline()
    CURRENT.set(record)
    try:
        yield
    finally:
        CURRENT.set(before)  # no token: what a dependency opened in one context may be closed in another


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Work under the request's deadline, or under one of `seconds` where there is no request."""
    if CURRENT.get() is not None:
        yield
        return
    with apart(seconds):
        yield


def remaining() -> float:
    """Return the seconds left, below 0 once they are spent; infinity where there is no deadline."""
    record = CURRENT.get()
    return inf if record is None else record.remaining()


def install() -> None:
    """Make every wait of psycopg2, connecting included, end at the deadline."""
    extensions.set_wait_callback(_wait)


def _wait(connection: Any) -> None:
    end = monotonic() + remaining()  # of when the wait began: an answer that begins meanwhile prolongs nothing
    while (state := connection.poll()) != extensions.POLL_OK:
        left = end - monotonic()
        if left <= 0:
            raise DeadlineExceeded("the deadline has passed")
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        poll.poll(None if left == inf else left * 1000)
