"""Creates `.venv` from requirements-dev.lock and checks the hashes. `make` runs it with the system's Python.

Only the standard library, and only syntax that Python 3.7 can read, so that an old Python gets a plain message.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

OLDEST = (3, 11)
LOCK = "requirements-dev.lock"
REASONS = {  # what pip says, and what it means
    "do not match the hashes": f"a package does not have the hash that {LOCK} names",
    "all requirements must have": f"{LOCK} names a package without its hash",
    "connection": "the package index could not be reached",
    "no matching distribution": "the package index does not answer, or lacks a package for this Python and machine",
}


class SetUpError(Exception):
    """Why `.venv` could not be created, in one plain line."""


def main() -> None:
    """Set up the checkout of this file. If that fails, exit with 1 and a plain message."""
    try:
        set_up(Path(__file__).resolve().parents[1])
    except (SetUpError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def set_up(project: Path) -> None:
    """Create `.venv` in `project`. If it is what the lock file says, do and print nothing.

    Raises:
        SetUpError: the message says why.
        OSError: the message of the system says why.
    """
    if sys.version_info < OLDEST:
        raise SetUpError(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]} ({sys.executable})")
    if is_current(project):
        return
    with (project / ".venv.lock").open("ab") as lock:
        _take(lock)
        if not is_current(project):
            _create(project, lock)


def is_current(project: Path) -> bool:
    """Whether `.venv` was completed by this Python, from this lock file, in this place, and still runs."""
    try:
        complete = _stamp(project).read_bytes() == _expected_stamp(project)
        return complete and _run([venv_python(project), "-I", "-S", "-c", ""]).returncode == 0
    except OSError:  # `.venv`, its stamp or its Python is missing
        return False


def venv_python(project: Path) -> str:
    """Return the path of the Python in `.venv`."""
    return str(project / ".venv" / "bin" / "python")


def _stamp(project: Path) -> Path:
    """Return the file that says what `.venv` was made from. It is written last."""
    return project / ".venv" / "made-from"


def _expected_stamp(project: Path) -> bytes:
    """Return what the stamp must say. It has the place too: the scripts of a moved `.venv` run the old one."""
    digest = hashlib.sha256((project / LOCK).read_bytes()).hexdigest()
    return f"{digest} {sys.version_info[:2]} ".encode() + os.fsencode(project)


def _take(lock: BinaryIO) -> None:
    """Take the lock, so that only one process works on `.venv`."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say("waiting for another make, which sets up .venv")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _create(project: Path, lock: BinaryIO) -> None:
    if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
        package = "python{}.{}-venv".format(*sys.version_info)
        raise SetUpError(f"{sys.executable} has no venv module; on Debian or Ubuntu: apt-get install {package}")
    _stamp(project).unlink(missing_ok=True)
    _say(f"setting up .venv from {LOCK} with Python {sys.version.split()[0]}, which takes a minute")
    made = _run([sys.executable, "-I", "-m", "venv", "--clear", str(project / ".venv")], lock)
    if made.returncode:
        raise SetUpError(f"{sys.executable} could not make .venv: {made.stdout.strip()}")
    install(project, lock)
    write_stamp(project)


def write_stamp(project: Path) -> None:
    """Say that `.venv` is what the lock file says."""
    _stamp(project).write_bytes(_expected_stamp(project))


def install(project: Path, lock: BinaryIO) -> None:
    """Install the locked packages, or raise SetUpError. pip reads its own configuration and environment variables."""
    # The lock file is complete, so pip need not look for dependencies: what it installs is what the file names.
    options = ["--require-hashes", "--no-deps", "--disable-pip-version-check", "--no-input"]
    pip = _run([venv_python(project), "-I", "-m", "pip", "install", *options, "-r", str(project / LOCK)], lock)
    if pip.returncode:
        _say("\n".join(pip.stdout.strip().splitlines()[-8:]))
        reasons = [meaning for text, meaning in REASONS.items() if text in pip.stdout.lower()]
        raise SetUpError(f".venv could not be set up: {(reasons or ['pip failed, see above'])[0]}")


def _run(command: list[str], lock: BinaryIO | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program, its output in one string. It holds `lock` as long as it runs, even if this process is killed."""
    return subprocess.run(  # noqa: S603 - Python itself
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=[lock.fileno()] if lock else [],
    )


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
