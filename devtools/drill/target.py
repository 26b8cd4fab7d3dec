"""What a drill breaks: a running API, its database, and what else it depends on."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from signal import SIGUSR2

import psutil

from devtools.drill import undo
from devtools.drill.undo import DrillFailed, run

PSQL = ("-X", "-q", "-At", "-v", "ON_ERROR_STOP=1")
END_S = 5.0
FEW = 45
READY = "ready"
FAULTY_CODE = "faulty code"  # of `changes`: the routes of faults.py are there, and nothing is to be changed
LOSE_HOST = "lose the database's name"
DEPLOY = "deploy next"  # of the revision `next`
FEW_FILES, RESTART, SLOW_COLLECTOR, TRACE_MEMORY = "few files", "restart api", "slow jaeger", "trace memory"
FREEZE = 'kill -STOP "$1" && kill -STOP $(pgrep -P "$1") 2>/dev/null; :'
THAW = 'kill -CONT $(pgrep -P "$1") "$1" 2>/dev/null; :'  # what has ended meanwhile needs none

Change = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Target:
    """A running API at `urls`, one for each replica of the moment, whose traffic uses `collection` and so `table`.

    `psql` is the command that opens psql in its database, as a login that row-level security does not bind. `changes`
    are what can be done here, by names such as `stop redis` or `freeze postgres`. `lines` says where its log lines are.
    """

    urls: Sequence[str]
    collection: str
    table: str
    header: Callable[[str], dict[str, str]]  # Authorization, of a user
    psql: Sequence[str]
    changes: Mapping[str, Change]
    lines: str

    def change(self, name: str) -> AbstractContextManager[object]:
        """Make one of `changes` until the block ends, and also take it back when this process is killed."""
        return self.changes[name]()

    def ask(self, *statements: str) -> str:
        """Run statements, each in a transaction of its own, and return what psql prints: a line a row."""
        return run(self._command(statements))

    def _command(self, statements: Sequence[str]) -> list[str]:
        return [*self.psql, *PSQL, *(word for statement in statements for word in ("-c", statement))]

    def altered(self, do: Sequence[str], take_back: Sequence[str]) -> AbstractContextManager[None]:
        """Run the statements `do`, and `take_back` when the block ends or this process is killed."""
        return undo.changed(self._command(do), self._command(take_back))

    @contextmanager
    def session(self, *statements: str) -> Iterator[None]:
        """Keep a session open that has run `statements`, such as BEGIN and a lock, until the block ends.

        It ends with this process as well, since psql ends with its input.
        """
        command, pipe = [*self.psql, *PSQL], subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as psql:  # noqa: S603  our own command
            assert psql.stdin
            try:
                psql.stdin.write("".join(f"{statement};\n" for statement in statements) + f"\\echo {READY}\n")
                psql.stdin.flush()
                _wait_for_ready(psql)
                yield
            finally:
                psql.stdin.close()
                _end(psql)


def _wait_for_ready(psql: "subprocess.Popen[str]") -> None:
    assert psql.stdout
    said: list[str] = []
    while (line := psql.stdout.readline()).strip() != READY:
        if not line:
            raise DrillFailed("".join(said).strip())
        said.append(line)


def _end(psql: "subprocess.Popen[str]") -> None:
    try:
        psql.wait(END_S)
    except subprocess.TimeoutExpired:
        psql.kill()


def few_files(pid: int) -> AbstractContextManager[None]:
    """Let a process open few more connections and files than it has, until the block ends or this process is killed."""
    process = psutil.Process(pid)
    soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    command = ["prlimit", f"--pid={pid}"]
    return undo.changed([*command, f"--nofile={process.num_fds() + FEW}:{hard}"], [*command, f"--nofile={soft}:{hard}"])


@contextmanager
def memory_traced(pid: int) -> Iterator[None]:
    """Let a process trace its memory, and tell at the end of the block what it keeps."""
    os.kill(pid, SIGUSR2)
    yield
    os.kill(pid, SIGUSR2)


def frozen(pid: int) -> Change:
    """Return the change that freezes a process and its children: their connections stay open, and nobody answers."""
    return partial(undo.changed, ["sh", "-c", FREEZE, "freeze", str(pid)], ["sh", "-c", THAW, "thaw", str(pid)])
