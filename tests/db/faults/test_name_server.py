"""The database's host has a name: nobody waits for the name server past the deadline."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import httpx
import pytest

from tests.db.faults.support import UNAVAILABLE, ask, assert_served_again, post
from tests.nameserver import NAME, Nameserver, asking_it
from tests.postmaster import Postmaster
from tests.process import ROOT, Process, environment, run_process
from tests.proxy import Proxy, run_proxy
from tests.support import run_server, wait_until
from tests.telemetry.scrapes import scrape

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root's own mounts and port 53"),
]
LOOK_UP_S = 10  # what libc takes by itself: two tries of five seconds


@pytest.fixture
def nameserver() -> Iterator[Nameserver]:
    with run_server(Nameserver()) as server:
        yield server


@pytest.fixture
def proxy(postmaster: Postmaster) -> Iterator[Proxy]:
    with run_proxy(postmaster.socket) as listening:
        yield listening


@pytest.fixture
def process(nameserver: Nameserver, proxy: Proxy, name: str, tmp_path: Path) -> Iterator[Process]:
    """One that knows its database by name."""
    assert not nameserver.is_silent
    with run_process(proxy.url(name, host=NAME), ROOT, asking_it(tmp_path)) as running:
        yield running


@pytest.fixture
def alice(process: Process) -> Iterator[httpx.Client]:
    with process.client() as client:
        yield client


def test_while_no_name_server_answers_the_last_address_serves(
    nameserver: Nameserver, proxy: Proxy, alice: httpx.Client
) -> None:
    """All connections are gone: reads and writes find the database where it was, and it is ready."""
    assert ask(alice).status == 200
    nameserver.is_silent = True
    for _ in range(2):
        proxy.cut()
        assert_served_again(alice)
    wait_until(lambda: alice.get("/health/ready").status_code == 200, seconds=2)


def test_a_name_that_is_gone_is_refused_at_once(
    nameserver: Nameserver, proxy: Proxy, process: Process, alice: httpx.Client
) -> None:
    """Its old address may be another's by now. The log and a metric say it. Once it is known again, all is well."""
    assert post(alice).status == 201
    nameserver.knows_name = False
    proxy.cut()
    refused = ask(alice)
    assert (refused.status, refused.code) == (503, UNAVAILABLE)
    assert refused.seconds < 1
    assert f"the database's host {NAME} cannot be looked up: " in process.output()
    assert "the database is unavailable: HostNotFound" in process.output()
    assert scrape(alice).value("db_host_lookup_failures_total") >= 1
    nameserver.knows_name = True
    assert_served_again(alice)


def test_without_a_name_server_it_says_so_and_does_not_start(
    nameserver: Nameserver, proxy: Proxy, name: str, tmp_path: Path
) -> None:
    """Within the deadline, in a line."""
    nameserver.is_silent = True
    command = [*asking_it(tmp_path), sys.executable, "-m", "app", "serve"]
    env, started = environment(proxy.url(name, host=NAME)), monotonic()
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert monotonic() - started < LOOK_UP_S
    assert ended.returncode == 1
    assert f'cannot be used: could not translate host name "{NAME}" to address: no answer in time' in ended.stderr


def test_a_look_up_of_the_key_server_does_not_hold_the_exit(
    nameserver: Nameserver, proxy: Proxy, name: str, tmp_path: Path
) -> None:
    """No name server answers: the request is refused within its time, and the process ends at SIGTERM."""
    given = {"better_auth_url": f"https://{NAME}:3000", "better_auth_secret": ""}
    with run_process(proxy.url(name), ROOT, asking_it(tmp_path), **given) as process, process.client() as alice:
        nameserver.is_silent = True
        refused = alice.get("/api/examples")
        assert (refused.status_code, refused.json()["code"]) == (503, "auth_unavailable")
        assert refused.elapsed.total_seconds() < 3
        started = monotonic()
        process.popen.terminate()
        assert process.popen.wait(LOOK_UP_S) == 0
        assert monotonic() - started < 4
