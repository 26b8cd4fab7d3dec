"""What processes share: a user's budget is one, and a key makes one row, whichever of them a request meets."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from itertools import repeat

import pytest
import uvloop

from tests.load import CLOSING_S, Answer, Connection, request
from tests.postmaster import Postmaster
from tests.replicas.service import Replica, Service, run_service
from tests.replicas.users import USERS, Caller, act
from tests.support import make_token

BUDGET, SENT, RATE = 100, 150, 200
KEYS, AT_ONCE = 10, 4  # on connections of 20 users, of which HAProxy takes 100 here
MADE = "SELECT count(*), count(DISTINCT (user_id, idempotency_key)) FROM example"


@pytest.fixture(scope="module")
def service(own_postgres: Postmaster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with a budget that no test is long enough to get twice."""
    own_postgres.start()
    with run_service(own_postgres, tmp_path_factory.mktemp("shared"), rate_limit=f"{BUDGET}/hour") as service:
        yield service


def lists(name: str) -> Iterator[bytes]:
    return repeat(request("GET", "/api/examples?limit=1", make_token(name)))


def counted(replica: Replica) -> Counter[str]:
    """How the limiter of a process has judged so far."""
    found = replica.scrape()
    outcomes = ("allowed", "limited", "fallback")
    return Counter({name: int(found.value("rate_limit_requests_total", outcome=name)) for name in outcomes})


@pytest.mark.slow
def test_limits_are_exact(service: Service) -> None:
    """Of 150 requests of each of 20 users exactly 100 pass, though no process saw more than a part of them."""
    before = [counted(replica) for replica in service.replicas]
    callers = [Caller(name, service.port, lists(name)) for name in USERS]
    act(callers, RATE, lambda caller: caller.steps < SENT)
    each = [counted(replica) - earlier for replica, earlier in zip(service.replicas, before, strict=True)]
    assert not any(judged["fallback"] for judged in each), "Redis took over 0.2 s, so processes counted for themselves"
    found = {caller.name: Counter(answer.status for _, answer in caller.answers) for caller in callers}
    assert found == {name: {200: BUDGET, 429: SENT - BUDGET} for name in USERS}
    assert sum(judged["allowed"] for judged in each) == len(USERS) * BUDGET
    assert max(judged["allowed"] for judged in each) < len(USERS) * BUDGET / 2


async def race(port: int, name: str) -> list[list[Answer]]:
    """Send each of a user's requests on several connections at once."""
    connections, token = [Connection(port) for _ in range(AT_ONCE)], make_token(name)
    answers = []
    for number in range(KEYS):
        sent = request("POST", "/api/examples", token, b'{"title": "one"}', [f"Idempotency-Key: key-{number}"])
        answers.append(await asyncio.gather(*(connection.send(sent) for connection in connections)))
    for connection in connections:
        connection.close()
    return answers


async def race_all(port: int) -> list[list[Answer]]:
    found = await asyncio.gather(*(race(port, f"racing_{name}") for name in USERS))
    await asyncio.sleep(CLOSING_S)
    return [answers for of_user in found for answers in of_user]


@pytest.mark.slow
def test_a_key_makes_one_row(service: Service) -> None:
    """20 users send each of ten requests four times at once, all with the same ten keys.

    Each has one row for each key, and its four answers name that row: one made it, the others say that they replay.
    """
    races = uvloop.run(race_all(service.port))
    assert service.postmaster.ask(MADE, service.database) == [(len(USERS) * KEYS, len(USERS) * KEYS)]
    assert {answer.status for answers in races for answer in answers} == {201}
    for answers in races:
        assert len({json.loads(answer.body)["id"] for answer in answers}) == 1
        assert sum(b"idempotency-replayed: true" in answer.head.lower() for answer in answers) == AT_ONCE - 1
    assert len({json.loads(answers[0].body)["id"] for answers in races}) == len(races)
    assert all(replica.scrape().value("http_requests_total", method="POST") > 0 for replica in service.replicas)
