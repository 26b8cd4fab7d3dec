"""The threads that endpoints run in, one for each connection, and how long a request waited for one of them.

There are no more threads than connections, so this is where overload shows.
"""

from asyncio import get_running_loop
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

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

    async def run(self, endpoint: Endpoint, arguments: Mapping[str, Any]) -> Any:
        """Return what `endpoint` does, in a thread that knows the request's context."""
        self._handed += 1
        try:
            context = copy_context()
            return await get_running_loop().run_in_executor(self._pool, context.run, _noted, endpoint, arguments)
        finally:
            self._handed -= 1

    def close(self) -> None:
        """Let go of the threads without waiting for one that hangs."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class Handover:
    """When an endpoint was handed to the threads, when one took it and when it had a connection, by `perf_counter`."""

    workers: Workers
    handed: float = field(default_factory=perf_counter)
    taken: float | None = None
    connected: float | None = None


HANDOVER: ContextVar[Handover | None] = ContextVar("handover", default=None)


def in_thread(endpoint: Endpoint) -> Endpoint:
    """Return a coroutine that runs `endpoint` in one of the current Handover's threads."""

    async def threaded(**arguments: Any) -> Any:
        handover = HANDOVER.get()
        assert handover  # ApiRoute made it
        return await handover.workers.run(endpoint, arguments)

    return threaded


def _noted(endpoint: Endpoint, arguments: Mapping[str, Any]) -> Any:
    if handover := HANDOVER.get():
        handover.taken = perf_counter()
    return endpoint(**arguments)
