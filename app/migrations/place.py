"""Which line of a team's migration runs, or raised an error."""

import re
from inspect import currentframe
from linecache import getline
from pathlib import Path
from traceback import extract_tb, walk_stack
from typing import NamedTuple

CALL = re.compile(r"([\w.]+)\(")


class Place(NamedTuple):
    """A line of a migration's file, and the first call in it."""

    file: str
    line: int
    call: str


def of_error(error: BaseException) -> str:
    """Return the file and line of the migration that raised the error, or nothing; a SyntaxError names its own."""
    frames = [frame for frame in extract_tb(error.__traceback__) if _is_migration(frame.filename)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def running() -> Place | None:
    """Return the line of a migration that calls this, if one does."""
    for frame, line in walk_stack(currentframe()):
        if _is_migration(frame.f_code.co_filename):
            found = CALL.search(getline(frame.f_code.co_filename, line))
            return Place(Path(frame.f_code.co_filename).name, line, f"{found[1]}()" if found else "a statement")
    return None


def _is_migration(file: str) -> bool:
    return Path(file).parent.name == "versions"
