"""Counts in this process: bounded, and without the timer threads of the memory storage of `limits`."""

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

from limits import RateLimitItem
from limits.storage import Storage

MAX_KEYS = 65_536
MAX_DROPPED = 4  # by one request: more than one, so that a table shrinks; few, so that no request pays for all


class Usage(NamedTuple):
    """A window of one limit: requests in it so far, refused ones too, and the seconds until it ends."""

    used: int
    left: float


@dataclass(slots=True)
class Window:
    """What is kept of a key. `ends` is on the monotonic clock, which nobody sets back."""

    ends: float
    used: int = 0


class MemoryStorage(Storage):
    """The storage of `memory://` URIs, for one thread: the event loop's.

    It has a table for each length of a window, in which the windows end in the order in which they began. When a table
    is full (MAX_KEYS, 20 MiB), the oldest window is dropped. Nobody is refused because of it.
    """

    STORAGE_SCHEME = ["memory"]  # noqa: RUF012  `limits` declares no ClassVar
    base_exceptions = ()

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **_: Any) -> None:  # noqa: FBT001, FBT002  as `limits` has it
        super().__init__(uri, wrap_exceptions)
        self._tables: defaultdict[int, OrderedDict[str, Window]] = defaultdict(OrderedDict)

    def count(self, key: str, limits: Sequence[RateLimitItem]) -> list[Usage]:
        """Count a request of `key` in the windows of `limits`, up to the first that is full; return them all."""
        usages: list[Usage] = []
        amount = 1
        for limit in limits:
            usage = self._add(key, limit.get_expiry(), amount)
            usages.append(usage)
            if usage.used > limit.amount:
                amount = 0
        return usages

    def _add(self, key: str, length_s: int, amount: int) -> Usage:
        table, now = self._tables[length_s], monotonic()
        window = table.get(key)
        if window is None or window.ends <= now:
            table.pop(key, None)
            _make_room(table, now)
            window = table[key] = Window(now + length_s)
        window.used += amount
        return Usage(window.used, min(window.ends - now, length_s))  # (now + 60) - now may be over 60

    def _count_one_window(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("`count` counts in all windows of a key")

    incr = get = get_expiry = check = reset = clear = _count_one_window  # `limits` declares them abstract


def _make_room(table: OrderedDict[str, Window], now: float) -> None:
    """Drop windows that have ended, and the oldest of a full table."""
    for _ in range(min(MAX_DROPPED, len(table))):
        oldest = next(iter(table.values()))
        if oldest.ends > now and len(table) < MAX_KEYS:
            break
        table.popitem(last=False)
