"""The limits as HTTP sees them: who is counted under which key, the header fields, and 429."""

import ipaddress
import warnings
from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import Literal

import slowapi
from starlette.requests import Request

from app.auth.tokens import ExpiredToken, Unauthenticated
from app.errors import AppError
from app.ratelimit.memory import MemoryStorage, Usage
from app.ratelimit.redis import SharedStorage
from app.record import Record
from app.settings import Settings
from app.settings.types import MEMORY, parse_limits

Outcome = Literal["allowed", "limited", "fallback"]


class RateLimited(AppError):
    """The budget is spent (RFC 6585, 4). `Retry-After` is the number of seconds after which a request passes."""

    status, code, detail = 429, "rate_limited", "Too many requests; `Retry-After` says in how many seconds to return."


class Budget(slowapi.Limiter):
    """Limits on one kind of key; slowapi's class chooses their storage.

    Header fields are those of draft-ietf-httpapi-ratelimit-headers-10. Each of several limits has its window's name.
    """

    def __init__(self, name: str, limits: str, storage_uri: str) -> None:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # that there is no configuration file ""
            super().__init__(network_of, [limits], storage_uri=storage_uri, config_filename="")  # None would read .env
        storage = self.limiter.storage
        self.shared = storage if isinstance(storage, SharedStorage) else None
        self.memory = storage if isinstance(storage, MemoryStorage) else MemoryStorage()
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

    def refusal(self, usages: Sequence[Usage]) -> RateLimited | None:
        """Return the error if a request that is counted in these windows is one too many."""
        windows = list(zip(self.limits, usages, strict=True))
        if all(usage.used <= limit.amount for limit, usage in windows):
            return None
        longest = max(usage.left for limit, usage in windows if usage.used >= limit.amount)
        return RateLimited(headers={"Retry-After": str(max(1, ceil(longest)))})


class RateLimits:
    """The budgets of one application. `outcomes` and `failures` are counted since its start, for the metrics.

    An outcome is `allowed`, `limited` (answered 429) or `fallback`: counted in this process, since Redis did not
    answer. A failure is an error code of `app.auth`. Strangers are always counted in this process: they cannot fill
    Redis, nor make it slow, nor push a user's count out of a table.
    """

    def __init__(self, settings: Settings) -> None:
        uri = settings.rate_limit_storage_uri.get_secret_value()
        self._users = Budget("default", settings.rate_limit, uri)
        self._strangers = Budget("unauthenticated", settings.rate_limit_unauthenticated, MEMORY)
        self.outcomes: Counter[Outcome] = Counter()
        self.failures: Counter[str] = Counter()

    async def open(self) -> None:
        """Find out whether Redis answers."""
        if self._users.shared:
            await self._users.shared.open()

    def close(self) -> None:
        """Let go of Redis."""
        if self._users.shared:
            self._users.shared.close()

    async def admit(self, record: Record) -> None:
        """Count a request of a verified user; the record's headers tell the outcome, whatever the answer will be.

        Raises:
            RateLimited: the user's budget is spent.
        """
        users, user_id = self._users, record.principal.user_id
        usages = await users.shared.count(user_id, users.limits) if users.shared else None
        is_fallback = users.shared is not None and usages is None
        self._settle(record, users, usages or users.memory.count(user_id, users.limits))
        self.outcomes["fallback" if is_fallback else "allowed"] += 1

    def refuse(self, record: Record, request: Request, failure: Unauthenticated) -> None:
        """Count a failed authentication; a good token never comes here.

        An expired one is counted and not limited: its signature was good, and its user is to fetch another.

        Raises:
            RateLimited: there were too many from this address.
        """
        self.failures[failure.code] += 1
        if not isinstance(failure, ExpiredToken):
            usages = self._strangers.memory.count(network_of(request), self._strangers.limits)
            self._settle(record, self._strangers, usages)

    def _settle(self, record: Record, budget: Budget, usages: Sequence[Usage]) -> None:
        record.headers |= budget.header_fields(usages)
        if error := budget.refusal(usages):
            self.outcomes["limited"] += 1
            raise error


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
