"""The real Loki with the shipped configuration, in a folder of its own.

Nobody packages it, so a test without it is skipped, in CI as well; CI takes it from its image where there is Docker.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import httpx
import pytest

from tests.observability.sources import LOKI
from tests.process import free_port
from tests.programs import run_program


@contextmanager
def loki(folder: Path) -> Iterator[httpx.Client]:
    """Run it, and ask it over HTTP."""
    if (program := which("loki")) is None:
        pytest.skip("loki is not installed")
    port = free_port()
    file = folder / "config.yaml"
    file.write_text(LOKI.read_text().replace("/loki", str(folder)))
    ports = (f"-server.http-listen-port={port}", f"-server.grpc-listen-port={free_port()}")
    command = [program, f"-config.file={file}", "-server.http-listen-address=127.0.0.1", *ports]
    with run_program(command, port, "/ready", seconds=60) as (_, client):
        yield client
