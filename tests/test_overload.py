"""More than can be served: some are served in time, the others are told at once, and nobody locks the rest out."""

import os
import resource
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from threading import Thread
from time import monotonic

import pytest

from tests.load import Answer, closed_loop, open_loop, request
from tests.process import Process, run_process
from tests.support import make_token

FEW_FILES, MANY_CLIENTS = 128, 300
TICKS = os.sysconf("SC_CLK_TCK")
SECONDS = 10


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """The clients are in this process, and each is an open file."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def process(database_url: str) -> Iterator[Process]:
    with run_process(database_url) as process:
        yield process


def cpu_seconds(process: Process) -> float:
    """Return what the process has used so far (proc(5), utime and stime)."""
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def for_seconds(process: Process, requests: list[bytes], clients: int, seconds: float) -> list[Answer]:
    end, answers = monotonic() + seconds, list[Answer]()
    closed_loop(process.port, requests, clients, lambda _: monotonic() > end, answers)
    return answers


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the process's CPU time is read from /proc")
def test_three_times_the_capacity_is_survived(process: Process) -> None:
    """Sent three times what can be served, the process answers 200 or 503, and good answers keep flowing.

    Over half as many a second of CPU as at capacity: of CPU, since other work on the machine takes its share of any
    second on the wall.
    """
    with process.client() as client:
        url = client.post("/api/examples", json={"title": "an example"}).headers["Location"]
    reads = [request("GET", path, make_token()) for path in (url, "/api/examples")]
    capacity, efficiency = 0.0, 0.0
    for _ in range(2):  # the first warms up
        used, answers = cpu_seconds(process), for_seconds(process, reads, clients=16, seconds=2)
        assert {answer.status for answer in answers} == {200}
        capacity, efficiency = len(answers) / 2, len(answers) / (cpu_seconds(process) - used)

    lively: list[Answer] = []
    live = [request("GET", "/health/live", "")]
    asking = Thread(target=lambda: lively.extend(for_seconds(process, live, clients=1, seconds=SECONDS)))
    used, started = cpu_seconds(process), monotonic()
    asking.start()
    answers = open_loop(process.port, reads, SECONDS, 3 * capacity)
    used, seconds = cpu_seconds(process) - used, monotonic() - started
    asking.join()

    good = [answer for answer in answers if answer.status == 200]
    others = [answer for answer in answers if answer.status != 200]
    assert {answer.status for answer in others} == {503}, Counter(answer.head for answer in others)
    assert all(b"retry-after: 1" in answer.head.lower() for answer in others)
    assert len(good) / used > efficiency / 2
    assert len(good) / seconds > capacity / 4
    assert median(answer.seconds for answer in good) < 0.5
    assert {answer.status for answer in lively} == {200}
    assert median(answer.seconds for answer in lively) < 0.1
    assert max(answer.seconds for answer in lively) < 1


def test_more_clients_than_the_first_limit_of_files(database_url: str) -> None:
    """Each is answered, though the process was started with a limit that is lower than their number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, hard))
    with ExitStack() as stack:
        process = stack.enter_context(run_process(database_url))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        clients = [stack.enter_context(connect(process)) for _ in range(MANY_CLIENTS)]
        for client in clients:
            client.sendall(request("GET", "/health/live", ""))
        assert [client.recv(12) for client in clients] == [b"HTTP/1.1 200"] * MANY_CLIENTS


def test_bodies_that_drip_lock_nobody_out(process: Process) -> None:
    """A hundred clients send a byte now and then: they hold no place, and everybody else is served as ever."""
    head = request("POST", "/api/examples", make_token("mallory"), b"x" * 1000).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    with ExitStack() as stack, process.client() as alice:
        dripping = [stack.enter_context(connect(process)) for _ in range(100)]
        for client in dripping:
            client.sendall(head)
        for _ in range(20):
            for client in dripping:
                client.sendall(b" ")
            assert alice.post("/api/examples", json={"title": "an example"}).status_code == 201
            assert alice.get("/api/examples").status_code == 200


def test_clients_that_do_not_read_lock_nobody_out(database_url: str) -> None:
    """Answers that nobody fetches, however many and large, hold no place among the requests in flight."""
    large = {"title": "large", "description": "\N{GRINNING FACE}" * 10_000}
    with ExitStack() as stack:
        process = stack.enter_context(run_process(database_url, max_in_flight=4))
        alice, mallory = (stack.enter_context(process.client(user)) for user in ("alice", "mallory"))
        for _ in range(50):
            assert mallory.post("/api/examples", json=large).status_code == 201
        for _ in range(4):  # a few pages fill every buffer on the way
            stack.enter_context(connect(process)).sendall(request("GET", "/api/examples", make_token("mallory")) * 10)
        end, statuses = monotonic() + 3, list[int]()
        while monotonic() < end:
            statuses.append(alice.get("/api/examples").status_code)
        assert set(statuses[-20:]) == {200}, Counter(statuses)


def connect(process: Process) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", process.port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return client
