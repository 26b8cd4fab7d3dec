"""The development tools that call an API: traffic, and the document for generators of clients."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from socket import socket
from typing import Any

import httpx
import pytest

from devtools.client import find_collection
from tests.support import SECRET, Api, slow

ROOT = Path(__file__).parents[3]
LIMITS: dict[str, Any] = {"rate_limit": "100/minute", "rate_limit_unauthenticated": "20/minute"}

Serve = Callable[..., AbstractContextManager[Api]]


def app(*arguments: str, secret: str = SECRET, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line, on a wide terminal."""
    environment = os.environ | {"BETTER_AUTH_SECRET": secret, "COLUMNS": "200"} | variables
    command = (sys.executable, "-m", "devtools.examples" if arguments[0] == "openapi" else "devtools", *arguments)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=90)


@pytest.mark.slow
def test_traffic_meets_what_users_meet(serve: Serve) -> None:
    """Reads, writes, slow searches, conflicts and a burst over the limit come back as the contract has them."""
    with serve(**LIMITS, request_deadline_ms=20_000) as api:  # a noisy machine is not what is tested
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
        collection = find_collection(api.url)
        for number in range(80):
            archivist.post(collection, json={"title": f"{number}"}).raise_for_status()
        for _ in range(9):
            archivist.get(f"{collection}?limit=1").raise_for_status()
        done = app("traffic", "--url", api.url, "--duration", "2s")
    assert done.returncode == 1
    assert "1 x 429" in done.stdout


@pytest.mark.slow
def test_traffic_says_what_it_lacks(serve: Serve) -> None:
    """Nobody there, another secret, a duration that is none: one line each, which says what to do."""
    nobody = app("traffic", "--url", "http://127.0.0.1:1")
    assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1)
    assert "start it with `make dev` or `make stack`" in nobody.stderr
    with serve() as api:
        stranger = app("traffic", "--url", api.url, secret="another-secret-that-the-api-does-not-know")
    assert stranger.returncode == 1
    assert "set BETTER_AUTH_SECRET" in stranger.stderr


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--duration", "soon", "--duration: must be seconds, or such as 90s, 5m or 1h.\n"),
        slow("--duration", "0", "--duration: must be seconds, or such as 90s, 5m or 1h.\n"),
        ("--url", "ftp:/x", "--url: must be a URL such as http://127.0.0.1:8000.\n"),
        slow("--url", "127.0.0.1:8000", "--url: must be a URL such as http://127.0.0.1:8000.\n"),
        slow("--url", "http://[x", "--url: must be a URL such as http://127.0.0.1:8000.\n"),
        slow("--url", "http://x:99999", "--url: must be a URL such as http://127.0.0.1:8000.\n"),
    ],
)
def test_traffic_says_what_it_cannot_read(option: str, value: str, message: str) -> None:
    """Exit code 2 and one line that begins with the option."""
    done = app("traffic", option, value)
    assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.slow
def test_the_slowest_traces_are_links_where_jaeger_is(api: Api) -> None:
    """Where nothing listens on its port, as under `make dev`, they are bare ids to look for in the log."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        alone = app("traffic", "--url", api.url, "--duration", "1", JAEGER_PORT=str(free.getsockname()[1]))
    seen = app("traffic", "--url", api.url, "--duration", "1", JAEGER_PORT=str(api.port))  # anything that answers
    assert re.findall(r"ms  .* (\S+ [0-9a-f]{32})$", alone.stdout, re.MULTILINE)[0].startswith("trace ")
    assert "/trace/" not in alone.stdout
    assert re.search(rf"ms  .* {api.url}/trace/[0-9a-f]{{32}}$", seen.stdout, re.MULTILINE)


@pytest.mark.slow
def test_openapi_is_what_the_api_serves(api: Api, tmp_path: Path) -> None:
    """The document is written, to a file or to the terminal, without a database."""
    served = httpx.get(f"{api.url}/openapi.json").json()
    assert json.loads(app("openapi").stdout) == served
    assert app("openapi", str(tmp_path / "openapi.json")).returncode == 0
    assert json.loads((tmp_path / "openapi.json").read_text()) == served
