"""Load: in a closed loop the answers set the rate, in an open loop the rate is fixed.

Latency in an open loop counts from when a request was due, not from when it could be sent. A generator that waits for a
slow server hides how long its users wait ("coordinated omission": Gil Tene, How NOT to Measure Latency).
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

Arrivals = Callable[[float, float], Iterator[float]]

GRACE_S = 5.0  # for the last answers
SUCCESS = range(200, 300)


@dataclass
class Outcome:
    """The result of a load: how long it took, and the latencies in seconds of each status."""

    seconds: float = 0.0
    latencies: dict[int, list[float]] = field(default_factory=dict)
    unanswered: int = 0

    @property
    def statuses(self) -> Counter[int]:
        """The number of answers of each status."""
        return Counter({status: len(latencies) for status, latencies in self.latencies.items()})

    @property
    def successes(self) -> list[float]:
        """The latencies of all successes in seconds, sorted."""
        return sorted(s for status, latencies in self.latencies.items() if status in SUCCESS for s in latencies)

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latencies of successes."""
        times = self.successes
        return times[min(len(times) - 1, int(len(times) * percent / 100))] * 1000 if times else nan


class Connection(asyncio.Protocol):
    """A keep-alive connection. It sends one request at a time, and calls `done` with each status, 0 if closed."""

    def __init__(self, done: "Callable[[Connection, int], None]") -> None:
        self._done, self._waiting = done, False

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self._transport, self._parser = transport, httptools.HttpResponseParser(self)

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at `due`."""
        self.due, self._waiting = due, True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Parse the answer."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Report the status."""
        self._waiting = False
        self._done(self, self._parser.get_status_code())

    def connection_lost(self, _: Exception | None) -> None:
        """Report status 0 if there was no answer."""
        if self._waiting:
            self._done(self, 0)

    def close(self) -> None:
        """Close the connection and report nothing more."""
        self._waiting = False
        self._transport.close()


class Load:
    """One load on the server at `port`: it sends `requests` in turn, on a number of connections."""

    def __init__(self, port: int, requests: Iterator[bytes], connections: int) -> None:
        self._port, self._requests, self._connections = port, requests, connections
        self._outcome = Outcome()
        self._done: Callable[[Connection, float], None]

    async def run_closed(self, seconds: float) -> Outcome:
        """Send the next request on each connection as soon as it is free."""
        connections = await self._open()
        started = perf_counter()
        busy = len(connections)

        def send_next(connection: Connection, now: float) -> None:
            nonlocal busy
            if now - started < seconds:
                connection.send(next(self._requests), now)
            else:
                busy -= 1

        self._done = send_next
        for connection in connections:
            connection.send(next(self._requests), perf_counter())
        await asyncio.sleep(seconds)
        await self._wait_until(lambda: not busy)
        return self._finish(connections, started)

    async def run_open(self, arrivals: Iterable[float]) -> Outcome:
        """Send a request at each of these seconds from now, or later, when a connection is free."""
        free = deque(await self._open())
        connections, late, started = list(free), deque[float](), perf_counter()

        def send_late(connection: Connection, _: float) -> None:
            if late:
                connection.send(next(self._requests), late.popleft())
            else:
                free.append(connection)

        self._done = send_late
        for arrival in arrivals:
            due = started + arrival
            if (wait := due - perf_counter()) > 0:
                await asyncio.sleep(wait)
            if free:
                free.pop().send(next(self._requests), due)
            else:
                late.append(due)
        await self._wait_until(lambda: not late and len(free) == len(connections))
        self._outcome.unanswered = len(late) + len(connections) - len(free)
        return self._finish(connections, started)

    async def _open(self) -> list[Connection]:
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: Connection(self._record), "127.0.0.1", self._port)
            for _ in range(self._connections)
        ]
        return [connection for _, connection in made]

    def _record(self, connection: Connection, status: int) -> None:
        now = perf_counter()
        self._outcome.latencies.setdefault(status, []).append(now - connection.due)
        if status:
            self._done(connection, now)

    async def _wait_until(self, is_done: Callable[[], bool]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                while not is_done():
                    await asyncio.sleep(0.001)

    def _finish(self, connections: list[Connection], started: float) -> Outcome:
        self._outcome.seconds = perf_counter() - started
        for connection in connections:
            connection.close()
        return self._outcome


def run(load: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run one load without garbage collection."""
    gc.collect()
    gc.disable()
    try:
        # select(2) wakes to the microsecond, epoll to the millisecond: arrivals are to be evenly spaced.
        loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(load)
    finally:
        gc.enable()


def even_arrivals(rate: float, seconds: float) -> Iterator[float]:
    """Return evenly spaced arrivals, in seconds from the start."""
    return (number / rate for number in range(int(rate * seconds)))


def poisson_arrivals(rate: float, seconds: float, seed: int = 1) -> Iterator[float]:
    """Return the arrivals of independent users, the same ones for each call."""
    random, now = Random(seed), 0.0  # noqa: S311  a load is no secret
    while (now := now + random.expovariate(rate)) < seconds:
        yield now
