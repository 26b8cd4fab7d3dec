"""One monotonic deadline a request: whatever waits, waits for what is left of it.

The wait callback is the client's own end of a query: no server setting and no TCP keepalive saves a client whose server
is frozen. It costs 3 to 12 us a query, holds for every psycopg2 connection of the process, and rules out COPY and large
objects (https://www.psycopg.org/docs/advanced.html#support-for-coroutine-libraries).
"""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Any

import psycopg2
from psycopg2 import extensions

_end: ContextVar[float | None] = ContextVar("deadline", default=None)


class DeadlineExceeded(psycopg2.OperationalError):
    """The server did not answer in time; a subclass of the driver's error, or SQLAlchemy would keep the connection."""


def start(seconds: float) -> None:
    """Give the current request `seconds` from now; threads that work for it inherit the deadline."""
    _end.set(monotonic() + seconds)


@contextmanager
def apart(seconds: float) -> Iterator[None]:
    """Work under a deadline of its own, whatever is left of the request's."""
    token = _end.set(monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Work under the request's deadline, or under one of `seconds` where there is no request."""
    token = _end.set(monotonic() + seconds) if _end.get() is None else None
    try:
        yield
    finally:
        if token:
            _end.reset(token)


def remaining() -> float:
    """Return the seconds left, below 0 once they are spent; infinity where there is no deadline."""
    end = _end.get()
    return float("inf") if end is None else end - monotonic()


def install() -> None:
    """Make every wait of psycopg2, connecting included, end at the deadline."""
    extensions.set_wait_callback(_wait)


def _wait(connection: Any) -> None:
    while (state := connection.poll()) != extensions.POLL_OK:
        left = remaining()
        if left <= 0:
            raise DeadlineExceeded("the deadline has passed")
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        poll.poll(None if left == float("inf") else left * 1000)
