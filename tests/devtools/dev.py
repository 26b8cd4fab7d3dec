"""The commands of development in a copy of the project, whose files a test may change."""

import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import httpx
import psutil

from tests.process import ROOT, free_port
from tests.support import SECRET, wait_until


class Dev:
    """A running `make dev`, and what its terminal shows."""

    def __init__(self, popen: "subprocess.Popen[bytes]", port: int, terminal: int) -> None:
        self.popen, self.port, self._terminal, self._seen = popen, port, terminal, b""
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # the last process of the terminal has ended
            while part := os.read(self._terminal, 65536):
                self._seen += part

    @property
    def shown(self) -> str:
        return self._seen.decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until the terminal has shown the text so often."""
        with suppress(AssertionError):
            wait_until(lambda: self.shown.count(text) >= times or self.popen.poll() is not None, seconds=30)
        assert self.shown.count(text) >= times, self.shown

    def write(self, text: str) -> None:
        """Type into the terminal."""
        os.write(self._terminal, text.encode())

    def get(self, path: str = "/health/live") -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=30)

    def processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.popen.pid)
        return [parent, *parent.children(recursive=True)]

    def end(self, signum: int = signal.SIGTERM) -> int:
        """Send the parent a signal, and return its exit code."""
        self.popen.send_signal(signum)
        return self.popen.wait(20)

    def close(self) -> None:
        self._reader.join(10)
        with suppress(OSError):
            os.close(self._terminal)


class Project:
    """A copy of the application and of the tools of development."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder, self.versions = folder, folder / "app" / "migrations" / "versions"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {"PATH": path, "BETTER_AUTH_SECRET": SECRET, **variables}
        for name in ("app", "devtools"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)

    @property
    def database_url(self) -> str:
        return self.environment["DATABASE_URL"]

    def run(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        command = [sys.executable, "-m", "devtools", *arguments]
        env = self.environment | variables
        return subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=60, check=False
        )

    def save(self, name: str, text: str) -> None:
        """Save a file as an editor does: the complete one gets the name."""
        (self.folder / "saved").write_text(text)
        (self.folder / "saved").replace(self.folder / name)

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text
        self.save(name, text.replace(old, new, 1))

    @contextmanager
    def dev(self, port: int | None = None) -> Iterator[Dev]:
        """Run `make dev`'s command in a terminal until the block ends."""
        port = port or free_port()
        terminal, theirs = pty.openpty()
        popen = subprocess.Popen(
            [sys.executable, "-m", "devtools", "dev"],
            cwd=self.folder,
            env=self.environment | {"PORT": str(port)},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        dev = Dev(popen, port, terminal)
        try:
            yield dev
        finally:
            dev.end()
            dev.close()
