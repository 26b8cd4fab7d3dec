"""The application as production runs it: a process of its own, configured only by its environment."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import randbelow
from shutil import which
from socket import create_connection, socket
from tempfile import TemporaryFile
from typing import IO, TypeAlias

import httpx
import pytest

from tests.support import CERTIFICATES, SECRET, UNLIMITED, answers, make_token, wait_until

ROOT = Path(__file__).parents[1]
Running: TypeAlias = "subprocess.Popen[str]"


@dataclass(frozen=True)
class Process:
    """A process that serves the application."""

    port: int
    popen: subprocess.Popen[bytes]
    log: IO[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, user: str = "alice") -> httpx.Client:
        headers = {"Authorization": f"Bearer {make_token(user)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, verify=CERTIFICATES)

    def output(self) -> str:
        """Return what the process has written so far."""
        self.log.seek(0)
        return self.log.read().decode()

    def is_listening(self) -> bool:
        """Whether the process accepts new connections."""
        with suppress(OSError), create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False

    def is_alive(self) -> bool:
        assert self.popen.poll() is None, self.output()
        return answers(f"{self.url}/health/live")


def environment(database_url: str, **variables: object) -> dict[str, str]:
    """Return the environment of a production. Only PATH comes from the test's own environment."""
    settings = {"database_url": database_url, "better_auth_secret": SECRET, "environment": "production"}
    given = settings | UNLIMITED | variables
    return {"PATH": os.environ["PATH"], **{name.upper(): str(value) for name, value in given.items()}}


def run_command(
    arguments: Sequence[str], database_url: str, folder: Path = ROOT, /, *, module: str = "app", **variables: object
) -> subprocess.CompletedProcess[str]:
    """Run a command of `module` in `folder` and wait until it ends."""
    command = [sys.executable, "-m", module, *arguments]
    env = environment(database_url, **variables)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


def start_command(arguments: Sequence[str], database_url: str, folder: Path, /, **variables: object) -> Running:
    """Start a command of the application in `folder`. Its output is one text."""
    command = [sys.executable, "-m", "app", *arguments]
    env = environment(database_url, **variables)
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def needed(program: str) -> str:
    """Where a program is; without it the test is skipped, or fails in CI, which installs it."""
    if (path := which(program, path=f"{os.environ['PATH']}:/usr/sbin")) is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{program} is not installed")
    return path


def free_port() -> int:
    """Return a free port. It is below the range from which the kernel picks one for a program that asks for any."""
    while True:
        with suppress(OSError), socket() as probe:
            port = randbelow(12_000) + 20_000
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def run_process(
    database_url: str, root: Path = ROOT, before: Sequence[str] = (), /, **variables: object
) -> Iterator[Process]:
    """Serve the project until the block ends, or a copy of `app` at `root`. The test may end the process itself.

    What stands `before` the command must become the process. Without a `port` it has a free one.
    """
    env = environment(database_url, **({"port": free_port()} | variables))
    with TemporaryFile() as log:
        module = "devtools.examples" if root == ROOT else "app"  # a copy has no tests
        command = [*before, sys.executable, "-m", module, "serve"]
        popen = subprocess.Popen(command, cwd=root, env=env, stdout=log, stderr=log)
        process = Process(int(env["PORT"]), popen, log)
        try:
            wait_until(process.is_alive, seconds=30)
            yield process
        finally:
            popen.kill()
            popen.wait()
