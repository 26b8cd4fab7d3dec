"""Servers of others, which tests run as they are."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import httpx

from tests.support import wait_until


@contextmanager
def run_program(
    command: Sequence[str],
    port: int,
    ready: str,
    *,
    seconds: float = 20,
    env: Mapping[str, str] | None = None,
    **headers: str,
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """Run a server until the block ends, or kill it then. Yield it and a client, once it answers 200 at `ready`."""
    with (
        subprocess.Popen(command, env=env) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client,
    ):
        try:
            wait_until(lambda: is_ready(client, ready), seconds)
            yield process, client
        finally:
            process.kill()  # which ends a frozen one as well


def is_ready(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False
