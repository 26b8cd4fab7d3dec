"""The limits as HTTP sees them: who is counted under which key, the header fields, and 429."""

import ipaddress
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from math import ceil
from typing import Literal

import slowapi
from starlette.requests import Request

from app.auth.tokens import ExpiredToken, Unauthenticated
from app.errors import AppError
from app.ratelimit.memory import MemoryStorage, Usage
from app.ratelimit.shared import Shared, SharedStorage
from app.record import Record, current
from app.settings import Settings
from app.settings.types import MEMORY, parse_limits

Outcome = Literal["allowed", "limited", "fallback"]


class RateLimited(AppError):
    """The budget is spent (RFC 6585, 4). `Retry-After` is the number of seconds after which a request passes."""

    status, code, detail = 429, "rate_limited", "Too many requests; `Retry-After` says in how many seconds to return."


class Budget(slowapi.Limiter):
    """Limits on one kind of key; slowapi's class holds them with their storage, and reads no `.env`.

    Header fields are those of draft-ietf-httpapi-ratelimit-headers-10; the names of several limits are their windows'.
    """

    def __init__(self, name: str, limits: str, key: Callable[[Request], str], storage_uri: str) -> None:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # that there is no configuration file ""
            super().__init__(key, [limits], storage_uri=storage_uri, config_filename="")
        storage = self.limiter.storage
        assert isinstance(storage, MemoryStorage | SharedStorage)  # their schemes are all that Settings lets through
        self.limits, self.storage = parse_limits(limits), storage
        windows = [f"{limit.multiples if limit.multiples > 1 else ''}{limit.GRANULARITY.name}" for limit in self.limits]
        self._names = windows if len(windows) > 1 else [name]
        named = zip(self._names, self.limits, strict=True)
        self._policy = ", ".join(f'"{name}";q={limit.amount};w={limit.get_expiry()}' for name, limit in named)

    def fields(self, usages: Sequence[Usage]) -> dict[str, str]:
        """Return the header fields that tell a client its windows."""
        left = [
            f'"{name}";r={max(0, limit.amount - usage.used)};t={ceil(usage.left)}'
            for name, limit, usage in zip(self._names, self.limits, usages, strict=True)
        ]
        return {"RateLimit-Policy": self._policy, "RateLimit": ", ".join(left)}

    def refuses(self, usages: Sequence[Usage]) -> bool:
        """Tell whether a request counted in these windows is one too many."""
        return any(usage.used > limit.amount for limit, usage in zip(self.limits, usages, strict=True))

    def refusal(self, usages: Sequence[Usage]) -> RateLimited:
        """Return the error for a request that is one too many."""
        full = [usage.left for limit, usage in zip(self.limits, usages, strict=True) if usage.used >= limit.amount]
        return RateLimited(headers={"Retry-After": str(max(1, ceil(max(full))))})


class RateLimits:
    """The budgets of one application. `outcomes` and `failures` count since its start, for whoever exports them.

    An outcome is `allowed`, `limited` (answered 429) or `fallback`: allowed by this process alone, for want of Redis.
    A failure is an error code of `app.auth`. Strangers are counted in this process, whatever the storage of the users:
    they cannot fill Redis, nor make it slow, nor push a user's count out of a table.
    """

    def __init__(self, settings: Settings) -> None:
        uri = settings.rate_limit_storage_uri.get_secret_value()
        self._users = Budget("default", settings.rate_limit, user, uri)
        self._strangers = Budget("unauthenticated", settings.rate_limit_unauthenticated, network, MEMORY)
        storage = self._users.storage
        self._shared = Shared(storage, self._users.limits) if isinstance(storage, SharedStorage) else None
        self.outcomes: Counter[Outcome] = Counter()
        self.failures: Counter[str] = Counter()

    async def open(self) -> None:
        """Find out whether the storage answers."""
        if self._shared:
            await self._shared.open()

    async def close(self) -> None:
        """Let go of the storage."""
        if self._shared:
            await self._shared.close()

    async def admit(self, record: Record) -> None:
        """Count a request of a verified user; the record's headers tell the outcome, whatever the answer will be.

        Raises:
            RateLimited: the user's budget is spent.

        """
        usages, fallback = await self._count(record.principal.user_id)
        self._settle(record, self._users, usages)
        self.outcomes["fallback" if fallback else "allowed"] += 1

    def refuse(self, record: Record, request: Request, failure: Unauthenticated) -> None:
        """Count a failed authentication; a good token never comes here.

        An expired one is counted and not limited: its signature was good, and its user is to fetch another.

        Raises:
            RateLimited: there were too many from this address.

        """
        self.failures[failure.code] += 1
        if isinstance(failure, ExpiredToken):
            return
        usages = self._strangers.storage.count(network(request), self._strangers.limits)
        self._settle(record, self._strangers, usages)

    def _settle(self, record: Record, budget: Budget, usages: Sequence[Usage]) -> None:
        record.headers |= budget.fields(usages)
        if budget.refuses(usages):
            self.outcomes["limited"] += 1
            raise budget.refusal(usages)

    async def _count(self, key: str) -> tuple[list[Usage], bool]:
        if self._shared:
            return await self._shared.count(key)
        return self._users.storage.count(key, self._users.limits), False


def user(_: Request) -> str:
    """Return the key of a verified user."""
    user_id: str = current().principal.user_id
    return user_id


def network(request: Request) -> str:
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
