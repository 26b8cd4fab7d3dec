"""The stack's proxy, as HAProxy runs it, before processes of a test."""

import csv
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.process import ROOT, free_port, needed
from tests.programs import run_program
from tests.support import make_token


def configuration(port: int, own: int, served: Mapping[int, int]) -> str:
    """The stack's own, with the ports of this test and without Docker's DNS and log.

    `served` are the ports that serve, and where each is asked whether it is ready.
    """
    text = (ROOT / "observability/proxy/haproxy.cfg").read_text()
    text = re.sub(r"resolvers docker\n(?: .*\n)+", "", text).replace(" resolvers docker init-addr none", "")
    text = re.sub(r"^ *log .*$", "", text, flags=re.MULTILINE).replace("bind :8000", f"bind 127.0.0.1:{port}")
    text = text.replace("bind 127.0.0.1:8001", f"bind 127.0.0.1:{own}")
    text = re.sub(r"maxconn \d+", "maxconn 100", text)  # a machine may let no process open as many files
    lines = (f"server api{one} 127.0.0.1:{one} port {checked}" for one, checked in served.items())
    return re.sub(r"server-template api 10 api:8000 port \d+", "\n    ".join(lines), text)


@contextmanager
def proxied(folder: Path, served: Mapping[int, int], own: int | None = None) -> Iterator[httpx.Client]:
    """Run HAProxy before these ports, until the block ends. Yield a client of it, once it has found one ready."""
    port, file = free_port(), folder / "haproxy.cfg"
    file.write_text(configuration(port, own or free_port(), served))
    command = [needed("haproxy"), "-db", "-q", "-f", str(file)]
    with run_program(command, port, "/health", Authorization=f"Bearer {make_token()}") as (_, client):
        yield client


class Server(NamedTuple):
    """What HAProxy thinks of a server: whether it hands it requests, and how its last check ended."""

    status: str
    check: str


def servers(own: int) -> dict[int, Server]:
    """What HAProxy tells at the port of its `own` of each server, by the port that serves."""
    table = httpx.get(f"http://127.0.0.1:{own}/replicas;csv").text.lstrip("# ")
    rows = [row for row in csv.DictReader(table.splitlines()) if row["addr"]]
    return {int(row["addr"].rpartition(":")[2]): Server(row["status"], row["check_status"]) for row in rows}
