"""`make dev` serves in a child process, and in a new one after each change of `app/`. The parent keeps the database."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from watchfiles import PythonFilter, watch

ROOT = Path(__file__).parents[1]
STOP_S = 15.0  # the API itself ends within 10 s
SIGNAL_S = 0.5  # Ctrl-C reaches both processes, and the child may end before this one has noticed
NOT_OF_THE_CODE = (1, 2)  # exit codes of devtools.serve: the database, the address or a setting is wrong


class Reloader:
    """Serves in a child, and in another one when a Python file of `app/` is saved."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._ended, self._exit_code, self._has_served = say, Event(), 0, False
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM, and return 0.

        If the first child finds that what is wrong is not the code, end with its exit code.
        """
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: self._ended.set())
        with _pipe() as lifeline:
            self._start(lifeline, is_first=True)
            for changes in watch(ROOT / "app", watch_filter=PythonFilter(), stop_event=self._ended):
                self._say(_summarize(file for _, file in changes))
                self._stop()
                if not self._ended.is_set():
                    self._start(lifeline)
            self._stop()
        return self._exit_code

    def _start(self, lifeline: int, *, is_first: bool = False) -> None:
        """Start a child in the same terminal and process group. Ctrl-C waits until it can end without a stack."""
        command = [sys.executable, "-m", "devtools.serve", str(lifeline), *(["--again"] if self._has_served else [])]
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which children inherit
        self._child = child = subprocess.Popen(command, pass_fds=[lifeline])  # noqa: S603  our own program
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        Thread(target=self._wait_for, args=(child,), kwargs={"is_first": is_first}, daemon=True).start()

    def _wait_for(self, child: subprocess.Popen[bytes], *, is_first: bool) -> None:
        """Say or do what follows when the child ends by itself."""
        code = child.wait()
        if self._child is not child:
            return
        if is_first and code in NOT_OF_THE_CODE:
            self._exit_code = code
            self._ended.set()
        elif not self._ended.wait(SIGNAL_S) and self._child is child:
            self._say("The next save in app/ starts it again.")

    def _stop(self) -> None:
        """Let the child answer what it has begun, and wait until it has ended and its port is free."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._has_served |= child.returncode == 0


@contextmanager
def _pipe() -> Iterator[int]:
    """Yield the end for children to read: it closes when this process ends, however it does."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


def _summarize(files: Iterator[str]) -> str:
    """Return a line that names a file that has changed, and how many others."""
    first, *others = sorted({os.path.relpath(file, ROOT) for file in files})
    return f"{first}{f' and {len(others)} more' if others else ''} changed: starting again"
