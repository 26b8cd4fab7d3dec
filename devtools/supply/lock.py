"""What a lock file names."""

import re
from pathlib import Path
from typing import NamedTuple

LOCKS = ("requirements.lock", "requirements-dev.lock")
ENTRY = re.compile(r"^([\w.-]+)==(\S+)(?: ; (.+?))? \\\n((?:    .*\n)+)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
NEEDED_BY = re.compile(r"^    # (?:via |  )(?!-c )(\S+)", re.MULTILINE)


class Package(NamedTuple):
    """A package: where it is installed, as a marker; the SHA-256 of each of its files; the names of who needs it."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    needed_by: tuple[str, ...]


def read_lock(path: Path) -> list[Package]:
    """Return the packages of a lock file. A name can stand there twice, with markers that exclude each other."""
    return [
        Package(name, version, marker, tuple(HASH.findall(rest)), tuple(NEEDED_BY.findall(rest)))
        for name, version, marker, rest in ENTRY.findall(path.read_text())
    ]


def read_locks(project: Path) -> list[Package]:
    """Return the packages of both lock files, each version once."""
    packages = {package[:2]: package for lock in LOCKS for package in read_lock(project / lock)}
    return [packages[key] for key in sorted(packages)]
