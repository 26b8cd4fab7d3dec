"""Tells of a statement that a request ran over and over, where one for all of its rows would do (N+1)."""

import logging
from time import monotonic

from app.record import Record
from app.telemetry.logs import Line

TELL_EVERY_S = 60.0  # of one statement of a route
MAX_TOLD = 512

logger = logging.getLogger("app.queries")


class Repeats:
    """Writes a line of each statement of a route that is repeated, once a minute."""

    def __init__(self) -> None:
        self._again: dict[tuple[str | None, str], float] = {}  # when to tell again, by `monotonic`

    def tell(self, record: Record) -> None:
        """Write which statement a request repeated, and which code sent it, unless that was told a moment ago."""
        if not (found := record.find_repeat()):
            return
        shape, times = found
        key = record.route, shape.name
        if monotonic() < self._again.get(key, 0.0):
            return
        if len(self._again) >= MAX_TOLD:
            self._again.clear()
        self._again[key] = monotonic() + TELL_EVERY_S
        asked = {"method": record.scope["method"], "route": record.route, "query": shape.name, "times": times}
        line = Line(asked | shape.log_fields, record.span.get_span_context())
        logger.warning(f"N+1: {asked['method']} {record.route} ran {shape.name} {times} times", extra={"line": line})
