"""The threads that endpoints run in, one for each connection, and how long a request waited for one of them.

There are no more threads than connections, so this is where overload shows.
"""

from asyncio import get_running_loop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial, wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, unwrap
from time import perf_counter
from typing import Any

from app.record import Record, current

Endpoint = Callable[..., Any]


class Workers:
    """A pool of `size` threads: the standard library's, since anyio's hand-over costs half as much again."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._handed = 0
        self._pool = ThreadPoolExecutor(size, "worker")

    @property
    def busy(self) -> int:
        """How many threads work on a request."""
        return min(self._handed, self.size)

    async def run(self, record: Record, call: Endpoint) -> Any:
        """Return what `call` returns, in a thread that knows the request's context."""
        self._handed += 1
        begin = partial(_begin, record, perf_counter(), call)
        try:
            return await get_running_loop().run_in_executor(self._pool, copy_context().run, begin)
        finally:
            self._handed -= 1

    def close(self) -> None:
        """Let go of the threads without waiting for one that hangs."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def in_thread(endpoint: Endpoint) -> Endpoint:
    """Return a coroutine function that runs `endpoint` in one of the application's threads.

    What is a coroutine function or a generator stays as it is: FastAPI knows what to do with it.
    """
    if not _blocks(endpoint):
        return endpoint

    @wraps(endpoint)
    async def threaded(**arguments: Any) -> Any:
        record = current()
        return await record.app.state.workers.run(record, partial(endpoint, **arguments))

    return threaded


def _blocks(endpoint: Endpoint) -> bool:
    called = endpoint
    while isinstance(called, partial):
        called = called.func
    called = unwrap(called)
    kinds = called, getattr(called, "__call__", None)  # noqa: B004  its kind: an object with an `async def __call__`
    tests = iscoroutinefunction, isasyncgenfunction, isgeneratorfunction
    return not any(test(kind) for test in tests for kind in kinds)


def _begin(record: Record, handed: float, call: Endpoint) -> Any:
    record.note_wait("threads", handed)
    return call()
