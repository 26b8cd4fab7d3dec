"""Real processes that a test starts, watches and kills."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import NullPool, create_engine, text

ROOT = Path(__file__).parents[2]

USE = """
import signal, sys
from pathlib import Path

sys.path.append("")  # whatever $PYTHONSAFEPATH says
from devtools.postgres import PostgresFailed, postgres

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it

def say(line):
    print(line, file=sys.stderr, flush=True)

try:
    with postgres(Path(sys.argv[1]), say=say, durable=False) as server:
        print(server.superuser_url(), flush=True)
        sys.stdin.read()
except PostgresFailed as error:
    sys.exit(f"failed: {error}")
"""


def is_running(pid: int) -> bool:
    return any(found == pid for found, _ in list_processes())


def find_processes(*words: str) -> list[int]:
    """Return the processes whose command line has all these words."""
    return [pid for pid, command in list_processes() if all(word in command for word in words)]


def list_processes() -> Iterator[tuple[int, str]]:
    """Return the running processes with their command lines, without zombies."""
    ps = ["ps", "-axww", "-o", "pid=,stat=,command="]
    for line in subprocess.run(ps, check=True, capture_output=True, text=True).stdout.splitlines():
        pid, status, command = line.split(maxsplit=2)
        if not status.startswith("Z"):
            yield int(pid), command


def kill(pids: list[int]) -> None:
    """Kill them with SIGKILL. One that ended since it was found, as a child does with its parent, is passed over."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def run_user(state: Path, python: str = sys.executable, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a process that uses the server of `state`. It prints the superuser's URL, and ends when its input ends."""
    options = {"cwd": ROOT, "env": os.environ | options.pop("env", {})} | options
    options |= {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([python, "-c", USE, str(state)], text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def url_of(process: subprocess.Popen[str]) -> str:
    """Wait until the process has its server. Return the URL that it printed, or why it has none."""
    assert process.stdout
    assert process.stderr
    return process.stdout.readline().strip() or f"none: {process.stderr.read()}"


def end(process: subprocess.Popen[str]) -> None:
    """End the process by closing its input, and wait for it."""
    assert process.stdin
    process.stdin.close()
    process.wait(10)


def query(url: str, statement: str) -> Sequence[Any]:
    """Run a statement. Return its row, or nothing if it returns no rows."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        result = connection.execute(text(statement))
        return result.one() if result.returns_rows else ()


def pid_of(url: str) -> int:
    return int(query(url, "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")[0])


def keepers(state: Path) -> list[int]:
    return find_processes("devtools.postgres.keeper", str(state))
