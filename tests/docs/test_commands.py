"""The commands of docs/api.md and docs/frontend.md, as they are pasted."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from app.errors import AppError
from tests.docs.pages import ROOT, blocks
from tests.process import Process, run_process
from tests.support import SECRET

ROW = re.compile(r"^\| (\d{3}) \| `(\w+)` \|", re.MULTILINE)
OF_EVERY_COPY = ("app.auth", "app.db", "app.errors", "app.ratelimit", "app.web")
HERE = "http://127.0.0.1:8000"


def paste(block: str, folder: Path, url: str = HERE) -> str:
    """What a block writes in a shell, with this Python for the checkout's and the API at `url`."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "BETTER_AUTH_SECRET": SECRET}
    script = block.replace(".venv/bin/python", shlex.quote(sys.executable)).replace(HERE, url)
    command = ["bash", "-euc", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def run(database_url: str) -> Callable[..., AbstractContextManager[Process]]:
    return lambda **variables: run_process(database_url, **variables)


def test_the_session_is_as_the_page_says(run: Callable[..., AbstractContextManager[Process]], tmp_path: Path) -> None:
    """The third answer is the second row, the late change is refused, and what is deleted is not there."""
    (session,) = blocks("docs/api.md", __file__)
    with run() as process:
        answers = [json.loads(line) for line in paste(session, tmp_path, process.url).splitlines() if line]
    plants, once, again, found, completed, late, gone = answers
    assert (plants["title"], again["id"], [row["id"] for row in found]) == (
        "Water the plants",
        once["id"],
        [once["id"]],
    )
    assert completed["completed"] is True
    assert (late["status"], gone["status"], gone["code"]) == (412, 404, "example_not_found")


def test_the_page_lists_every_error() -> None:
    """Each code with its status, and none that is not there; the framework's own has one as well.

    An entity has a code of its own for a row that is not there, and a team may have more: the page tells of one.
    """
    kinds = [AppError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    own = {(kind.status, kind.code) for kind in kinds if kind.__module__.startswith(OF_EVERY_COPY)}
    told = {(int(status), code) for status, code in ROW.findall((ROOT / "docs/api.md").read_text())}
    assert {line for line in told if not line[1].endswith("_not_found")} == own | {(405, "method_not_allowed")}


def test_the_document_is_written(tmp_path: Path) -> None:
    """The command of docs/frontend.md writes what a generator reads."""
    (command,) = blocks("docs/frontend.md", __file__)
    paste(command, tmp_path)
    assert json.loads((tmp_path / "openapi.json").read_text())["paths"]
