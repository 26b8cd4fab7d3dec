"""A server with the faults of code, for a drill by hand. Its database is its own, and stays in `.dev/drill`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from socket import create_server
from time import monotonic, sleep

import httpx

from app.auth.development import with_secret
from app.settings import Settings
from devtools.drill.places import ROOT, postmaster_of, psql_of, target_at
from devtools.drill.target import (
    FAULTY_CODE,
    FEW_FILES,
    PSQL,
    RESTART,
    TRACE_MEMORY,
    Change,
    Target,
    few_files,
    frozen,
    memory_traced,
)
from devtools.drill.undo import DrillFailed, run
from devtools.environment import HOME
from devtools.examples.schema import migrate
from devtools.postgres import postgres
from devtools.postgres.cluster import end_with_parent

START_S = 30.0
STATE = HOME / "drill"
LINES = HOME / "drill.jsonl"
IS_MIGRATED = "SELECT count(*) FROM pg_tables WHERE tablename = 'example'"


@contextmanager
def own(settings: Settings) -> Iterator[Target]:
    """Yield such a server. Raise DrillFailed if it does not start."""
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with postgres(STATE, durable=False) as server:
        psql = psql_of(STATE, server)
        if run([*psql, *PSQL, "-c", IS_MIGRATED]).strip() == "0":
            migrate(server.url())
        with _serving(server.url(), port, settings) as pid:
            _wait_for(pid, url)
            changes: dict[str, Change] = {
                "freeze api": frozen(pid),
                "freeze postgres": frozen(postmaster_of(server)),
                FAULTY_CODE: nullcontext,
                FEW_FILES: partial(few_files, pid),
                RESTART: nullcontext,  # it ends with the drill
                TRACE_MEMORY: partial(memory_traced, pid),
            }
            yield target_at(url, settings, psql, changes, str(LINES))


@contextmanager
def _serving(database_url: str, port: int, settings: Settings) -> Iterator[int]:
    secret = with_secret(settings).better_auth_secret
    assert secret
    own = {"DATABASE_URL": database_url, "BETTER_AUTH_SECRET": secret.get_secret_value(), "PORT": str(port)}
    command = [sys.executable, "-m", "devtools.drill", "serve"]
    with (
        LINES.open("wb") as lines,
        subprocess.Popen(  # noqa: S603  our own program
            command,
            cwd=ROOT,
            env=os.environ | own,
            stdout=lines,
            stderr=lines,
            preexec_fn=end_with_parent(os.getpid()),  # noqa: PLW1509  it makes one system call
        ) as api,
    ):
        try:
            yield api.pid
        finally:
            api.terminate()


def _wait_for(pid: int, url: str) -> None:
    end = monotonic() + START_S
    while monotonic() < end:
        try:
            httpx.get(f"{url}/health/live")
        except httpx.TransportError:
            sleep(0.1)
        else:
            return
    raise DrillFailed(f"The drill's own server, process {pid}, did not start.")
