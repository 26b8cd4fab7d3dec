"""Counts in this process: bounded, and without the threads and the 331 bytes a key of the storage of `limits`."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

from limits import RateLimitItem
from limits.storage import Storage

MAX_KEYS = 65_536
TRIM = 4  # more than one, so that a table shrinks; few, so that no request pays for all of them


class Usage(NamedTuple):
    """A window of one limit: requests in it so far, refused ones too, and the seconds until it ends."""

    used: int
    left: float


class Window:
    """What is kept of a key. `ends` is on the monotonic clock, which nobody sets back."""

    __slots__ = ("count", "ends")

    def __init__(self, ends: float) -> None:
        self.count, self.ends = 0, ends


class Table:
    """The windows of one length, in the order in which they end: since they began so.

    Holds at most MAX_KEYS windows (20 MiB). A further one takes the place of the oldest, the first to end anyway, whose
    key begins anew when it returns: a full table forgives, it never refuses who did nothing.
    """

    def __init__(self, length_s: int) -> None:
        self._length_s = length_s
        self._windows: OrderedDict[str, Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def hit(self, key: str, amount: int = 1) -> Usage:
        """Count, and return the window with it."""
        now = time.monotonic()
        window = self._windows.get(key)
        if window is None or window.ends <= now:
            window = self._begin(key, now)
        window.count += amount
        return self._usage(window, now)

    def peek(self, key: str) -> Usage:
        """Return the window as it is; one that has not begun is a whole one."""
        window, now = self._windows.get(key), time.monotonic()
        if window is None or window.ends <= now:
            return Usage(0, self._length_s)
        return self._usage(window, now)

    def forget(self, key: str) -> None:
        """Let the key begin anew."""
        self._windows.pop(key, None)

    def _usage(self, window: Window, now: float) -> Usage:
        return Usage(window.count, min(window.ends - now, self._length_s))  # (now + 60) - now may be over 60

    def _begin(self, key: str, now: float) -> Window:
        self.forget(key)
        for _ in range(min(TRIM, len(self._windows))):
            oldest = next(iter(self._windows.values()))
            if oldest.ends > now and len(self._windows) < MAX_KEYS:
                break
            self._windows.popitem(last=False)
        window = self._windows[key] = Window(now + self._length_s)
        return window


class MemoryStorage(Storage):
    """The storage of `memory://` URIs, in place of the one in `limits`. For one thread: the event loop's.

    The limiter calls `count` alone; the other methods are there because `limits` declares them abstract.
    """

    STORAGE_SCHEME = ["memory"]  # noqa: RUF012  `limits` declares no ClassVar
    base_exceptions = ()

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **_: Any) -> None:  # noqa: FBT001, FBT002  as `limits` has it
        super().__init__(uri, wrap_exceptions)
        self._tables: dict[int, Table] = {}

    def count(self, key: str, limits: Sequence[RateLimitItem]) -> list[Usage]:
        """Count a request of `key` in the windows of `limits`, up to the first that is full; return them all."""
        usages: list[Usage] = []
        full = False
        for limit in limits:
            table = self._table(limit.get_expiry())
            usage = table.peek(key) if full else table.hit(key)
            full = full or usage.used > limit.amount
            usages.append(usage)
        return usages

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, and return the count."""
        return self._table(expiry).hit(key, amount).used

    def get(self, key: str) -> int:
        """Return the count."""
        return max((table.peek(key).used for table in self._tables.values()), default=0)

    def get_expiry(self, key: str) -> float:
        """Return when the window ends, in seconds since the epoch."""
        running = [usage.left for table in self._tables.values() if (usage := table.peek(key)).used]
        return time.time() + max(running, default=0)

    def check(self) -> bool:
        """Return whether the storage works."""
        return True

    def reset(self) -> int:
        """Forget everything, and return how many keys that were."""
        forgotten = sum(map(len, self._tables.values()))
        self._tables.clear()
        return forgotten

    def clear(self, key: str) -> None:
        """Let the key begin anew."""
        for table in self._tables.values():
            table.forget(key)

    def _table(self, length_s: int) -> Table:
        if length_s not in self._tables:
            self._tables[length_s] = Table(length_s)
        return self._tables[length_s]
