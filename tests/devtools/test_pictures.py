"""The pictures of the pages: what is needed, and that a browser shows what a terminal wrote."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.browser import open_browser
from devtools.pictures import take_terminal
from tests.browser.frontend import BROWSER
from tests.process import ROOT, free_port

PNG = b"\x89PNG\r\n\x1a\n"
WRITTEN = (
    "\r\n  docs   http://127.0.0.1:8000/docs\r\n"
    "\x1b[33m12:00:00 WARNING slow query: SELECT example took 560.8 ms\x1b[0m\r\n"
    "12:00:00 INFO    GET /api/examples 200  596.6 ms\r\n"
)


def test_without_jaeger_a_line_says_how_to_start_one() -> None:
    """Exit code 1, before anything is started."""
    environment = {"PATH": os.environ["PATH"], "JAEGER_PORT": str(free_port())}
    command = [sys.executable, "-m", "devtools", "pictures"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "docker run" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER and os.environ.get("CI") != "true", reason="chromium is missing")
def test_the_terminal_is_shown_from_the_slow_query_on(tmp_path: Path) -> None:
    """As text of its own colour, in a window as high as the text."""
    with open_browser() as page:
        take_terminal(page, WRITTEN, tmp_path)
        lines = page.evaluate("document.querySelector('pre').innerText").splitlines()
        height = page.evaluate("[innerHeight, document.querySelector('pre').offsetHeight]")
    assert [line.split()[1] for line in lines] == ["WARNING", "INFO"]
    assert height[0] == height[1]
    assert (tmp_path / "terminal.png").read_bytes().startswith(PNG)
