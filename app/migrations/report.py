"""What a run of `migrate` has done so far: whoever ends it, and whatever fails, it can be told."""

import os
import signal
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from threading import Thread

ENDING = {signal.SIGINT, signal.SIGTERM}


@dataclass
class Report:
    """The migrations that are done, and the revisions that the database is at; None while that is unknown."""

    verb: str = "Applied"
    done: list[str] = field(default_factory=list)
    heads: Collection[str] | None = None
    _committing: tuple[str, Collection[str]] | None = None

    def start(self, heads: Collection[str]) -> None:
        """Note where the database is."""
        self.heads, self._committing = heads, None

    def begin_commit(self, revision: str, heads: Collection[str]) -> None:
        """Note that a migration will be committed next."""
        self._committing = revision, heads

    def end_commit(self) -> bool:
        """Note that it was. Return whether there was one."""
        if self._committing is None:
            return False
        revision, self.heads = self._committing
        self.done.append(revision)
        self._committing = None
        return True

    def __str__(self) -> str:
        done = f"{self.verb}: {', '.join(self.done)}." if self.done else "No migration was completed."
        if self.heads is None:
            return done
        place = " and ".join(sorted(self.heads)) or "base, which is the empty schema"
        unsure = f" (or at {self._committing[0]}, which was being committed)" if self._committing else ""
        return f"{done} The database is at {place}{unsure}. The next run goes on from there."


def end_at_signal(report: Report) -> None:
    """Let SIGINT and SIGTERM end this process at once, with a line of what is done.

    A thread waits for them: Python's own handlers would wait for the server's answer, which may never come. Threads
    that are started later leave them to this one.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)

    def wait() -> None:
        ended_by = signal.Signals(signal.sigwait(ENDING))
        print(f"Ended by {ended_by.name}. {report}", file=sys.stderr, flush=True)  # noqa: T201  it is for the terminal
        os._exit(128 + ended_by)

    Thread(target=wait, name="signals", daemon=True).start()
