"""What `make dev` starts again and again (`reload.py`): one API, as the files of `app/` are now.

What stops it is told in plain lines. The exit code is CODE if a change of the code may mend it.
"""

import logging
import os
import signal
import sys
import time
from pathlib import Path
from threading import Thread
from traceback import extract_tb
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from app.settings import Settings

ROOT = Path(__file__).parents[1]
CODE = 3
INTERRUPTED = 130
NOT_OF_THE_CODE = {  # by name, because broken code may be in the way of their import
    "SettingsError": 2,
    "DatabaseUnavailable": 1,
    "NotServing": 1,
    "PostgresFailed": 1,
    "UncleanDatabase": 1,
}
BANNER = """
  docs   {url}/docs
  token  {token}
  try    curl -H "Authorization: Bearer {token}" {url}{path}
  rows   make psql
"""


def main(lifeline: int, *, again: bool) -> int:
    """Serve until a signal, and as long as the other end of `lifeline` is open. Return the exit code."""
    Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked by the parent
        serve(again=again)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  code that is being written may raise anything
        typer.secho(explain(error), fg=typer.colors.RED, err=True)
        return NOT_OF_THE_CODE.get(type(error).__name__, CODE)
    return 0


def serve(*, again: bool) -> None:
    """Migrate and serve. Print how to use it, or only how long it took if it is served `again`.

    Raises:
        Exception: whatever the settings, the database or the code of the application make of it.
    """
    began = time.monotonic()
    from app import command_line
    from app.settings import Settings
    from devtools import environment, history

    command_line.import_application()
    with environment.complete(Settings.load()) as settings:
        unclean = [history.migrate(settings).edited(), history.lacking(settings)]

        def say() -> None:
            typer.echo(f"served again after {time.monotonic() - began:.1f} s" if again else banner(settings))
            for line in filter(None, unclean):
                typer.secho(line, fg=typer.colors.YELLOW)

        command_line.serve(settings, on_start=say)


def banner(settings: "Settings") -> str:
    """Return how to use the API that `settings` serve."""
    from app.auth import development
    from app.main import ENTITIES

    sign_in = settings.better_auth_url and f"<from {settings.better_auth_url}/api/auth/token>"
    token = sign_in or development.token(settings, "alice", minutes=24 * 60)
    path = next((entity.prefix for entity in ENTITIES if entity.prefix), "/health")
    return BANNER.format(url=f"http://{settings.host}:{settings.port}", token=token, path=path)


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


def _end_with_parent(lifeline: int) -> None:
    """End at once when the parent was killed, so that nothing keeps the port."""
    os.read(lifeline, 1)  # returns when the other end is closed
    os._exit(1)


if __name__ == "__main__":
    code = main(int(sys.argv[1]), again="--again" in sys.argv)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)  # at once: the interpreter would wait for threads, such as one that waits for a frozen database
