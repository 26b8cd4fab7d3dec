"""Copies of the template, as a team makes them."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from devtools import bootstrap
from devtools.rename import KEPT, list_files, list_tracked
from tests.devtools.processes import ROOT

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "PYTHON": sys.executable,  # what `make` takes
    **{f"GIT_{role}_{what}": "a-team@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}

AS_IT_CAME = [path.name for path in (ROOT / "app/migrations/versions").glob("*.py")] == ["0001_task.py"]
REASON = "only the template as it came can be built upon here"


def copy_template(folder: Path) -> Path:
    """Copy every file that belongs to this checkout into `folder`; return it."""
    for path in list_tracked(ROOT) or list_files(ROOT):
        if path.is_file():
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return folder


def run(folder: Path, *command: str, **environ: str) -> str:
    """Run a command that has to succeed; return what it says."""
    environment = ENVIRONMENT | environ
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=1800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def give_python(folder: Path) -> None:
    """Let `make` in `folder` find a complete `.venv`, whose Python is this one."""
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    bootstrap.write_stamp(folder)


def commit(folder: Path) -> None:
    """Make `folder` a repository, if it is none, and commit all that it holds."""
    run(folder, "git", "init", "--quiet", "--initial-branch=main")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", "as it is")


def texts(project: Path) -> dict[str, str]:
    """The text of every file that a rename should have changed, by its path."""
    paths = [path for path in list_files(project) if path.is_file() and path.name not in KEPT]
    return {str(path.relative_to(project)): path.read_bytes().decode(errors="replace") for path in paths}


def mentions(project: Path, name: str) -> list[str]:
    """The files that have a name, however it is spelt."""
    spelt = re.compile(name.replace("-", "[-_ ]?"), re.IGNORECASE)
    return [
        f"{path}: {match[0]}" for path, text in texts(project).items() for match in spelt.finditer(f"{path}\n{text}")
    ]


def pyproject(project: Path) -> dict[str, Any]:
    return tomllib.loads((project / "pyproject.toml").read_text())


NAME: str = pyproject(ROOT)["project"]["name"]
