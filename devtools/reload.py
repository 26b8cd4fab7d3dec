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
NOT_OF_THE_CODE = (1, 2)  # exit codes of devtools.serve: the database, the address or a setting is wrong


def serve_and_reload(say: Callable[[str], None]) -> int:
    """Serve until SIGINT or SIGTERM, from the start again when a Python file of `app/` is saved. Return the exit code.

    What no change of the code can mend ends the first start; later ones wait for the next change.
    """
    ended = Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: ended.set())
    with _pipe() as lifeline:
        first = child = _start(lifeline)
        Thread(target=_end_with, args=(first, ended), daemon=True).start()
        for changes in watch(ROOT / "app", watch_filter=PythonFilter(), stop_event=ended):
            files = sorted({os.path.relpath(file, ROOT) for _, file in changes})
            say(f"{files[0]} changed{f', and {len(files) - 1} more' if files[1:] else ''}: starting again")
            _stop(child)
            if not ended.is_set():
                child = _start(lifeline, "--again")
        _stop(child)
    return first.returncode if first is child and first.returncode in NOT_OF_THE_CODE else 0


@contextmanager
def _pipe() -> Iterator[int]:
    """Yield the end that children read: it closes when this process ends, however it does."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


def _start(lifeline: int, *options: str) -> subprocess.Popen[bytes]:
    """Start a child in the same terminal and process group."""
    command = [sys.executable, "-m", "devtools.serve", str(lifeline), *options]
    return subprocess.Popen(command, pass_fds=[lifeline])  # noqa: S603  our own program


def _end_with(first: subprocess.Popen[bytes], ended: Event) -> None:
    if first.wait() in NOT_OF_THE_CODE:
        ended.set()


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Let the child answer what it has begun, and wait until it has ended: its port is free then."""
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
