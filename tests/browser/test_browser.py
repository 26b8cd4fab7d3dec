"""A frontend's view of the API: a page of another origin in a real browser."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support import Api, make_token

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

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER and os.environ.get("CI") != "true", reason="chromium is missing"),
]

Serve = Callable[..., AbstractContextManager[Api]]


class Frontend(ThreadingHTTPServer):
    """Serves the page at an origin of its own, and receives what it saw."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: Queue[dict[str, Any]] = Queue()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(Path(__file__).with_name("page.html").read_bytes())

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


@pytest.fixture
def frontend() -> Iterator[Frontend]:
    with Frontend() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def opened(url: str, profile: Path) -> Iterator[None]:
    """Show a page in a browser that has no history, and end it with all its processes."""
    assert BROWSER, "chromium is missing, and CI needs it"
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", url]
    output = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True) as browser:
        try:
            yield
        finally:
            os.killpg(browser.pid, signal.SIGKILL)


def visit(frontend: Frontend, api: Api, profile: Path) -> dict[str, Any]:
    """Return what the page saw of the API."""
    query = urlencode({"api": api.url, "token": make_token("alice")})
    with opened(f"{frontend.origin}/?{query}", profile):
        return frontend.seen.get(timeout=PATIENCE_S)


def test_a_frontend_of_another_origin_works_with_tasks(frontend: Frontend, serve: Serve, tmp_path: Path) -> None:
    """A page of a listed origin creates, lists, completes and deletes, and can read every header that it needs."""
    with serve(cors_origins=(frontend.origin,)) as api:
        seen = visit(frontend, api, tmp_path / "profile")
    assert {name: answer["status"] for name, answer in seen.items()} == {
        "created": 201,
        "replayed": 201,
        "listed": 200,
        "next": 200,
        "known": 304,
        "completed": 200,
        "stale": 412,
        "deleted": 204,
        "gone": 404,
        "invalid": 422,
        "refused": 401,
    }
    assert seen["replayed"]["body"]["id"] == seen["created"]["body"]["id"]
    assert seen["replayed"]["headers"]["idempotency-replayed"] == "true"
    assert [task["title"] for task in seen["listed"]["body"] + seen["next"]["body"]] == ["Another", "From a browser"]
    assert seen["completed"]["body"]["completed"] is True
    assert seen["completed"]["headers"]["etag"] != seen["created"]["headers"]["etag"]
    for name in ("created", "listed", "gone", "invalid"):
        assert {"ratelimit", "ratelimit-policy", "x-trace-id"} <= seen[name]["headers"].keys(), name


def test_errors_reach_a_frontend_as_problems(frontend: Frontend, serve: Serve, tmp_path: Path) -> None:
    """Refusals, those without a user included, are readable problem+json with the code to act on."""
    with serve(cors_origins=("https://app.example.com", frontend.origin)) as api:
        seen = visit(frontend, api, tmp_path / "profile")
    codes = {"stale": "precondition_failed", "gone": "task_not_found", "invalid": "invalid_request"}
    for name, code in (codes | {"refused": "token_invalid"}).items():
        assert seen[name]["headers"]["content-type"] == "application/problem+json"
        assert seen[name]["body"]["code"] == code
        assert seen[name]["body"]["trace_id"] == seen[name]["headers"]["x-trace-id"]
    assert seen["invalid"]["body"]["errors"][0]["pointer"] == "/title"


def test_a_page_of_an_unlisted_origin_gets_nowhere(frontend: Frontend, serve: Serve, tmp_path: Path) -> None:
    """Its preflight fails, so that the browser sends nothing of what the page asked for."""
    with serve(cors_origins=("https://app.example.com",)) as api, api.client("alice") as alice:
        seen = visit(frontend, api, tmp_path / "profile")
        assert seen == {"error": "TypeError"}
        assert alice.get("/api/tasks").json() == []
