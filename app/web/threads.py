"""The threads that endpoints run in, one for each connection, and how long a request waited for one of them.

There are no more threads than connections, so this is where overload shows.
"""

from asyncio import CancelledError, current_task, get_running_loop, wrap_future
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial, wraps
from time import perf_counter
from typing import Any

from fastapi.dependencies.models import _is_async_gen_callable, _is_coroutine_callable, _is_gen_callable

from app.db.deadline import find_other_cause
from app.errors import Overloaded
from app.record import Holders, Record, current

BEGIN_S = 0.1  # in which a free thread begins: code that needs no database answers, however late it is

Endpoint = Callable[..., Any]


class Workers:
    """A pool of `size` threads: the standard library's, since anyio's hand-over costs half as much again."""

    def __init__(self, size: int) -> None:
        self._size, self._calls = size, 0
        self._holders = Holders(size)
        self._executor = ThreadPoolExecutor(size, "worker")

    def states(self) -> dict[str, int]:
        """Return how many threads work on a request, and how many could."""
        busy = min(self._calls, self._size)
        return {"busy": busy, "idle": self._size - busy}

    async def run(self, record: Record, call: Endpoint) -> Any:
        """Return what `call` returns in a thread.

        Raises:
            Overloaded: none was free until the request's deadline.
            RequestDeadline: the same, where the time was nearly used up before the wait began.
        """
        began, calls, holders = perf_counter(), [call], self._holders.of_all()
        self._calls += 1
        future = self._executor.submit(copy_context().run, self._run, calls, record, began, holders)
        left = max(record.remaining(), BEGIN_S)
        timer = get_running_loop().call_later(left, future.cancel)  # only what has not begun
        try:
            return await wrap_future(future)
        except CancelledError:
            task = current_task()
            if not future.cancelled() or (task and task.cancelling()):
                raise
            calls.clear()  # what was given up stays in the queue until a thread comes to it: without its arguments
            record.note_wait("threads", began, Overloaded.__name__, holders)
            raise (find_other_cause() or Overloaded)() from None
        finally:
            timer.cancel()
            self._calls -= 1

    def _run(self, calls: list[Endpoint], record: Record, began: float, holders: Sequence[Record]) -> Any:
        record.note_wait("threads", began, None, holders)
        self._holders.begin(record, record)
        try:
            return calls[0]()
        except StopIteration as error:  # no future can hold it: who waits would wait for ever
            raise RuntimeError("the endpoint raised StopIteration") from error
        finally:
            self._holders.end(record)

    def close(self) -> None:
        """Let go of the threads without waiting for one that hangs; calls that come later have new ones."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = ThreadPoolExecutor(self._size, "worker")


def in_thread(endpoint: Endpoint) -> Endpoint:
    """Return a coroutine function that runs `endpoint` in one of the application's threads.

    What FastAPI takes for a coroutine function or a generator stays as it is.
    """
    if any(is_kind(endpoint) for is_kind in (_is_coroutine_callable, _is_gen_callable, _is_async_gen_callable)):
        return endpoint

    @wraps(endpoint)
    async def run_in_thread(**arguments: Any) -> Any:
        record = current()
        return await record.app.state.workers.run(record, partial(endpoint, **arguments))

    return run_in_thread
