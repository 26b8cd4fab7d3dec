"""Load: as fast as the answers come (closed loop), or at a rate of its own (open loop).

Latency in an open loop counts from when a request was due, not from when it could be sent: a generator that waits for a
slow server hides what its users meet ("coordinated omission": Gil Tene, How NOT to Measure Latency).
"""

import asyncio
import gc
import selectors
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import nan
from random import Random
from time import perf_counter
from typing import Any

import httptools

Arrive = Callable[[float, float], Iterator[float]]

GRACE_S = 5.0  # for answers that are still under way at the end
SUCCESS = range(200, 300)


@dataclass
class Outcome:
    """What came of a load: how long it took, and of each status the seconds that its answers took."""

    seconds: float = 0.0
    latencies: dict[int, list[float]] = field(default_factory=dict)
    unanswered: int = 0

    @property
    def statuses(self) -> Counter[int]:
        """How many answers had which status."""
        return Counter({status: len(latencies) for status, latencies in self.latencies.items()})

    @property
    def successes(self) -> list[float]:
        """The seconds that each success took, the shortest first."""
        return sorted(s for status, latencies in self.latencies.items() if status in SUCCESS for s in latencies)

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the time that successes took."""
        found = self.successes
        return found[min(len(found) - 1, int(len(found) * percent / 100))] * 1000 if found else nan


class Connection(asyncio.Protocol):
    """A kept connection with one request on it at a time; `done` learns of each answer, 0 for a lost one."""

    def __init__(self, done: "Callable[[Connection, int], None]") -> None:
        self._done, self._waiting = done, False

    def connection_made(self, transport: Any) -> None:
        """Be ready."""
        self._transport, self._parser = transport, httptools.HttpResponseParser(self)

    def send(self, request: bytes, due: float) -> None:
        """Ask what was due at `due`."""
        self.due, self._waiting = due, True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Tell."""
        self._waiting = False
        self._done(self, self._parser.get_status_code())

    def connection_lost(self, _: Exception | None) -> None:
        """Tell, where an answer was due."""
        if self._waiting:
            self._done(self, 0)

    def close(self) -> None:
        """Hang up."""
        self._waiting = False
        self._transport.close()


class Load:
    """One load on the server at `port`: `requests` in turn, over so many connections."""

    def __init__(self, port: int, requests: Iterator[bytes], connections: int) -> None:
        self._port, self._requests, self._connections = port, requests, connections
        self._outcome = Outcome()
        self._done: Callable[[Connection, float], None]

    async def closed(self, seconds: float) -> Outcome:
        """Send the next request on each connection as soon as it is free."""
        opened = await self._open()
        started = perf_counter()
        busy = len(opened)

        def again(connection: Connection, now: float) -> None:
            nonlocal busy
            if now - started < seconds:
                connection.send(next(self._requests), now)
            else:
                busy -= 1

        self._done = again
        for connection in opened:
            connection.send(next(self._requests), perf_counter())
        await asyncio.sleep(seconds)
        await self._last(lambda: not busy)
        return self._finished(opened, started)

    async def at(self, arrivals: Iterable[float]) -> Outcome:
        """Send a request at each of these seconds from now, or as soon after as a connection is free."""
        free = deque(await self._open())
        opened, late, started = list(free), deque[float](), perf_counter()

        def take(connection: Connection, _: float) -> None:
            if late:
                connection.send(next(self._requests), late.popleft())
            else:
                free.append(connection)

        self._done = take
        for arrival in arrivals:
            due = started + arrival
            if (wait := due - perf_counter()) > 0:
                await asyncio.sleep(wait)
            if free:
                free.pop().send(next(self._requests), due)
            else:
                late.append(due)
        await self._last(lambda: not late and len(free) == len(opened))
        self._outcome.unanswered = len(late) + len(opened) - len(free)
        return self._finished(opened, started)

    async def _open(self) -> list[Connection]:
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: Connection(self._answered), "127.0.0.1", self._port)
            for _ in range(self._connections)
        ]
        return [connection for _, connection in made]

    def _answered(self, connection: Connection, status: int) -> None:
        now = perf_counter()
        self._outcome.latencies.setdefault(status, []).append(now - connection.due)
        if status:
            self._done(connection, now)

    async def _last(self, is_done: Callable[[], bool]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                while not is_done():
                    await asyncio.sleep(0.001)

    def _finished(self, opened: list[Connection], started: float) -> Outcome:
        self._outcome.seconds = perf_counter() - started
        for connection in opened:
            connection.close()
        return self._outcome


def run(load: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run one load; its own garbage is left until the end."""
    gc.collect()
    gc.disable()
    try:
        # select(2) wakes to the microsecond, epoll to the millisecond: arrivals are to be evenly spaced.
        loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(load)
    finally:
        gc.enable()


def even(rate: float, seconds: float) -> Iterator[float]:
    """Return evenly spaced arrivals, in seconds from the start."""
    return (number / rate for number in range(int(rate * seconds)))


def poisson(rate: float, seconds: float, seed: int = 1) -> Iterator[float]:
    """Return the arrivals of independent users, the same ones each time."""
    random, now = Random(seed), 0.0  # noqa: S311  a load is no secret
    while (now := now + random.expovariate(rate)) < seconds:
        yield now
