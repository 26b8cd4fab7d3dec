"""How many requests a second several processes answer, and that one more answers more."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import chain, pairwise, repeat
from threading import Event
from time import monotonic

import pytest

from tests.load import Answer, closed_loop, request
from tests.replicas.cost import a_request, cpu
from tests.replicas.service import PROCESSES, Service
from tests.replicas.users import USERS, Caller, act
from tests.support import make_token, wait_until

ServeAll = Callable[..., AbstractContextManager[Service]]

WARM, MEASURED = 500, 3000
SLEEP_S, MORE, ANSWERS = 0.08, 1.1, 200
AS_FAST_AS_ANSWERED = 1e9


def mix(service: Service) -> list[bytes]:
    """What each of 20 users sends, in the shares of docs/performance.md: 70 reads, 20 lists and 10 creations of 100."""
    requests = []
    for name in USERS:
        url = create(service, name)
        reads = [request("GET", url, make_token(name))] * 7
        lists = [request("GET", "/api/examples?limit=20", make_token(name))] * 2
        requests.append([*reads, *lists, request("POST", "/api/examples", make_token(name), b'{"title": "one"}')])
    return list(chain.from_iterable(zip(*requests, strict=True)))


def create(service: Service, name: str) -> str:
    with service.replicas[0].process.client(name) as client:
        url: str = client.post("/api/examples", json={"title": "one"}).headers["Location"]
    return url


def answer(service: Service, requests: list[bytes], number: int) -> str:
    """Let 20 users ask as fast as they are answered. Return how many are answered a second, and what one costs."""
    answers, before, began = list[Answer](), cpu(), monotonic()
    closed_loop(service.port, requests, len(USERS), lambda _: len(answers) >= number, answers)
    seconds, after = monotonic() - began, cpu()
    assert {answer.status for answer in answers} == {200, 201}
    return f"{len(answers) / seconds:.0f} requests a second; each:\n{a_request(before, after, len(answers))}"


@pytest.mark.slow
def test_how_many_requests_a_second(serve_all: ServeAll) -> None:
    """With 1, 2 and 4 processes all are answered well. How many a second is printed, and not judged.

    HAProxy, PgBouncer, PostgreSQL, Redis and the users share the cores with the processes, so on two cores a third
    process cannot answer more.
    """
    with serve_all(started=1) as service:
        requests = mix(service)
        for before, processes in pairwise((1, 1, 2, PROCESSES)):
            service.start(service.replicas[before:processes])
            answer(service, requests, WARM)
            print(f"{processes} processes: {answer(service, requests, MEASURED)}")  # noqa: T201  for docs/scale.md


@pytest.mark.slow
def test_a_fifth_process_raises_the_throughput(serve_all: ServeAll) -> None:
    """It starts under load, HAProxy finds it, and a quarter more is answered a second.

    Here a process is not bound by CPU, of which two cores have none to give: it has one connection, on which each read
    takes 80 ms of sleep. That is what waits for a database far away, or for another service, are like.
    """
    done = Event()
    with serve_all(spare=1, database_pool_size=1) as service, ThreadPoolExecutor(1) as threads:
        reads = {name: request("GET", create(service, name), make_token(name)) for name in USERS}
        service.slow_down(SLEEP_S)
        callers = [Caller(name, service.port, repeat(reads[name])) for name in USERS]
        acting = threads.submit(act, callers, AS_FAST_AS_ANSWERED, lambda _: not done.is_set())
        try:
            with_four = rate(callers)
            service.start(service.replicas[PROCESSES:])
            with_five = rate(callers)
        finally:
            done.set()
        acting.result()
    print(f"4 processes: {with_four:.1f}, 5: {with_five:.1f} reads of {SLEEP_S} s a second")  # noqa: T201  for docs/scale.md
    assert {answer.status for caller in callers for _, answer in caller.answers} == {200}
    assert with_five > MORE * with_four


def rate(callers: list[Caller]) -> float:
    """How many answers a second the users have, from now on."""
    before, began = answered(callers), monotonic()
    wait_until(lambda: answered(callers) >= before + ANSWERS, seconds=60)
    return (answered(callers) - before) / (monotonic() - began)


def answered(callers: list[Caller]) -> int:
    return sum(len(caller.answers) for caller in callers)
