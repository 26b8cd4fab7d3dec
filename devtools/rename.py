"""Gives the project another name, everywhere. `make rename NAME=orders-api` does so without a `.venv`.

Only the standard library. docs/upgrade.md says what is renamed and what is not.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

WORDS = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
LONGEST = 30  # Grafana takes 40 characters as a uid, and ours end with -database
KEPT = ("CHANGELOG.md", "template.toml")  # they speak of the template, not of the copy
NOT_OURS = re.compile(r"\.git|\.venv.*|\.dev|\.env|\..*_cache|__pycache__|node_modules")
MAX_FOUND = 10  # places that one line names
EXAMPLE = rb"NAME=[\w-]+"


class RenameError(Exception):
    """Why the project keeps its name, in one plain line."""


def main(name: str) -> None:
    """Rename the checkout this file is in; exit with 1 and a plain message where that fails."""
    try:
        sys.stdout.write(rename(Path(__file__).resolve().parents[1], name))
    except (RenameError, OSError) as error:
        sys.exit(f"error: {error}")


def rename(project: Path, name: str) -> str:
    """Write `name` for the present one in every text file of `project`; return what was done, in a few lines.

    Raises: RenameError, OSError.
    """
    old = tomllib.loads((project / "pyproject.toml").read_text())["project"]["name"]
    check(old, name)
    in_git = is_repository(project)
    if in_git and git(project, "status", "--porcelain", "--", "."):
        raise RenameError("some changes are not committed: commit or stash them first, so that this can be undone")
    texts = read(list_tracked(project) if in_git else list_files(project))
    spellings = dict(zip(spell(old), spell(name), strict=True))
    check_unused(texts, spellings)
    changed = sum(rewrite(path, text, spellings) for path, text in texts.items())
    lines = [f"{changed} files changed:", *(f"  {before} -> {after}" for before, after in spellings.items())]
    lines.append(f"{' and '.join(KEPT)} still name the template. docs/upgrade.md says what is left to do by hand.")
    if in_git:
        lines.append("`git diff` shows every line, `git checkout .` undoes it.")
    return "\n".join(lines) + "\n"


def check(old: str, name: str) -> None:
    """Refuse a name that cannot be used everywhere.

    Raises: RenameError.
    """
    if not WORDS.fullmatch(name) or len(name) > LONGEST:
        raise RenameError(
            f"a name is two or more words of a-z and 0-9 with hyphens between them, {LONGEST} characters at most,"
            f" and begins with a letter: make rename NAME=orders-api. This one is {name!r}"
        )
    if name == old:
        raise RenameError(f"{name} is the name of the project already")
    if "-" not in old:
        raise RenameError(f"the present name, {old}, is a single word, which may stand for something else as well")


def spell(name: str) -> tuple[str, str, str]:
    """Return the three ways a name is written: that of a package, of a Python or Prometheus name, and of a title."""
    words = name.split("-")
    return name, "_".join(words), " ".join("API" if word == "api" else word.capitalize() for word in words)


def check_unused(texts: dict[Path, bytes], spellings: dict[str, str]) -> None:
    """Refuse a name that stands in the files already: nobody could tell the two apart, nor rename it again.

    Raises: RenameError.
    """
    names = re.compile(b"|".join([EXAMPLE, *(re.escape(old.encode()) for old in spellings)]))
    rest = {path: names.sub(b"", text) for path, text in texts.items()}
    spelled = spellings.values()
    found = [f"{new} stands in {path.name}" for path in rest for new in spelled if new.encode() in rest[path]]
    if found:
        more = f" and {len(found) - MAX_FOUND} more" if len(found) > MAX_FOUND else ""
        raise RenameError(f"{', '.join(found[:MAX_FOUND])}{more} already, for something else")


def rewrite(path: Path, text: bytes, spellings: dict[str, str]) -> bool:
    """Replace the old spellings in one file; return whether there were any."""
    names = re.compile(b"|".join(re.escape(old.encode()) for old in spellings))
    renamed, count = names.subn(lambda found: spellings[found[0].decode()].encode(), text)
    if count:
        path.write_bytes(renamed)
    return count > 0


def read(paths: list[Path]) -> dict[Path, bytes]:
    """Return what the files hold, but for pictures and the like."""
    texts = {path: path.read_bytes() for path in paths if path.is_file() and not path.is_symlink()}
    return {path: text for path, text in texts.items() if b"\0" not in text and path.name not in KEPT}


def is_repository(project: Path) -> bool:
    """Whether git keeps the project, and not only a folder around it."""
    return git(project, "ls-files", "--", "pyproject.toml") != ""


def list_tracked(project: Path) -> list[Path]:
    """Return the files that git keeps."""
    return [project / name for name in git(project, "ls-files", "-z", "--", ".").split("\0") if name]


def list_files(project: Path) -> list[Path]:
    """Return the files of a project without git, but for what tools and the developer put there."""
    return [path for path in project.rglob("*") if not any(map(NOT_OURS.fullmatch, path.relative_to(project).parts))]


def git(project: Path, *command: str) -> str:
    """Return what git says of the project; nothing if it is no repository, or there is no git."""
    try:
        done = subprocess.run(["git", *command], cwd=project, capture_output=True, text=True, check=False)  # noqa: S603, S607 - as PATH has it
    except FileNotFoundError:
        return ""
    return done.stdout


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
