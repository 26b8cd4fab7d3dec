"""Threads that nobody waits for when the process leaves."""

from concurrent.futures import ThreadPoolExecutor


class ThreadPool:
    """At most `size` threads, begun when they are first needed, and anew after `close`."""

    def __init__(self, size: int, name: str) -> None:
        self._size, self._name = size, name
        self._executor: ThreadPoolExecutor | None = None

    @property
    def executor(self) -> ThreadPoolExecutor:
        """What takes their work."""
        self._executor = self._executor or ThreadPoolExecutor(self._size, self._name)
        return self._executor

    def close(self) -> None:
        """Let go of the threads without waiting for one that hangs; work that was not begun is never begun."""
        if self._executor:
            self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = None
