"""Creates `.venv` from requirements-dev.lock, hashes checked. Run by the system's Python: `make` does so each time.

Only the standard library, and only syntax that Python 3.7 can read, so that an old Python is refused in plain words.
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
TROUBLES = {  # what pip says, and what it means
    "do not match the hashes": f"a package does not have the hash that {LOCK} names",
    "all requirements must have": f"{LOCK} names a package without its hash",
    "connection": "the package index could not be reached",
    "no matching distribution": "the package index does not answer, or lacks a package for this Python and machine",
}


class SetUpError(Exception):
    """Why `.venv` could not be created, in one plain line."""


def main() -> None:
    """Set up the checkout this file is in; exit with 1 and a plain message where that fails."""
    try:
        set_up(Path(__file__).resolve().parents[1])
    except (SetUpError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def set_up(project: Path) -> None:
    """Make sure that `.venv` in `project` is what its lock file says. At once and silent where it is.

    Raises: SetUpError, OSError.
    """
    if sys.version_info < OLDEST:
        raise SetUpError(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]} ({sys.executable})")
    if current(project):
        return
    with (project / ".venv.lock").open("ab") as lock:
        wait_for(lock)
        if not current(project):
            create(project, lock)


def current(project: Path) -> bool:
    """Whether `.venv` was completed by this Python, from this lock file, in this place, and still runs."""
    try:
        made_from = stamp(project).read_bytes()
        return made_from == wanted(project) and run([python(project), "-I", "-S", "-c", ""]).returncode == 0
    except OSError:  # no `.venv`, no stamp, no Python behind the link: create() will meet what cannot be mended
        return False


def stamp(project: Path) -> Path:
    """The file that says what `.venv` was made from. It is written last."""
    return project / ".venv" / "made-from"


def wanted(project: Path) -> bytes:
    """What the stamp must say. The place too: a copied or moved `.venv` runs scripts of the old one."""
    digest = hashlib.sha256((project / LOCK).read_bytes()).hexdigest()
    return f"{digest} {sys.version_info[:2]} ".encode() + os.fsencode(project)


def python(project: Path) -> str:
    """The Python of `.venv`."""
    return str(project / ".venv" / "bin" / "python")


def wait_for(lock: BinaryIO) -> None:
    """Take the lock which says that one process alone works on `.venv`."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another make, which sets up .venv")
        fcntl.flock(lock, fcntl.LOCK_EX)


def create(project: Path, lock: BinaryIO) -> None:
    """Make `.venv` from nothing, whatever was there.

    Raises: SetUpError, OSError.
    """
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        package = "python{}.{}-venv".format(*sys.version_info)
        raise SetUpError(f"{sys.executable} has no venv module; on Debian or Ubuntu: apt-get install {package}")
    stamp(project).unlink(missing_ok=True)
    say(f"setting up .venv from {LOCK} with Python {sys.version.split()[0]}, which takes a minute")
    made = run([sys.executable, "-I", "-m", "venv", "--clear", str(project / ".venv")], lock)
    if made.returncode:
        raise SetUpError(f"{sys.executable} could not make .venv: {made.stdout.strip()}")
    install(project, lock)
    stamp(project).write_bytes(wanted(project))


def install(project: Path, lock: BinaryIO) -> None:
    """Install the locked packages. pip's own configuration and environment variables count.

    Raises: SetUpError.
    """
    # The lock file is complete, so pip need not look for dependencies: what it installs is what the file names.
    options = ["--require-hashes", "--no-deps", "--disable-pip-version-check", "--no-input"]
    pip = run([python(project), "-I", "-m", "pip", "install", *options, "-r", str(project / LOCK)], lock)
    if pip.returncode:
        say("\n".join(pip.stdout.strip().splitlines()[-8:]))
        trouble = next(
            (meaning for sign, meaning in TROUBLES.items() if sign in pip.stdout.lower()), "pip failed, see above"
        )
        raise SetUpError(f".venv could not be set up: {trouble}")


def run(command: list[str], lock: BinaryIO | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program, its output in one string. It holds `lock` for as long as it runs, even if we are killed."""
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


def say(line: str) -> None:
    """Tell the developer."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
