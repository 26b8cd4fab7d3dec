"""What `make dev` starts again and again (`reload.py`): one API, as the files of `app/` are now.

It migrates while the one before it still serves. What stops it is told in plain lines. The exit code is CODE if a
change of the code may mend it.
"""

import logging
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from socket import socket
from threading import Thread
from traceback import extract_tb
from typing import TYPE_CHECKING

import typer
from alembic.runtime.migration import MigrationStep

if TYPE_CHECKING:
    from app.settings import Settings

ROOT = Path(__file__).parents[1]
CODE = 3
FIRST, AGAIN = b"1", b"2"  # the parent's word to begin, where none or another one has served before
INTERRUPTED = 130
NOT_OF_THE_CODE = {  # by name, because broken code may be in the way of their import
    "SettingsError": 2,
    "DatabaseUnavailable": 1,
    "NotServing": 1,
    "PostgresFailed": 1,
    "UncleanDatabase": 1,
}
BANNER = """
  page   {url}/_dev/{offer}
  docs   {url}/docs
  token  {token}
  try    curl -H "Authorization: Bearer {token}" {url}{path}
  rows   make psql
"""


class Parent:
    """The process that started this one. If it is killed, this one ends at once, so that nothing keeps the port."""

    def __init__(self, channel: socket) -> None:
        self._channel = channel
        self._answers: SimpleQueue[bytes] = SimpleQueue()
        Thread(target=self._listen, daemon=True).start()

    def wait_for_turn(self) -> bool:
        """Tell that this process is ready, and wait until the one before it has ended. Return whether it has served."""
        self._channel.send(b".")
        return self._answers.get() == AGAIN

    def _listen(self) -> None:
        with suppress(OSError):
            while answer := self._channel.recv(1):  # empty once the parent has ended
                self._answers.put(answer)
        os._exit(1)


class Announcer(logging.Handler):
    """Says which migration begins, which Alembic logs among much else."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the revision, if the record is of a migration's begin."""
        for step in record.args or ():
            if isinstance(step, MigrationStep):
                typer.echo(f"applying {', '.join(step.to_revisions_no_deps)} ...")


def main(channel: socket) -> int:
    """Serve until a signal, and as long as the other end of `channel` is open. Return the exit code."""
    parent = Parent(channel)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked by the parent
        serve(parent)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  code that is being written may raise anything
        typer.secho(explain(error), fg=typer.colors.RED, err=True)
        return NOT_OF_THE_CODE.get(type(error).__name__, CODE)
    return 0


def serve(parent: Parent) -> None:
    """Migrate, and serve when it is this process's turn. Print how to use it, or how long it took to serve again.

    Raises:
        Exception: whatever the settings, the database or the code of the application make of it.
    """
    began = time.monotonic()
    from app import command_line
    from app.settings import Settings
    from devtools import environment, history

    command_line.import_application()
    with environment.complete(Settings.load()) as settings:
        show_migrations(settings)
        unclean = [history.migrate(settings).edited(), history.lacking(settings)]
        again = parent.wait_for_turn()

        def say() -> None:
            typer.echo(f"served again after {time.monotonic() - began:.1f} s" if again else banner(settings))
            for line in filter(None, unclean):
                typer.secho(line, fg=typer.colors.YELLOW)

        from app import serving
        from devtools.page import create_with_page

        serving.serve(settings, say, create_with_page)


def show_migrations(settings: "Settings") -> None:
    """Show in the terminal what migrations log, and which one begins."""
    from app.telemetry import logs

    logs.configure(settings)
    steps = logging.getLogger("alembic.runtime.migration")
    steps.setLevel(logging.INFO)
    steps.propagate = False
    steps.addHandler(Announcer())


def banner(settings: "Settings") -> str:
    """Return how to use the API that `settings` serve."""
    from app.auth import development
    from app.main import ENTITIES

    sign_in = settings.better_auth_url and f"<from {settings.better_auth_url}/api/auth/token>"
    token = sign_in or development.token(settings, "alice", minutes=24 * 60)
    path = next((entity.prefix for entity in ENTITIES if entity.prefix), "/health")
    offer = "   (o and Enter opens it)" if sys.stdin.isatty() else ""
    return BANNER.format(url=f"http://{settings.host}:{settings.port}", token=token, path=path, offer=offer)


def explain(error: Exception) -> str:
    """Return an error's message, and for one that is not ours its type and where in the project it was raised."""
    if type(error).__module__.partition(".")[0] in {"app", "devtools"}:
        return str(error)
    if isinstance(error, SyntaxError):
        file, line, message = error.filename or "", error.lineno, error.msg
    else:
        stack = extract_tb(error.__traceback__)
        frames = [frame for frame in stack if Path(frame.filename).is_relative_to(ROOT / "app")]
        file, line = (frames[-1].filename, frames[-1].lineno) if frames else ("", None)
        message = str(error)
    place = f"{os.path.relpath(file, ROOT)}, line {line}: " if file else ""
    return f"{place}{type(error).__name__}: {message}"


if __name__ == "__main__":
    code = main(socket(fileno=int(sys.argv[1])))
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)  # at once: the interpreter would wait for threads, such as one that waits for a frozen database
