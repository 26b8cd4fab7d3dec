"""Watches one event loop: how late it runs what is due, and which code it runs meanwhile.

Ten times a second something is due on the loop. A thread looks whether it ran; where it is late, the thread reads the
stack of the loop's own.
"""

import asyncio
import gc
import logging
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from math import inf
from threading import Event, Thread, get_ident, get_native_id
from time import perf_counter
from traceback import walk_stack
from types import CodeType
from typing import NamedTuple

from app.telemetry.logs import Line
from app.telemetry.places import Stack, as_text, find_best
from app.telemetry.shapes import Attributes

EVERY_S = 0.1
LATE_S = 0.1
OVERSLEPT_S = LATE_S / 2  # when the thread itself is so late, the process was stopped, or another kept the interpreter
MOST_OF_IT = 0.8  # of the lateness must not be a wait for a CPU
ARRIVED_S = 0.01  # what came while the loop was blocked is begun within this, when it is free again
SAME_AGAIN_S = 60.0
MAX_PLACES = 32  # that one minute's lines name
KEPT = 16  # blocks, the last ones

logger = logging.getLogger(__name__)


class Block(NamedTuple):
    """A time during which the loop ran nothing else."""

    since: float  # by `perf_counter`, as is `until`
    until: float
    place: str  # of the code that ran; empty if nobody could look

    @property
    def attributes(self) -> Attributes:
        """What the span of a request says that waited for it."""
        named: Attributes = {"app.event_loop.blocked_by": self.place} if self.place else {}
        return {"app.event_loop.blocked_ms": round((self.until - self.since) * 1000), **named}


class Reading(NamedTuple):
    """What was used of the CPU, in seconds, and how many full garbage collections there were."""

    loop: float  # by the loop's thread
    queued: float  # that the loop's thread waited for a CPU; 0 where the system does not say
    process: float
    collections: int


class EventLoopWatch:
    """Watches the loop of one application. `observe` gets the seconds by which the loop was late, each time."""

    def __init__(self, observe: Callable[[float], object] = lambda _: None) -> None:
        self._observe = observe
        self._blocks: deque[Block] = deque(maxlen=KEPT)
        self._logged: dict[str, float] = {}  # when a place was last in the log, by `perf_counter`
        self._due, self._found = inf, (inf, "")  # the place that was found for this time

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch the running loop, until this is left."""
        self._loop, self._ident, stopped = asyncio.get_running_loop(), get_ident(), Event()
        self._schedule = open_schedule()
        self._beat = self._loop.call_soon(self._begin)
        thread = Thread(target=self._watch, args=(stopped, self._schedule), name="event loop watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._due = inf
            self._beat.cancel()
            stopped.set()
            thread.join(LATE_S)

    def find_block(self, since: float) -> Block | None:
        """Return what has blocked the loop since this time, by `perf_counter`; the longest of several.

        For the loop's own thread.
        """
        now = perf_counter()
        if now - self._due >= LATE_S:
            return self._block_until(now)
        if not self._blocks or self._blocks[-1].until + ARRIVED_S < since:
            return None
        later = [block for block in self._blocks if block.until + ARRIVED_S >= since]
        return max(later, key=lambda block: block.until - block.since)

    def _begin(self) -> None:
        """Note what calls every callback of the loop: it is no code that blocks."""
        self._callers: set[CodeType] = {frame.f_code for frame, _ in walk_stack(sys._getframe(1))}
        self._expect()

    def _run_due(self) -> None:
        now = perf_counter()
        late = now - self._due
        self._observe(max(0.0, late))
        if late >= LATE_S:
            self._blocks.append(self._block_until(now))
        self._expect()

    def _expect(self) -> None:
        self._before = self._read()
        self._due = perf_counter() + EVERY_S
        self._beat = self._loop.call_later(EVERY_S, self._run_due)

    def _block_until(self, now: float) -> Block:
        due, place = self._found
        return Block(self._due, now, place if due == self._due else "")

    def _read(self) -> Reading:
        """Return what was used so far. Where the system does not tell of one thread, the process stands for it."""
        clock_of = getattr(time, "pthread_getcpuclockid", None)
        process = time.process_time()
        loop = time.clock_gettime(clock_of(self._ident)) if clock_of else process
        queued = 0 if self._schedule is None else int(os.pread(self._schedule, 64, 0).split()[1])
        return Reading(loop, queued / 1e9, process, gc.get_stats()[-1]["collections"])

    def _watch(self, stopped: Event, schedule: int | None) -> None:
        """Look after each time at which something is due, until the end."""
        planned = perf_counter()
        while not stopped.wait(max(0.0, planned - perf_counter())):
            now, due = perf_counter(), self._due
            if now - due >= LATE_S and self._found[0] != due:
                self._look(due, now, overslept=now - planned)
            planned = due + LATE_S if now < due + LATE_S < inf else now + EVERY_S
        if schedule is not None:
            os.close(schedule)

    def _look(self, due: float, now: float, overslept: float) -> None:
        """Find out what the loop runs, unless the process stood still, or had no CPU: then the loop has to catch up."""
        before, reading = self._before, self._read()
        used, queued = reading.loop - before.loop, reading.queued - before.queued
        if (overslept > OVERSLEPT_S and used + queued < overslept / 2) or now - due - queued < MOST_OF_IT * LATE_S:
            return
        stack = self._read_stack()
        if not stack or self._due != due:
            return
        place = find_best(stack)
        name, file, line = map(str, place.values())
        self._found = due, f"{name} ({file}:{line})"
        if self._is_new(name, now):
            facts: Attributes = {
                "late_ms": round((now - due) * 1000),
                "cpu_ms": round(used * 1000),
                "cpu_wait_ms": round(queued * 1000),
                "process_cpu_ms": round((reading.process - before.process) * 1000),
                "garbage_collections": reading.collections - before.collections,
            }
            fields = Line({**place, **facts, "stack": as_text(stack)})
            logger.warning("the event loop is blocked by %s", self._found[1], extra={"line": fields})

    def _read_stack(self) -> Stack:
        """Return what the loop's thread is at, without what runs the loop: nothing, if the loop waits for work."""
        found: Stack = []
        frame = sys._current_frames().get(self._ident)
        for each, line in walk_stack(frame) if frame else ():
            if each.f_code in self._callers:
                break
            found.append((each, line))
        return found

    def _is_new(self, place: str, now: float) -> bool:
        """Tell whether the log has not named this place within a minute, nor too many others."""
        self._logged = {name: at for name, at in self._logged.items() if now - at < SAME_AGAIN_S}
        if place in self._logged or len(self._logged) >= MAX_PLACES:
            return False
        self._logged[place] = now
        return True


def open_schedule() -> int | None:
    """Open what the system says of the calling thread: how long it ran, and how long it waited for a CPU, in ns.

    https://docs.kernel.org/scheduler/sched-stats.html
    """
    with suppress(OSError):
        return os.open(f"/proc/self/task/{get_native_id()}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    return None
