"""Which code keeps the memory by which a process grows. Nothing is traced, and nothing costs, before a signal asks.

The first SIGUSR2 begins to trace what is allocated; the next one tells what of it is still there, and ends it.
"""

import logging
import os
import signal
import tracemalloc
from collections import Counter
from pathlib import Path
from tempfile import gettempdir
from threading import Lock, Thread
from time import monotonic
from tracemalloc import Statistic

from app.telemetry.logs import Line
from app.telemetry.places import choose, shorten

SIGNAL = signal.SIGUSR2
FRAMES = 4  # of each allocation; each one more makes it dearer
IN_LINE = 10
IN_FILE = 50
FILE = Path(gettempdir(), "memory-growth.txt")  # in a container the one folder that can be written

logger = logging.getLogger(__name__)


class MemoryTrace:
    """Traces the memory of this process from one signal to the next."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._began, self._resident = monotonic(), resident_bytes()

    def await_signal(self) -> None:
        """Answer SIGUSR2 from now on. For the main thread, which runs what answers signals."""
        signal.signal(SIGNAL, lambda *_: Thread(target=self._act, name="memory trace", daemon=True).start())

    def _act(self) -> None:
        """Begin, or tell and end; a signal that comes while this is done says nothing."""
        if self._lock.acquire(blocking=False):
            try:
                (self._tell if tracemalloc.is_tracing() else self._begin)()
            finally:
                self._lock.release()

    def _begin(self) -> None:
        self._began, self._resident = monotonic(), resident_bytes()
        tracemalloc.start(FRAMES)
        logger.warning("memory is traced from now on, which makes requests slower: the next SIGUSR2 tells and ends it")

    def _tell(self) -> None:
        snapshot = tracemalloc.take_snapshot()
        tracemalloc.stop()
        found = snapshot.filter_traces([tracemalloc.Filter(inclusive=False, filename_pattern=tracemalloc.__file__)])
        statistics = found.statistics("traceback")
        kept = sum(statistic.size for statistic in statistics)
        seconds, grown = round(monotonic() - self._began), resident_bytes() - self._resident
        summary = f"{kept:,} bytes were allocated within {seconds} s and are kept; the process grew by {grown:,}"
        fields = {"kept_bytes": kept, "resident_growth_bytes": grown, "seconds": seconds}
        places = [f"{place}: {size:,} bytes" for place, size in by_place(statistics).most_common(IN_LINE)]
        line = Line({**fields, "places": places, "file": write(summary, statistics)})
        logger.warning("memory: %s; most of it by %s", summary, places[0] if places else "nobody", extra={"line": line})


def by_place(statistics: list[Statistic]) -> Counter[str]:
    """Return the bytes that each line of code keeps: the project's own line where a library's keeps them for it."""
    found: Counter[str] = Counter()
    for statistic in statistics:
        filename, line = choose([(frame.filename, frame.lineno) for frame in reversed(statistic.traceback)])
        found[f"{shorten(filename)}:{line}"] += statistic.size
    return found


def write(summary: str, statistics: list[Statistic]) -> str | None:
    """Write what keeps most, each with its stack; return the file's name, or None where none can be written."""
    parts = [summary]
    for each in statistics[:IN_FILE]:
        parts += ["", f"{each.size:,} bytes in {each.count:,} blocks", *each.traceback.format()]
    try:
        file = os.open(FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as text:
            text.write("\n".join(parts) + "\n")
    except OSError:
        return None
    return str(FILE)


def resident_bytes() -> int:
    """Return how much memory the process has; 0 where the system does not say (proc_pid_statm(5))."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
