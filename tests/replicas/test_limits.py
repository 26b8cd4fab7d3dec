"""A user's budget is one budget, whichever process a request meets."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import repeat

import pytest

from tests.load import request
from tests.replicas.service import Service
from tests.replicas.users import USERS, Caller, act
from tests.support import make_token

BUDGET, SENT, RATE = 100, 150, 200


def lists(name: str) -> Iterator[bytes]:
    return repeat(request("GET", "/api/examples?limit=1", make_token(name)))


@pytest.mark.slow
def test_limits_are_exact_across_processes(serve_all: Callable[..., AbstractContextManager[Service]]) -> None:
    """Of 150 requests of each of 20 users exactly 100 pass, though each process saw only some of them."""
    with serve_all(rate_limit=f"{BUDGET}/hour") as service:
        callers = [Caller(name, service.port, lists(name)) for name in USERS]
        act(callers, RATE, lambda caller: caller.steps < SENT)
        seen = [replica.scrape() for replica in service.replicas]
    outcomes = Counter[str]()
    for outcome in ("allowed", "limited", "fallback"):
        each = [scrape.value("rate_limit_requests_total", outcome=outcome) for scrape in seen]
        outcomes[outcome] = round(sum(each))
        assert outcome != "allowed" or max(each) < len(USERS) * BUDGET / 2, each
    assert outcomes["fallback"] == 0, "Redis had no answer in 0.2 s, so processes counted for themselves"
    found = {caller.name: Counter(answer.status for _, answer in caller.answers) for caller in callers}
    assert found == {name: {200: BUDGET, 429: SENT - BUDGET} for name in USERS}
    assert outcomes["allowed"] == len(USERS) * BUDGET
