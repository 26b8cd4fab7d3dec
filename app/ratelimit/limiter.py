"""Who is counted under which key, the counts in this process, the header fields, and 429."""

import ipaddress
import warnings
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import slowapi
from limits import RateLimitItem
from limits.storage import Storage
from starlette.requests import Request

from app.auth.tokens import EarlyToken, ExpiredToken, Unauthenticated
from app.errors import AppError
from app.ratelimit import Usage
from app.ratelimit.heaviest import Heaviest
from app.record import Record
from app.settings import Settings
from app.settings.types import MEMORY, parse_limits

if TYPE_CHECKING:
    from app.ratelimit.redis import SharedStorage

MAX_KEYS = 65_536
MAX_DROPPED = 4  # by one request: more than one, so that a table shrinks; few, so that no request pays for all

Outcome = Literal["allowed", "limited", "fallback"]


class RateLimited(AppError):
    """The budget is spent (RFC 6585, 4). `Retry-After` is the number of seconds after which a request passes."""

    status, code, detail = 429, "rate_limited", "Too many requests; `Retry-After` says in how many seconds to return."


@dataclass(slots=True)
class Window:
    """What is kept of a key. `ends` is on the monotonic clock, which nobody sets back."""

    ends: float
    used: int = 0


class MemoryStorage(Storage):
    """The storage of `memory://` URIs, for one thread: the event loop's.

    It starts no timer threads, as the storage of `limits` does. Of each length of a window there is a table, in which
    windows end in the order in which they began. When a table is full (MAX_KEYS, 20 MiB), the oldest window is dropped.
    Nobody is refused because of it.
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


class Budget:
    """Limits on one kind of key; slowapi chooses their storage.

    Header fields are those of draft-ietf-httpapi-ratelimit-headers-10. Each of several limits has its window's name.
    """

    def __init__(self, name: str, limits: str, storage_uri: str) -> None:
        if storage_uri != MEMORY:  # only those who use Redis should wait for the import of redis-py
            from app.ratelimit import redis  # noqa: F401, PLC0415  so that `limits` knows our storage
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # that there is no configuration file ""
            # None in place of "" would read .env.
            chosen = slowapi.Limiter(network_of, [limits], storage_uri=storage_uri, config_filename="")
        storage: Any = chosen.limiter.storage
        self.memory = storage if isinstance(storage, MemoryStorage) else MemoryStorage()
        self.shared: SharedStorage | None = None if storage is self.memory else storage
        self.limits = parse_limits(limits)
        windows = [f"{limit.multiples if limit.multiples > 1 else ''}{limit.GRANULARITY.name}" for limit in self.limits]
        self._names = windows if len(windows) > 1 else [name]
        named = zip(self._names, self.limits, strict=True)
        self._policy = ", ".join(f'"{name}";q={limit.amount};w={limit.get_expiry()}' for name, limit in named)

    def header_fields(self, usages: Sequence[Usage]) -> dict[str, str]:
        """Return the header fields that tell a client its windows."""
        left = [
            f'"{name}";r={max(0, limit.amount - usage.used)};t={ceil(usage.left)}'
            for name, limit, usage in zip(self._names, self.limits, usages, strict=True)
        ]
        return {"RateLimit-Policy": self._policy, "RateLimit": ", ".join(left)}

    def retry_after(self, usages: Sequence[Usage]) -> int | None:
        """Return after how many seconds to retry, if the request that was counted is one too many."""
        windows = list(zip(self.limits, usages, strict=True))
        if all(usage.used <= limit.amount for limit, usage in windows):
            return None
        return max(1, *(ceil(usage.left) for limit, usage in windows if usage.used >= limit.amount))


class RateLimits:
    """The budgets of one application. `outcomes` and `failures` (reasons of app.auth) are counted for the metrics.

    The outcome `limited` is a 429; `fallback` was counted in this process, since Redis did not answer. Strangers are
    always counted in this process: they cannot fill Redis, nor make it slow, nor push a user's count out of a table.
    """

    def __init__(self, settings: Settings) -> None:
        uri = settings.rate_limit_storage_uri.get_secret_value()
        self._users = Budget("default", settings.rate_limit, uri)
        self._strangers = Budget("unauthenticated", settings.rate_limit_unauthenticated, MEMORY)
        self.outcomes: Counter[Outcome] = Counter()
        self.failures: Counter[str] = Counter()
        self._heaviest = Heaviest()

    async def open(self) -> None:
        """Find out whether Redis answers."""
        if self._users.shared:
            await self._users.shared.open()

    def close(self) -> None:
        """Let go of Redis, and name no users any more."""
        self._heaviest.close()
        if self._users.shared:
            self._users.shared.close()

    async def admit(self, record: Record) -> None:
        """Count a request of a verified user and set its header fields, or raise RateLimited."""
        users, user_id = self._users, record.principal.user_id
        usages = await users.shared.count(user_id, users.limits) if users.shared else None
        is_fallback = users.shared is not None and usages is None
        usages = usages or users.memory.count(user_id, users.limits)
        self._heaviest.note(user_id, users.limits, usages)
        self._settle(record, users, usages)
        self.outcomes["fallback" if is_fallback else "allowed"] += 1

    def count_failure(self, record: Record, request: Request, failure: Unauthenticated) -> None:
        """Count a failed authentication, or raise RateLimited after too many from this address.

        A token of another time is not limited: its signature was good, and its user is to fetch another.
        """
        self.failures[failure.reason or failure.code] += 1
        if not isinstance(failure, ExpiredToken | EarlyToken):
            usages = self._strangers.memory.count(network_of(request), self._strangers.limits)
            self._settle(record, self._strangers, usages)

    def _settle(self, record: Record, budget: Budget, usages: Sequence[Usage]) -> None:
        record.headers |= budget.header_fields(usages)
        if (seconds := budget.retry_after(usages)) is not None:
            self.outcomes["limited"] += 1
            raise RateLimited(headers={"Retry-After": str(seconds)})


def network_of(request: Request) -> str:
    """Return the key of an address: of IPv6 the /64 (RFC 6177: a site has at least that), since one host has them all.

    What has no address shares one key: a peer on a unix socket, or what a trusted proxy could not name.
    """
    try:
        address = ipaddress.ip_address(request.client.host if request.client else "")
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or int(address) >> 64)
    return str(address)
