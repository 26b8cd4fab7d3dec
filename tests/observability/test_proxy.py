"""The stack's proxy, as HAProxy runs it, before a real process."""

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.process import ROOT, free_port, needed, run_process
from tests.programs import run_program
from tests.support import make_token, wait_until

NOT_FOUND = {
    "type": "about:blank",
    "title": "Not Found",
    "status": 404,
    "detail": "There is no such resource.",
    "code": "not_found",
}


def configuration(port: int, own: int, served: int, checked: int) -> str:
    """The stack's own, with the ports of this test and without Docker's DNS and log."""
    text = (ROOT / "observability/proxy/haproxy.cfg").read_text()
    text = re.sub(r"resolvers docker\n(?: .*\n)+", "", text).replace(" resolvers docker init-addr none", "")
    text = re.sub(r"^ *log .*$", "", text, flags=re.MULTILINE).replace("bind :8000", f"bind 127.0.0.1:{port}")
    text = text.replace("bind 127.0.0.1:8001", f"bind 127.0.0.1:{own}")
    text = re.sub(r"maxconn \d+", "maxconn 100", text)  # a machine may let no process open as many files
    server = f"server api 127.0.0.1:{served} port {checked}"
    return re.sub(r"server-template api 10 api:8000 port \d+", server, text)


@contextmanager
def proxied(folder: Path, served: int, checked: int, own: int | None = None) -> Iterator[httpx.Client]:
    """Run HAProxy before a port, until the block ends. Yield a client of it, once it has found the process ready."""
    port, file = free_port(), folder / "haproxy.cfg"
    file.write_text(configuration(port, own or free_port(), served, checked))
    command = [needed("haproxy"), "-db", "-q", "-f", str(file)]
    with run_program(command, port, "/health", Authorization=f"Bearer {make_token()}") as (_, client):
        yield client


@pytest.mark.slow
def test_it_hands_on_the_api_and_no_metrics(database_url: str, tmp_path: Path) -> None:
    """Not even where the application would answer, and however the path is written."""
    metrics_port = free_port()
    with run_process(database_url, metrics_port=metrics_port) as process:
        with proxied(tmp_path, process.port, metrics_port) as users:
            assert users.get("/api/examples").status_code == 200
        with proxied(tmp_path, metrics_port, metrics_port) as users:
            for path in ("/metrics", "/%6detrics", "/metrics?x=1"):
                refused = users.get(path)
                assert (refused.status_code, refused.headers["content-type"]) == (404, "application/problem+json")
                assert refused.json() == NOT_FOUND


@pytest.mark.slow
def test_its_own_health_is_not_that_of_the_replicas(database_url: str, tmp_path: Path) -> None:
    """It is healthy without one, and tells which addresses it has found ready, to those inside its container."""
    own, metrics_port = free_port(), free_port()

    def checks() -> list[tuple[str, str]]:
        table = httpx.get(f"http://127.0.0.1:{own}/replicas;csv").text.lstrip("# ")
        rows = csv.DictReader(table.splitlines())
        return [(row["addr"], row["check_status"]) for row in rows if row["svname"] == "api"]

    serving = run_process(database_url, metrics_port=metrics_port)
    with serving as process, proxied(tmp_path, process.port, metrics_port, own) as users:
        wait_until(lambda: checks() == [(f"127.0.0.1:{process.port}", "L7OK")], seconds=20)
        process.popen.terminate()
        wait_until(lambda: users.get("/health").status_code == 503, seconds=20)
        assert httpx.get(f"http://127.0.0.1:{own}/health").status_code == 200
        wait_until(lambda: checks()[0][1] != "L7OK", seconds=20)
