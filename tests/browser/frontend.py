"""Pages of another origin in a real browser, and the server that they come from."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.support import make_token

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",  # CI runs as root, where the sandbox refuses to start
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_S = 60

IN_A_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER and os.environ.get("CI") != "true", reason="chromium is missing"),
]


class Frontend(ThreadingHTTPServer):
    """Serves the pages at an origin of their own, and receives their reports in `seen`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: Queue[dict[str, Any]] = Queue()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page = Path(__file__).with_name(urlsplit(self.path).path[1:])
        self._answer(page.read_bytes() if page.is_file() else b"")  # a browser asks for an icon as well

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Frontend)
        self.server.seen.put(json.loads(body))
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output to itself."""


@contextmanager
def open_browser(url: str, profile: Path) -> Iterator[None]:
    """Show a page in a new browser. End all its processes when the block ends."""
    assert BROWSER, "chromium is missing, and CI needs it"
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", url]
    output = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True) as browser:
        try:
            yield
        finally:
            os.killpg(browser.pid, signal.SIGKILL)


def visit(frontend: Frontend, profile: Path, page: str, **servers: str) -> dict[str, Any]:
    """Open a page with a token of alice and the URLs of the `servers` that it calls. Return its report."""
    query = urlencode({"token": make_token("alice")} | servers)
    with open_browser(f"{frontend.origin}/{page}?{query}", profile):
        return frontend.seen.get(timeout=PATIENCE_S)
