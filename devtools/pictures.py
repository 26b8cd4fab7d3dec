"""The pictures in docs/pictures/: a slow search, in the development page and terminal of the program, and in Jaeger.

The API and its PostgreSQL are started for it. A Jaeger must be there, at JAEGER_PORT and 4318 (OTLP).
"""

import io
import os
import pty
import select
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import socket

import httpx
import psycopg2
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from devtools.browser import PATIENCE_S, POLL_S, NoPicture, Page, open_browser
from devtools.client import Endpoints
from devtools.environment import HOME
from devtools.postgres import Server, postgres

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "pictures"
JAEGER = "jaegertracing/jaeger:2.20.0"
OTLP = "http://127.0.0.1:4318"
USER, TASKS, SEARCH = "alice", 200_000, "Number 800 of"
COLUMNS, WIDTH = 118, 1200
QUIET_S = 2.0  # of a terminal that has written all
TERMINAL = """<!DOCTYPE html><meta charset="utf-8"><style>
body {{ margin: 0; background: {background}; color: {foreground} }}
pre {{ margin: 0; padding: 20px 24px; font: 16px/1.45 "DejaVu Sans Mono", "Liberation Mono", monospace }}
{stylesheet}</style><pre>{code}</pre>"""
LAST = "[...document.querySelectorAll('.detail-row tr')].find(row => row.innerText.startsWith('code.function.name'))"


@dataclass(frozen=True)
class Api:
    """The API in a terminal of its own."""

    url: str
    terminal: int
    token: str

    def search(self) -> str:
        """Search the user's tasks; return the trace's id."""
        header = {"Authorization": f"Bearer {self.token}"}
        found = httpx.get(f"{self.url}/api/tasks", params={"q": SEARCH}, headers=header, timeout=PATIENCE_S)
        return str(found.raise_for_status().headers["X-Trace-Id"])

    def read_terminal(self) -> str:
        """Return what it writes, until it has been quiet for QUIET_S."""
        written = b""
        while select.select([self.terminal], [], [], QUIET_S)[0]:
            written += os.read(self.terminal, 65536)
        return written.decode()


def take_pictures(say: Callable[[str], None]) -> None:
    """Take every picture anew.

    Raises:
        NoPicture: a program or Jaeger is missing, or a page did not show what it should.
        PostgresFailed: the database did not start.

    """
    endpoints = Endpoints.load()
    jaeger = endpoints.url(endpoints.jaeger_port)
    verify_jaeger(jaeger)
    FOLDER.mkdir(exist_ok=True)
    with open_browser() as page, postgres(HOME / "pictures", say=say) as server, run_api(server) as api:
        api.read_terminal()
        trace = api.search()
        say("the page")
        take_page(page, api.url, trace, FOLDER)
        say("the terminal")
        take_terminal(page, api.read_terminal(), FOLDER)
        say("the trace")
        take_trace(page, jaeger, trace, FOLDER)


def verify_jaeger(url: str) -> None:
    """Check that a Jaeger answers.

    Raises:
        NoPicture: it does not; the message says how to start one.

    """
    with suppress(httpx.TransportError):
        httpx.get(url)
        return
    ports = "-p 127.0.0.1:16686:16686 -p 127.0.0.1:4318:4318"
    raise NoPicture(f"Nothing answers at {url}. Start a Jaeger: docker run --rm {ports} {JAEGER}")


@contextmanager
def run_api(server: Server) -> Iterator[Api]:
    """Serve with `make dev`'s command in a terminal, on a new database with many tasks of one user."""
    with closing(psycopg2.connect(server.superuser_url().replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        connection.cursor().execute("DROP DATABASE IF EXISTS pictures WITH (FORCE)")
        connection.cursor().execute("CREATE DATABASE pictures OWNER tasks")
    port = free_port()
    given = {"DATABASE_URL": server.url("pictures"), "PORT": str(port), "OTEL_EXPORTER_OTLP_ENDPOINT": OTLP}
    environment = os.environ | given
    run("devtools", "seed", USER, "--rows", str(TASKS), environment=environment)
    token = run("app", "token", USER, environment=environment).strip()
    command = [sys.executable, "-m", "devtools", "dev"]
    terminal, theirs = pty.openpty()
    with subprocess.Popen(  # noqa: S603  Python itself
        command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        try:
            yield Api(wait_for(f"http://127.0.0.1:{port}", "/health/ready"), terminal, token)
        finally:
            process.terminate()


def run(module: str, *arguments: str, environment: dict[str, str]) -> str:
    """Run a command of ours to its end; return what it wrote."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(  # noqa: S603  Python itself
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, path: str) -> str:
    """Return `url` once 200 comes from its `path`.

    Raises:
        NoPicture: it did not within PATIENCE_S.

    """
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with suppress(httpx.TransportError):
            if httpx.get(url + path).is_success:
                return url
        time.sleep(POLL_S)
    raise NoPicture(f"Nothing good came from {url}{path}.")


def take_page(page: Page, url: str, trace: str, folder: Path) -> None:
    """Show a trace in the development page: its slow statement is opened."""
    page.resize(WIDTH, 940)
    page.open(f"{url}/_dev/trace/{trace}")
    page.wait_for("document.querySelector('.plan')")
    page.save_picture(folder / "page.png")


def take_terminal(page: Page, written: str, folder: Path) -> None:
    """Show the lines of the slow search as the terminal does: its warning, and its trace as a tree."""
    lines = written.replace("\r", "").splitlines()
    first = next(number for number, line in enumerate(lines) if "slow query" in line)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi("\n".join(lines[first:]).rstrip()))
    html = console.export_html(theme=DIMMED_MONOKAI, code_format=TERMINAL)
    page.resize(WIDTH, 100)
    page.open(f"data:text/html;base64,{b64encode(html.encode()).decode()}")
    page.wait_for("document.querySelector('pre')")
    page.resize(WIDTH, page.evaluate("document.querySelector('pre').offsetHeight"))
    page.save_picture(folder / "terminal.png")


def take_trace(page: Page, jaeger: str, trace: str, folder: Path) -> None:
    """Show the trace with its slow statement opened."""
    wait_for(jaeger, f"/api/traces/{trace}")
    (found,) = httpx.get(f"{jaeger}/api/traces/{trace}").json()["data"]
    slow = next(span for span in found["spans"] if span["operationName"] == "SELECT task")
    page.resize(WIDTH, 900)
    page.open(f"{jaeger}/trace/{trace}?uiFind={slow['spanID']}")
    page.wait_for("document.querySelector('.detail-row .AccordionAttributes--header')")
    page.evaluate("document.querySelector('.detail-row .AccordionAttributes--header').click()")
    page.wait_for(LAST)
    page.evaluate(f"{LAST}.scrollIntoView({{block: 'end'}})")
    page.save_picture(folder / "trace.png")
