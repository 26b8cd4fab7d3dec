"""`make dev` serves in a child process. After each change of `app/` a new one migrates, then takes the old one's place.

The parent keeps the database. A socket to each child tells it when to serve, and that the parent lives.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from socket import socket, socketpair
from threading import Event, Lock, Thread

from watchfiles import PythonFilter, watch

from devtools.serve import AGAIN, FIRST

ROOT = Path(__file__).parents[1]
STOP_S = 15.0  # the API itself ends within 10 s
SIGNAL_S = 0.5  # Ctrl-C reaches all processes, and a child may end before this one has noticed
NOT_OF_THE_CODE = (1, 2)  # exit codes of devtools.serve: the database, the address or a setting is wrong
WAITS = "The next save in app/ starts it again."
KEEPS = f"{WAITS} Until then, the last code that worked is served."

Child = subprocess.Popen[bytes]


class Reloader:
    """Serves in a child, and in another one when a Python file of `app/` is saved and the new one is ready."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._ended, self._exit_code, self._has_served = say, Event(), 0, False
        self._change = Lock()  # of these two: each child has a thread that follows it
        self._serving: Child | None = None
        self._next: Child | None = None

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM, and return 0.

        If the first child finds that what is wrong is not the code, end with its exit code.
        """
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: self._ended.set())
        self._start(is_first=True)
        for changes in watch(ROOT / "app", watch_filter=PythonFilter(), stop_event=self._ended):
            self._say(_summarize(file for _, file in changes))
            self._start()
        with self._change:
            children, self._next, self._serving = (self._next, self._serving), None, None
            self._stop(*children)
        return self._exit_code

    def _start(self, *, is_first: bool = False) -> None:
        """Start a child in the same terminal and process group. Ctrl-C waits until it can end without a stack.

        It takes the place of one that was not ready yet.
        """
        with self._change:
            unready, self._next = self._next, None
            self._stop(unready)
            if self._ended.is_set():
                return
            ours, theirs = socketpair()
            command = [sys.executable, "-m", "devtools.serve", str(theirs.fileno())]
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which children inherit
            with theirs:
                self._next = child = subprocess.Popen(command, pass_fds=[theirs.fileno()])  # noqa: S603  our own program
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        Thread(target=self._follow, args=(child, ours), kwargs={"is_first": is_first}, daemon=True).start()

    def _follow(self, child: Child, channel: socket, *, is_first: bool) -> None:
        """Let a child serve when it is ready, and say or do what follows when it ends by itself."""
        with channel:
            if channel.recv(1):
                self._let_serve(child, channel)
            code = child.wait()
        if child not in (self._serving, self._next):
            return
        if is_first and code in NOT_OF_THE_CODE:
            self._exit_code = code
            self._ended.set()
        elif not self._ended.wait(SIGNAL_S):
            self._tell_end(child)

    def _let_serve(self, child: Child, channel: socket) -> None:
        """Stop the child that serves, and give its place to this one."""
        with self._change:
            if child is not self._next:
                return
            old, self._serving, self._next = self._serving, child, None
            self._stop(old)
            with suppress(OSError):  # it may have ended
                channel.send(AGAIN if self._has_served else FIRST)

    def _tell_end(self, child: Child) -> None:
        with self._change:
            if child is self._next:
                self._next = None
                self._say(KEEPS if self._serving and self._serving.poll() is None else WAITS)
            elif child is self._serving:
                self._serving = None
                if self._next is None:
                    self._say(WAITS)

    def _stop(self, *children: Child | None) -> None:
        """Let children answer what they have begun, and wait until they have ended and the port is free."""
        running = [child for child in children if child]
        for child in running:
            child.terminate()
        for child in running:
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            self._has_served |= child.returncode == 0


def _summarize(files: Iterator[str]) -> str:
    """Return a line that names a file that has changed, and how many others."""
    first, *others = sorted({os.path.relpath(file, ROOT) for file in files})
    return f"{first}{f' and {len(others)} more' if others else ''} changed: starting again"
