"""The threads that endpoints run in, one for each connection, and how long a request waited for one of them.

There are no more threads than connections, so this is where overload shows.
"""

from asyncio import CancelledError, current_task, get_running_loop, wrap_future
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
        began = perf_counter()
        work = Work(partial(copy_context().run, partial(_begin, record, began, call)))
        self._handed += 1
        future = self._pool.executor.submit(work)
        timer = get_running_loop().call_later(record.remaining(), future.cancel)  # only what has not begun
        try:
            return await wrap_future(future)
        except CancelledError:
            if not future.cancelled() or _is_cancelled():
                raise
            work.call = None
            record.note_wait("threads", began, Overloaded.__name__)
            raise Overloaded from None
        finally:
            timer.cancel()
            self._handed -= 1

    def close(self) -> None:
        """Let go of the threads without waiting for one that hangs; who works on has new ones."""
        self._pool.close()


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


class Work:
    """A call in the pool's queue, where what was given up stays until a thread comes to it: then without the call."""

    def __init__(self, call: Endpoint) -> None:
        self.call: Endpoint | None = call

    def __call__(self) -> Any:
        return self.call() if self.call else None


def _is_cancelled() -> bool:
    """Tell whether the task at hand was asked to end."""
    task = current_task()
    return task is not None and task.cancelling() > 0


def _blocks(endpoint: Endpoint) -> bool:
    """Tell, by FastAPI's own tests, a function that blocks from a coroutine function and a generator."""
    return not any(is_kind(endpoint) for is_kind in (_is_coroutine_callable, _is_gen_callable, _is_async_gen_callable))


def _begin(record: Record, handed: float, call: Endpoint) -> Any:
    record.note_wait("threads", handed)
    try:
        return call()
    except StopIteration as error:  # no future can hold it: who waits would wait for ever
        raise RuntimeError("the endpoint raised StopIteration") from error
