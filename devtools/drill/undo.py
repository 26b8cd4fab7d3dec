"""A change that is taken back, however the process ends that made it."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

WAIT = 'cat >/dev/null; exec "$@"'
UNDO_S = 30.0


class DrillFailed(RuntimeError):
    """A drill cannot be made, or not be taken back. The message is plain."""


@contextmanager
def undone_by(command: Sequence[str]) -> Iterator[None]:
    """Run `command` when the block ends, and also when this process is killed meanwhile.

    A shell in a session of its own waits for the end of its input, which the kernel closes with this process. Ctrl-C
    and the end of the terminal do not reach it.

    Raises:
        DrillFailed: the command failed, or takes over 30 s.
    """
    line = ["sh", "-c", WAIT, "undo", *command]
    pipe = subprocess.PIPE
    guard = subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, start_new_session=True)  # noqa: S603  our own command
    try:
        yield
    finally:
        try:
            said, _ = guard.communicate(timeout=UNDO_S)
        except subprocess.TimeoutExpired:
            raise DrillFailed(f"This still runs and was to take the fault back: {' '.join(command)}") from None
    if guard.returncode:
        raise DrillFailed(f"The fault could not be taken back by: {' '.join(command)}\n{said.decode().strip()}")


def run(command: Sequence[str]) -> str:
    """Run a command and return what it printed; raise DrillFailed if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own command
    if done.returncode:
        raise DrillFailed(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


@contextmanager
def changed(do: Sequence[str], undo: Sequence[str]) -> Iterator[None]:
    """Run `do`, and `undo` when the block ends or this process is killed. Either may fail with DrillFailed."""
    with undone_by(undo):
        run(do)
        yield
