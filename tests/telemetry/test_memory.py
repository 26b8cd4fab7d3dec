"""A process that grows: two signals name the code that keeps the memory, in the log and in a file."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.copies import copy_project_with
from tests.process import Process, run_process
from tests.support import wait_until
from tests.telemetry.support import entries

LEAK = """
import json

from fastapi import APIRouter

from app.web.route import ApiRoute

router = APIRouter(prefix="/api/leaks", route_class=ApiRoute)
kept = []


@router.get("")
async def leak() -> int:
    kept.append(json.loads("[" + "1.5," * 50_000 + "1.5]"))
    return len(kept)
"""
LINE = LEAK.splitlines().index('    kept.append(json.loads("[" + "1.5," * 50_000 + "1.5]"))') + 1
FLOAT = 24 + 8  # bytes, with its place in the list


@pytest.fixture
def leaking(database_url: str, tmp_path: Path) -> Iterator[Process]:
    copy = copy_project_with(tmp_path / "copy", "leaks", LEAK)
    with run_process(database_url, copy, TMPDIR=tmp_path) as process:
        yield process


def send(process: Process) -> dict[str, Any]:
    """Send the signal, and return the line that answers it."""
    before = len(lines_of(process))
    process.popen.send_signal(signal.SIGUSR2)
    wait_until(lambda: len(lines_of(process)) > before)
    return lines_of(process)[-1]


def lines_of(process: Process) -> list[dict[str, Any]]:
    return [entry for entry in entries(process) if entry["logger"] == "app.telemetry.memory"]


def test_two_signals_name_the_line_that_keeps_memory(leaking: Process, tmp_path: Path) -> None:
    """The project's own line, though a library's allocates; with its stack in a file that only its owner reads."""
    assert send(leaking)["level"] == "WARNING"
    with leaking.client() as client:
        assert [client.get("/api/leaks").json() for _ in range(5)] == [1, 2, 3, 4, 5]
    line = send(leaking)
    assert line["kept_bytes"] > 5 * 50_000 * FLOAT
    assert line["resident_growth_bytes"] > 5 * 50_000 * FLOAT / 2
    assert line["places"][0].startswith(f"app/leaks.py:{LINE}: ")
    assert len(line["places"]) <= 10
    assert f"most of it by app/leaks.py:{LINE}: " in line["message"]
    file = Path(line["file"])
    assert (file, file.stat().st_mode & 0o777) == (tmp_path / "memory-growth.txt", 0o600)
    assert f'leaks.py", line {LINE}' in file.read_text().split("\n\n")[1]
    assert "traced from now on" in send(leaking)["message"]


@pytest.mark.slow
def test_without_a_folder_to_write_to_the_line_says_it(leaking: Process, tmp_path: Path) -> None:
    """A link that somebody laid there is not followed."""
    (tmp_path / "memory-growth.txt").symlink_to(tmp_path / "elsewhere")
    send(leaking)
    assert send(leaking)["file"] is None
    assert not (tmp_path / "elsewhere").exists()
