"""The development tools that call an API: traffic, and the document for generators of clients."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx

from tests.support import SECRET, Api

ROOT = Path(__file__).parents[2]
LIMITS: dict[str, Any] = {"rate_limit": "100/minute", "rate_limit_unauthenticated": "20/minute"}

Serve = Callable[..., AbstractContextManager[Api]]


def app(*arguments: str, secret: str = SECRET) -> subprocess.CompletedProcess[str]:
    """Run the command line, on a wide terminal."""
    environment = os.environ | {"BETTER_AUTH_SECRET": secret, "COLUMNS": "200"}
    command = (sys.executable, "-m", "app", *arguments)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=90)


def test_traffic_meets_what_users_meet(serve: Serve) -> None:
    """Reads, writes, slow searches, conflicts and a burst over the limit come back as the contract has them."""
    with serve(**LIMITS, database_timeout_ms=20_000) as api:  # a noisy machine is not what is tested
        done = app("traffic", "--url", api.url, "--rate", "20", "--duration", "10s")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {cells[1].strip(): cells[3] for line in done.stdout.splitlines() if len(cells := line.split("│")) > 3}
    assert {"list", "read", "create", "change", "complete", "search", "slow search", "burst"} <= rows.keys()
    assert "200" in rows["slow search"]
    assert "429" in rows["burst"]
    assert ", 0 unexpected" in done.stdout


def test_traffic_tells_what_is_not_to_be_expected(serve: Serve) -> None:
    """An answer that the contract does not have for its request is counted, and the exit code says so."""
    with serve(rate_limit="90/hour") as api, api.client("archivist") as archivist:
        for number in range(80):
            archivist.post("/api/tasks", json={"title": f"{number}"}).raise_for_status()
        for _ in range(9):
            archivist.get("/api/tasks?limit=1").raise_for_status()
        done = app("traffic", "--url", api.url, "--duration", "2s")
    assert done.returncode == 1
    assert "1 x 429" in done.stdout


def test_traffic_says_what_it_lacks(serve: Serve) -> None:
    """Nobody there, another secret, a duration that is none: one line each, which says what to do."""
    nobody = app("traffic", "--url", "http://127.0.0.1:1")
    assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1)
    assert "start it with `make dev` or `make stack`" in nobody.stderr
    with serve() as api:
        stranger = app("traffic", "--url", api.url, secret="another-secret-that-the-api-does-not-know")
    assert stranger.returncode == 1
    assert "set BETTER_AUTH_SECRET" in stranger.stderr
    assert app("traffic", "--duration", "soon").returncode == 2


def test_openapi_is_what_the_api_serves(api: Api, tmp_path: Path) -> None:
    """The document is written, to a file or to the terminal, without a database."""
    served = httpx.get(f"{api.url}/openapi.json").json()
    assert json.loads(app("openapi").stdout) == served
    assert app("openapi", str(tmp_path / "openapi.json")).returncode == 0
    assert json.loads((tmp_path / "openapi.json").read_text()) == served
