"""What is asked of an API whose PostgreSQL is in trouble, and what it may answer."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from threading import Event, Thread
from time import monotonic
from typing import Any, NamedTuple

import httpx

from app.settings import Settings
from tests.support import SECRET, UNLIMITED, run_api, wait_until

TIMEOUT_MS = 1000
TIMEOUT_S = TIMEOUT_MS / 1000
NOISE_S = 0.5  # of a machine that does other things as well
LATEST_S = TIMEOUT_S + 0.5 + NOISE_S
PROBE_S = 1.0  # the usual time-out of a probe
PROBED = ("/health", "/health/ready")
UNAVAILABLE, BUSY, OVERLOADED = "database_unavailable", "database_busy", "overloaded"
SLOW = "CREATE POLICY slow ON example AS RESTRICTIVE USING (pg_sleep(20) IS NOT NULL)"  # a row at a time
STATEMENTS = """
    SELECT pid FROM pg_stat_activity WHERE datname = '{}' AND usename = 'tasks' AND state <> 'idle'
"""
TERMINATE = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'tasks'"


class Answer(NamedTuple):
    status: int
    code: str | None
    retry_after: str | None
    seconds: float


@contextmanager
def serving(url: str, **settings: Any) -> Iterator[httpx.Client]:
    """Serve with a short deadline, and speak for alice on as many connections as needed."""
    own: dict[str, Any] = {"database_url": url, "better_auth_secret": SECRET, "request_deadline_ms": TIMEOUT_MS}
    with run_api(Settings(**(own | UNLIMITED | settings))) as api, api.client("alice") as client:
        yield client


def ask(alice: httpx.Client, method: str = "GET", path: str = "/api/examples", body: object = None) -> Answer:
    started = monotonic()
    answer = alice.request(method, path, json=body)
    code = answer.json()["code"] if answer.status_code >= 400 else None
    return Answer(answer.status_code, code, answer.headers.get("Retry-After"), monotonic() - started)


def post(alice: httpx.Client) -> Answer:
    return ask(alice, "POST", "/api/examples", {"title": "an example"})


def ask_at_once(alice: httpx.Client, number: int) -> list[Answer]:
    """Send reads and writes in turn, all at the same time."""
    with ThreadPoolExecutor(number) as threads:
        calls: list[Callable[[httpx.Client], Answer]] = [ask, post]
        return [future.result() for future in [threads.submit(calls[index % 2], alice) for index in range(number)]]


def assert_refused(answers: list[Answer], *codes: str) -> None:
    """Every answer is a 503 with one of the codes, says when to come again, and came in time."""
    for answer in answers:
        assert (answer.status, answer.code in codes, answer.retry_after) == (503, True, "1"), answer
        assert answer.seconds < LATEST_S, answer


def assert_served_again(alice: httpx.Client) -> None:
    """The first read and the first write after a recovery are served, and soon."""
    for answer in (ask(alice), post(alice)):
        assert answer.status in {200, 201}, answer
        assert answer.seconds < 2


@contextmanager
def alive(alice: httpx.Client) -> Iterator[None]:
    """Ask all the while whether the process lives: it answers at once."""
    seconds: list[float] = []
    done = Event()

    def ask_again() -> None:
        while not done.wait(0.02):
            started = monotonic()
            assert alice.get("/health/live").status_code == 200
            seconds.append(monotonic() - started)

    asking = Thread(target=ask_again)
    asking.start()
    try:
        yield
        wait_until(lambda: len(seconds) > 5)
    finally:
        done.set()
        asking.join()
    assert median(seconds) < 0.1
    assert max(seconds) < 0.1 + NOISE_S


def assert_unhealthy(alice: httpx.Client) -> None:
    """Health and readiness say so before a probe gives up, and however many ask at once."""

    def ask_health(path: str) -> None:
        started = monotonic()
        answer = alice.get(path)
        assert (answer.status_code, answer.json()) == (503, {"status": "unhealthy"})
        assert monotonic() - started < PROBE_S

    for path in PROBED:
        ask_health(path)
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask_health, PROBED * 8))
