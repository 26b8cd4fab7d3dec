"""`make dev` in a copy of the project, whose files a test may change."""

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import httpx

from tests.process import ROOT, free_port
from tests.support import SECRET, wait_until

CHILD = "devtools.serve"


class Project:
    """A copy of the application and the development tools, with a database for its commands."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.versions = folder / "app" / "migrations" / "versions"
        self.environment = {"PATH": os.environ["PATH"], "BETTER_AUTH_SECRET": SECRET, **variables}
        for name in ("app", "devtools"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)

    def run(self, *arguments: str, **options: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the development tools to its end."""
        command = [sys.executable, "-m", "devtools", *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | options,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def edit(self, name: str, old: str, new: str) -> None:
        """Save a file with other text, as an editor does: another file gets the name."""
        file = self.folder / name
        text = file.read_text()
        assert old in text
        file.with_suffix(".saved").write_text(text.replace(old, new))
        file.with_suffix(".saved").replace(file)

    @contextmanager
    def dev(self) -> Iterator["Dev"]:
        """Run `make dev`'s command in a terminal until the block ends."""
        port = free_port()
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
            popen.terminate()
            popen.wait(20)
            dev.close()


class Dev:
    """A running `make dev` and what its terminal shows."""

    def __init__(self, popen: "subprocess.Popen[bytes]", port: int, terminal: int) -> None:
        self.popen, self.url, self._terminal, self._seen = popen, f"http://127.0.0.1:{port}", terminal, b""
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
        wait_until(lambda: self.shown.count(text) >= times or self._failed(), seconds=40)
        assert self.shown.count(text) >= times, self.shown

    def _failed(self) -> bool:
        return self.popen.poll() is not None

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30)

    def close(self) -> None:
        self._reader.join(10)
        os.close(self._terminal)
