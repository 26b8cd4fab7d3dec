"""A request that is sent several times at once meets several processes, and makes one row."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import uvloop

from tests.load import CLOSING_S, Answer, Connection, request
from tests.replicas.service import Service
from tests.replicas.users import USERS
from tests.support import make_token

KEYS, AT_ONCE = 10, 4  # connections of 20 users, of which HAProxy takes 100 here
MADE = "SELECT count(*), count(DISTINCT (user_id, idempotency_key)) FROM example"


async def race(port: int, name: str) -> list[list[Answer]]:
    """Send each of the user's requests on several connections at once."""
    connections, token = [Connection(port) for _ in range(AT_ONCE)], make_token(name)
    answers = []
    for number in range(KEYS):
        sent = request("POST", "/api/examples", token, b'{"title": "one"}', [f"Idempotency-Key: key-{number}"])
        answers.append(await asyncio.gather(*(connection.send(sent) for connection in connections)))
    for connection in connections:
        connection.close()
    return answers


async def race_all(port: int) -> list[list[Answer]]:
    found = await asyncio.gather(*(race(port, name) for name in USERS))
    await asyncio.sleep(CLOSING_S)
    return [answers for of_user in found for answers in of_user]


@pytest.mark.slow
def test_a_key_makes_one_row_across_processes(serve_all: Callable[..., AbstractContextManager[Service]]) -> None:
    """20 users send each of ten requests four times at once, all with the same ten keys.

    Each has one row for each key, and its four answers name that row: one made it, the others say that they replay.
    """
    with serve_all() as service:
        races = uvloop.run(race_all(service.port))
        assert service.postmaster.ask(MADE, service.database) == [(len(USERS) * KEYS, len(USERS) * KEYS)]
        met = [replica.scrape().value("http_requests_total", method="POST") for replica in service.replicas]
    assert min(met) > 0, met
    assert {answer.status for answers in races for answer in answers} == {201}
    for answers in races:
        assert len({json.loads(answer.body)["id"] for answer in answers}) == 1
        assert sum(b"idempotency-replayed: true" in answer.head.lower() for answer in answers) == AT_ONCE - 1
    assert len({json.loads(answers[0].body)["id"] for answers in races}) == len(races)
