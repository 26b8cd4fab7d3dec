"""Counts in a Redis that several processes share, and in this process while that Redis does not answer in time."""

import asyncio
import logging
from collections.abc import Sequence
from contextvars import Context, copy_context
from typing import Any

from limits import RateLimitItem
from limits.storage import RedisStorage
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.ratelimit.memory import MemoryStorage, Usage
from app.thread_pool import ThreadPool

DEADLINE_S = 0.2
COOL_DOWN_S = 5.0
THREADS = 2
PROBE = ""  # no `sub` is empty

# KEYS are the windows, the shortest first; ARGV holds the amount and the length in milliseconds of each. One round trip
# and atomic: no counter is ever left without an end. Windows after the first full one are read and not charged.
COUNT = b"""
local usages, full = {}, false
for i, key in ipairs(KEYS) do
  local count = tonumber(full and (redis.call('GET', key) or 0) or redis.call('INCR', key))
  local left = redis.call('PTTL', key)
  if left < 0 then
    left = tonumber(ARGV[2 * i])
    if not full then redis.call('PEXPIRE', key, left) end
  end
  full = full or count > tonumber(ARGV[2 * i - 1])
  usages[2 * i - 1], usages[2 * i] = count, left
end
return usages
"""

logger = logging.getLogger(__name__)


class NoAnswer(Exception):
    """Redis did not answer within DEADLINE_S."""


class SharedStorage(RedisStorage):
    """The storage of `redis://`, `rediss://` and `redis+unix://` URIs. Blocks its thread; of several at a time.

    No retries, RESP2 and no client info: each is a round trip more, and the deadline is absolute. RESP3 would also let
    a server announce maintenance and raise the time-outs.
    """

    STORAGE_SCHEME = ["redis", "rediss", "redis+unix"]  # noqa: RUF012  `limits` declares no ClassVar

    def __init__(self, uri: str, **_: Any) -> None:
        options: dict[str, Any] = {
            "driver_info": None,
            "max_connections": THREADS,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": DEADLINE_S,
            "socket_timeout": DEADLINE_S,
        }
        super().__init__(uri, **options)
        self._count = self.storage.register_script(COUNT)

    def count(self, key: str, limits: Sequence[RateLimitItem]) -> list[Usage]:
        """Count a request of `key` in the windows of `limits`, up to the first that is full; return them all.

        Raises:
            Exception: whatever goes wrong with a server; redis-py and ssl have no common class.

        """
        keys = [self.prefixed_key(f"{{{key}}}/{limit.get_expiry()}") for limit in limits]
        found: Any = self._count(keys, [number for i in limits for number in (i.amount, i.get_expiry() * 1000)])
        return [Usage(used, left / 1000) for used, left in zip(found[::2], found[1::2], strict=True)]

    def close(self) -> None:
        """Close every connection."""
        self.storage.close()


class Shared:
    """Counts in Redis. No request waits longer than DEADLINE_S, and none at all for COOL_DOWN_S after one did in vain.

    Redis has two threads of its own, so a frozen one holds up nothing else. After a failure it is asked in the
    background, not by a request, and used again once it counts in time: so a server that answers PING and cannot write
    stays out.
    """

    def __init__(self, storage: SharedStorage, limits: Sequence[RateLimitItem]) -> None:
        self._storage, self._limits = storage, limits
        self._local = MemoryStorage()
        self._threads = ThreadPool(THREADS, "rate-limit")
        self._recovery: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Find out whether Redis answers, so that not even the first request waits for one that does not."""
        await self.count(PROBE)

    async def count(self, key: str) -> tuple[list[Usage], bool]:
        """Count a request of `key`; return the windows, and whether they are those of this process alone."""
        if self._recovery is None:
            try:
                return await self._ask(key), False
            except Exception as error:  # noqa: BLE001  the limiter must never be the outage
                self._leave(error)
        return self._local.count(key, self._limits), True

    async def _ask(self, key: str) -> list[Usage]:
        loop, threads = asyncio.get_running_loop(), self._threads.executor
        # In the request's context: where Redis is instrumented, the span belongs to the request's trace.
        asked = loop.run_in_executor(threads, copy_context().run, self._storage.count, key, self._limits)
        await asyncio.wait((asked,), timeout=DEADLINE_S)
        if not asked.done():
            asked.cancel()  # one that no thread has begun is never begun
            raise NoAnswer
        return asked.result()

    def _leave(self, error: Exception) -> None:
        if self._recovery is None:
            reason = type(error).__name__  # the message may hold the address
            logger.warning("rate limits: Redis is of no use (%s), each process counts for itself until it is", reason)
            self._recovery = asyncio.create_task(self._recover(), context=Context())  # it outlives the request

    async def _recover(self) -> None:
        """Ask until Redis counts again."""
        back = False
        while not back:
            await asyncio.sleep(COOL_DOWN_S)
            back = await self._answers()
        self._recovery = None
        logger.warning("rate limits: Redis counts again")

    async def _answers(self) -> bool:
        try:
            await self._ask(PROBE)
        except Exception:  # noqa: BLE001  said when it left, and not again
            return False
        return True

    async def close(self) -> None:
        """Let go of Redis without waiting for it."""
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None
        self._threads.close()
        self._storage.close()
