"""The threads that endpoints run in, one for each connection, and how long a request waited for one of them.

There are no more threads than connections, so this is where overload shows.
"""

from asyncio import Semaphore, get_running_loop, timeout
from collections.abc import Callable
from contextvars import copy_context
from functools import partial, wraps
from time import perf_counter
from typing import Any

from fastapi.dependencies.models import _is_async_gen_callable, _is_coroutine_callable, _is_gen_callable

from app.errors import Overloaded
from app.record import Record, current
from app.thread_pool import ThreadPool

Endpoint = Callable[..., Any]


class Workers:
    """A pool of `size` threads: the standard library's, since anyio's hand-over costs half as much again."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._handed = 0
        self._free = Semaphore(size)
        self._pool = ThreadPool(size, "worker")

    @property
    def busy(self) -> int:
        """How many threads work on a request."""
        return min(self._handed, self.size)

    async def run(self, record: Record, call: Endpoint) -> Any:
        """Return what `call` returns, in a thread that knows the request's context.

        Raises:
            Overloaded: no thread was free until the request's deadline.

        """
        begin = partial(_begin, record, perf_counter(), call)
        pool, free = self._pool.executor, self._free
        self._handed += 1
        try:
            # The wait is here and not in the pool's queue, which would keep what was given up.
            await (_wait(record, free) if free.locked() else free.acquire())
            try:
                return await get_running_loop().run_in_executor(pool, copy_context().run, begin)
            finally:
                free.release()
        finally:
            self._handed -= 1

    def close(self) -> None:
        """Let go of the threads without waiting for one that hangs; who works on has new ones."""
        self._pool.close()
        self._free = Semaphore(self.size)


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


async def _wait(record: Record, free: Semaphore) -> None:
    began = perf_counter()
    try:
        async with timeout(record.remaining()):
            await free.acquire()
    except TimeoutError:
        record.note_wait("threads", began, Overloaded.__name__)
        raise Overloaded from None


def _blocks(endpoint: Endpoint) -> bool:
    """Tell, by FastAPI's own tests, a function that blocks from a coroutine function and a generator."""
    return not any(is_kind(endpoint) for is_kind in (_is_coroutine_callable, _is_gen_callable, _is_async_gen_callable))


def _begin(record: Record, handed: float, call: Endpoint) -> Any:
    record.note_wait("threads", handed)
    try:
        return call()
    except StopIteration as error:  # no future can hold it: who waits would wait for ever
        raise RuntimeError("the endpoint raised StopIteration") from error
