"""Event streams (answers of type text/event-stream): which are open, and how they end when the process leaves."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import Context
from threading import Event
from typing import Any

from app.record import Record
from app.telemetry.request_metrics import NO_ROUTE

EVENT_STREAM = b"text/event-stream"
OVER = "app.event_stream_is_over"  # in the scope of one that was ended
POLL_S = 0.1  # while one is open, and only then

End = Callable[[], Coroutine[Any, Any, None]]


class EventStreams:
    """The open ones. They have no end of their own, so all are ended once `draining` is set.

    A client sees the stream's end, and connects again, to another process. The endpoint sees that its client is gone.
    `counts` has how many are open of each route.
    """

    def __init__(self, draining: Event) -> None:
        self.counts: Counter[str] = Counter()
        self._draining = draining
        self._open: dict[Record, End] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None

    def add(self, record: Record, end: End) -> None:
        """Note that the answer of `record` is a stream, which `end` ends."""
        record.is_event_stream = True
        self._open[record] = end
        self.counts[record.route or NO_ROUTE] += 1
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._end_all_in_time(), context=Context())  # it outlives the request

    def remove(self, record: Record) -> None:
        """Note that the answer of `record` is over."""
        self.counts[record.route or NO_ROUTE] -= 1
        self._open.pop(record, None)

    async def _end_all_in_time(self) -> None:
        while self._open:
            if self._draining.is_set():
                self._ending |= {asyncio.create_task(end()) for end in self._open.values()}  # one may not be read
                self._open.clear()
            await asyncio.sleep(POLL_S)
