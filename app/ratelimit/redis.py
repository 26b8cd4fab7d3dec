"""Counts in a Redis that several processes share."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import RedisStorage
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.ratelimit import Usage

DEADLINE_S = 0.2
COOL_DOWN_S = 5.0
CONNECTIONS = 2
PROBE = ("", [RateLimitItemPerSecond(1)])  # no user's id is empty

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
    """The storage of `redis://`, `rediss://` and `redis+unix://` URIs.

    Nobody waits longer than DEADLINE_S, nor at all once a request has waited in vain. From then on Redis is asked in
    the background, and used again once it counts in time: one that answers PING and cannot write stays out.
    """

    STORAGE_SCHEME = ["redis", "rediss", "redis+unix"]  # noqa: RUF012  `limits` declares no ClassVar

    def __init__(self, uri: str, **_: Any) -> None:
        # No retries, RESP2 and no client info: each is a round trip more. RESP3 would also let a server announce
        # maintenance and raise the time-outs.
        options: dict[str, Any] = {
            "driver_info": None,
            "max_connections": CONNECTIONS,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": DEADLINE_S,
            "socket_timeout": DEADLINE_S,
        }
        super().__init__(uri, **options)
        self._script = self.storage.register_script(COUNT)
        self._threads = ThreadPoolExecutor(CONNECTIONS, "rate-limit")
        self._recovery: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Find out whether Redis answers, so that not even the first request waits for one that does not."""
        await self.count(*PROBE)

    async def count(self, key: str, limits: Sequence[RateLimitItem]) -> list[Usage] | None:
        """Count as `MemoryStorage.count` does; return None if Redis does not answer."""
        if self._recovery is not None:
            return None
        try:
            return await self._ask(key, limits)
        except Exception as error:  # noqa: BLE001  the limiter must never be the outage; redis-py and ssl share no class
            self._leave(error)
            return None

    async def _ask(self, key: str, limits: Sequence[RateLimitItem]) -> list[Usage]:
        """Ask in a thread, since the client times out each of its waits, and this must end in DEADLINE_S in all."""
        keys = [self.prefixed_key(f"{{{key}}}/{limit.get_expiry()}") for limit in limits]
        arguments = [number for limit in limits for number in (limit.amount, limit.get_expiry() * 1000)]
        loop, run = asyncio.get_running_loop(), copy_context().run  # the span of Redis belongs to the request's trace
        answer = loop.run_in_executor(self._threads, run, self._script, keys, arguments)
        await asyncio.wait((answer,), timeout=DEADLINE_S)
        if not answer.done():  # an answer counts that came while the event loop was busy
            answer.cancel()  # what no thread has begun is never begun
            raise NoAnswer
        found: Any = answer.result()
        return [Usage(used, left / 1000) for used, left in zip(found[::2], found[1::2], strict=True)]

    def _leave(self, error: Exception) -> None:
        if self._recovery is None:
            reason = type(error).__name__  # the message may hold the address
            logger.warning("rate limits: Redis does not count (%s), so each process counts for itself", reason)
            self._recovery = asyncio.create_task(self._recover(), context=Context())  # it outlives the request

    async def _recover(self) -> None:
        """Ask until Redis counts again."""
        while self._recovery is not None:
            await asyncio.sleep(COOL_DOWN_S)
            with suppress(Exception):
                await self._ask(*PROBE)
                self._recovery = None
        logger.warning("rate limits: Redis counts again")

    def close(self) -> None:
        """Let go of Redis without waiting for it."""
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._threads = ThreadPoolExecutor(CONNECTIONS, "rate-limit")  # for an application that is started again
        self.storage.close()
