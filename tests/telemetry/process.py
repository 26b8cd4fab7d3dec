"""The application as its own process, as `python -m app serve` starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

import httpx

from tests.support import SECRET, make_token

ROOT = Path(__file__).parents[2]
WITHIN_S = 20.0


@dataclass
class Process:
    """A running process; what it wrote is in `output`."""

    popen: subprocess.Popen[bytes]
    url: str
    output: Path

    @property
    def lines(self) -> list[str]:
        return self.output.read_text().splitlines()

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @contextmanager
    def client(self, user: str | None = "alice") -> Iterator[httpx.Client]:
        headers = {"Authorization": f"Bearer {make_token(user)}"} if user else {}
        with httpx.Client(base_url=self.url, headers=headers, timeout=30) as client:
            yield client

    def stop(self) -> float:
        """Ask it to end; the seconds that took."""
        started = time.monotonic()
        self.popen.send_signal(signal.SIGTERM)
        self.popen.wait(WITHIN_S)
        return time.monotonic() - started


def environment(database_url: str, **variables: str) -> dict[str, str]:
    """What the process sees: nothing of the developer's own settings."""
    base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return base | {"DATABASE_URL": database_url, "BETTER_AUTH_SECRET": SECRET, "PYTHONPATH": str(ROOT)} | variables


@contextmanager
def serving(folder: Path, database_url: str, **variables: str) -> Iterator[Process]:
    """Serve until the block ends. It runs in `folder`, where there is no `.env`."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    output = folder / "output"
    with output.open("wb") as file:
        popen = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"],
            cwd=folder,
            env=environment(database_url, PORT=str(port), **variables),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    process = Process(popen, f"http://127.0.0.1:{port}", output)
    try:
        wait_until_it_answers(process)
        yield process
    finally:
        popen.kill()
        popen.wait()


def wait_until_it_answers(process: Process) -> None:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        assert process.popen.poll() is None, process.output.read_text()
        try:
            httpx.get(f"{process.url}/health/live")
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("it does not answer")
