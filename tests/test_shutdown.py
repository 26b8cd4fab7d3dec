"""A process that is told to go leaves nobody without an answer, and is gone within ten seconds."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from time import monotonic
from typing import Any

import httpx
import pytest

from tests.load import REFUSED, Answer, closed_loop, request
from tests.postmaster import Postmaster
from tests.process import Process, run_process
from tests.support import make_token, slow, wait_until
from tests.test_overload import connect

GONE_S = 10
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'"


@pytest.fixture
def process(database_url: str) -> Iterator[Process]:
    with run_process(database_url) as process:
        yield process


def assert_leaves(process: Process, seconds: float = GONE_S) -> None:
    """The process ends by itself in time, with exit code 0 and no traceback."""
    assert process.popen.wait(seconds) == 0, process.output()
    assert "Traceback" not in process.output()


def under_load(process: Process, is_last: Callable[[Answer], bool], **options: Any) -> list[Answer]:
    """Send SIGTERM amid clients, each of which goes elsewhere after an answer for which `is_last` is true."""
    body = b'{"title": "an example"}'
    requests = [request("GET", "/api/examples", make_token()), request("POST", "/api/examples", make_token(), body)]
    answers: list[Answer] = []
    with ThreadPoolExecutor(1) as threads:
        load = threads.submit(closed_loop, process.port, requests, 8, is_last, answers, **options)
        wait_until(lambda: len(answers) > 100)
        process.popen.send_signal(signal.SIGTERM)
        load.result()
    return answers


def closes(answer: Answer) -> bool:
    return b"connection: close" in answer.head.lower() or answer.status <= 0


def is_refused(answer: Answer) -> bool:
    return answer.status == REFUSED


def assert_nothing_failed(process: Process, answers: list[Answer]) -> None:
    """Every request was answered well, and each client was told to go once."""
    assert {answer.status for answer in answers} == {200, 201}
    assert len([answer for answer in answers if closes(answer)]) == 8
    assert_leaves(process)


def test_clients_that_keep_their_connection_see_no_failure(process: Process) -> None:
    """Requests in flight finish, and a connection is closed after an answer that says so, never without one."""
    assert_nothing_failed(process, under_load(process, closes))


def test_clients_that_pause_see_no_failure(process: Process) -> None:
    """A connection that rests when the signal comes is open for a moment more, until its next answer closes it."""
    assert_nothing_failed(process, under_load(process, closes, pause_s=0.1))


@pytest.mark.slow
def test_ten_loads_see_no_failure(database_url: str) -> None:
    """The same, ten times: the moment of the signal falls where it likes.

    Clients that open a connection for each request need SHUTDOWN_DELAY_S, or they may be refused before they are told.
    """
    for number in range(10):
        reconnect = bool(number % 2)
        with run_process(database_url, shutdown_delay_s=int(reconnect)) as process:
            assert_nothing_failed(process, under_load(process, closes, reconnect=reconnect))


@pytest.mark.slow
def test_clients_that_connect_at_the_end_are_not_reset(database_url: str) -> None:
    """Ten times: clients that open a connection for each request, to the end, are answered well until they are refused.

    None is reset that the kernel had queued for the process when the port closed.
    """
    for _ in range(10):
        with run_process(database_url) as process:
            answers = under_load(process, is_refused, reconnect=True)
            assert Counter(answer.status for answer in answers).keys() == {200, 201, REFUSED}
            assert_leaves(process)


def test_readiness_fails_first(database_url: str) -> None:
    """For SHUTDOWN_DELAY_S the balancer is told; who comes meanwhile is served, on a connection that then closes."""
    with run_process(database_url, shutdown_delay_s=2) as process, process.client() as client:
        assert httpx.get(f"{process.url}/health/ready").status_code == 200
        kept = client.get("/api/examples")
        process.popen.send_signal(signal.SIGTERM)
        started = monotonic()
        wait_until(lambda: client.get("/health/ready").status_code == 503, seconds=1.5)
        served = client.post("/api/examples", json={"title": "an example"})
        assert (served.status_code, served.headers["Connection"]) == (201, "close")
        assert "Connection" not in kept.headers
        assert httpx.get(f"{process.url}/health/live").status_code == 200
        assert_leaves(process)
        assert monotonic() - started > 1.9


def test_a_request_in_flight_finishes(postmaster: Postmaster) -> None:
    """It waits for a lock when the signal comes, and has its answer when the lock is free."""
    name = postmaster.new_database()
    with ExitStack() as stack:
        process = stack.enter_context(run_process(postmaster.url(name), request_deadline_ms=8000))
        client, other = stack.enter_context(process.client()), stack.enter_context(closing(postmaster.connect(name)))
        threads = stack.enter_context(ThreadPoolExecutor(1))
        other.cursor().execute("BEGIN; LOCK TABLE example")
        waiting = threads.submit(client.post, "/api/examples", json={"title": "an example"})
        wait_until(lambda: postmaster.ask(WAITING.format(name)) == [(1,)])
        process.popen.send_signal(signal.SIGTERM)
        wait_until(lambda: not process.is_listening())
        other.cursor().execute("ROLLBACK")
        assert (waiting.result().status_code, waiting.result().headers["Connection"]) == (201, "close")
        assert_leaves(process)
        assert postmaster.ask("SELECT count(*) FROM example", name) == [(1,)]


def test_a_frozen_database_does_not_keep_it(postmaster: Postmaster) -> None:
    """Requests that wait for a frozen server have their 503 at their deadline, and the process leaves."""
    with ExitStack() as stack:
        process = stack.enter_context(run_process(postmaster.url(postmaster.new_database())))
        client, threads = stack.enter_context(process.client()), stack.enter_context(ThreadPoolExecutor(4))
        assert client.get("/api/examples").status_code == 200
        stack.enter_context(postmaster.freeze())
        waiting = [threads.submit(client.get, "/api/examples") for _ in range(4)]
        assert client.get("/health/ready").status_code == 503
        process.popen.send_signal(signal.SIGTERM)
        assert {answer.result().status_code for answer in waiting} == {503}
        assert_leaves(process)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 5])
def test_nobody_keeps_it(postmaster: Postmaster, delay: int) -> None:
    """Not a database that is frozen beyond all patience, nor clients that drip, do not read, or say nothing.

    What is cut is told so, and of a write that its outcome is not known.
    """
    name = postmaster.new_database()
    with ExitStack() as stack:
        running = run_process(postmaster.url(name), request_deadline_ms=60_000, shutdown_delay_s=delay)
        process = stack.enter_context(running)
        client, threads = stack.enter_context(process.client()), stack.enter_context(ThreadPoolExecutor(3))
        for _ in range(50):
            client.post("/api/examples", json={"title": "large", "description": "x" * 10_000})
        drips, silent, reads_nothing = (stack.enter_context(connect(process)) for _ in range(3))
        drips.sendall(request("POST", "/api/examples", make_token(), b"x" * 1000)[:-999])
        silent.sendall(b"GET /api/examples HTTP/1.1\r\n")
        reads_nothing.sendall(request("GET", "/api/examples", make_token()) * 20)
        assert client.get("/api/examples").status_code == 200
        stack.enter_context(postmaster.freeze())
        reader = stack.enter_context(process.client())
        reading = threads.submit(reader.get, "/api/examples")
        writing = threads.submit(client.post, "/api/examples", json={"title": "an example"})
        probing = threads.submit(httpx.get, f"{process.url}/health/ready", timeout=30)
        assert probing.result().status_code == 503
        process.popen.send_signal(signal.SIGTERM)
        assert_leaves(process)
        assert (reading.result().status_code, writing.result().status_code) == (503, 503)
        assert "not known" not in reading.result().json()["detail"]
        assert "not known" in writing.result().json()["detail"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, slow(signal.SIGINT)])
def test_a_second_signal_does_not_wait(database_url: str, signum: signal.Signals) -> None:
    """Whoever asks twice is in a hurry: the delay for the balancer is cut short."""
    with run_process(database_url, shutdown_delay_s=5) as process:
        process.popen.send_signal(signum)
        wait_until(lambda: httpx.get(f"{process.url}/health/ready").status_code == 503)
        process.popen.send_signal(signum)
        assert_leaves(process, seconds=4)


@pytest.mark.slow
def test_who_does_not_read_does_not_keep_it(postmaster: Postmaster) -> None:
    """The answer before is not fetched, so a request that is cut cannot be told: the process leaves all the same."""
    name = postmaster.new_database()
    with ExitStack() as stack:
        process = stack.enter_context(run_process(postmaster.url(name), request_deadline_ms=60_000))
        client, reads_nothing = stack.enter_context(process.client()), stack.enter_context(connect(process))
        large = {"title": "large", "description": "\N{GRINNING FACE}" * 10_000}
        for _ in range(100):
            url = client.post("/api/examples", json=large).headers["Location"]
        other = stack.enter_context(closing(postmaster.connect(name)))
        other.cursor().execute(f"BEGIN; SELECT FROM example WHERE id = {url.rpartition('/')[2]} FOR UPDATE")
        page = request("GET", "/api/examples?limit=100", make_token())
        reads_nothing.sendall(page + request("DELETE", url, make_token()))
        wait_until(lambda: postmaster.ask(WAITING.format(name)) == [(1,)])
        process.popen.send_signal(signal.SIGTERM)
        assert_leaves(process)
