"""A process is killed at once, as by a lack of memory: what it held is lost, and nothing else."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from itertools import cycle
from threading import Event
from time import monotonic
from typing import Any

import pytest

from tests.load import Answer, closed_loop, request
from tests.replicas.service import Replica, Service
from tests.replicas.users import USERS, Caller, act
from tests.support import make_token, wait_until

RATE, AROUND, HELD = 200, 300, 8  # of 12 connections of PgBouncer
WELL = {200, 201}
BODY = b'{"title": "an example"}'
LOCK = "BEGIN; SELECT FROM example WHERE id = {} FOR UPDATE"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'"


def lists_and_creations(name: str) -> Iterator[bytes]:
    token = make_token(name)
    return cycle([request("GET", "/api/examples", token), request("POST", "/api/examples", token, BODY)])


def in_progress(replica: Replica) -> int:
    return round(replica.scrape().value("http_requests_in_progress"))


@pytest.mark.slow
def test_a_killed_process_fails_what_it_held(serve_all: Callable[..., AbstractContextManager[Service]]) -> None:
    """Eight changes wait for a row, in all processes, when one of these is killed amid the steps of 20 users.

    As many changes fail as the process said that it had; the others are made when the row is free. Of the users'
    requests only those may fail that were sent before it was gone: one of each user at most. HAProxy hands all later
    ones to processes that run, before it has even found out.
    """
    done, changes = Event(), list[Answer]()
    with serve_all(request_deadline_ms=30_000) as service, ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(2))
        callers = [Caller(name, service.port, lists_and_creations(name)) for name in USERS]
        locked = stack.enter_context(closing(service.postmaster.connect(service.database)))
        change = lock_a_row(service, locked)
        changing = threads.submit(closed_loop, service.port, [change], HELD, lambda _: True, changes)
        wait_until(lambda: service.postmaster.ask(WAITING.format(service.database)) == [(HELD,)], seconds=20)
        held = [in_progress(replica) for replica in service.replicas]
        victim = service.replicas[held.index(max(held))]
        acting = threads.submit(act, callers, RATE, lambda _: not done.is_set())
        stack.callback(done.set)
        wait_for_answers(callers)
        victim.end()
        gone = monotonic()
        wait_until(lambda: victim.port not in service.ready(), seconds=20)
        wait_for_answers(callers)
        locked.cursor().execute("ROLLBACK")
        changing.result()
        done.set()
        acting.result()
    assert sum(held) == HELD
    assert Counter(answer.status == 200 for answer in changes) == {True: HELD - max(held), False: max(held)}
    failed = [(sent, caller.name) for caller in callers for sent, answer in caller.answers if answer.status not in WELL]
    assert all(sent < gone for sent, _ in failed), failed
    assert max(Counter(name for _, name in failed).values(), default=0) <= 1


def lock_a_row(service: Service, connection: Any) -> bytes:
    """Lock a row of alice. Return a request that then waits."""
    with service.replicas[0].process.client() as alice:
        url: str = alice.post("/api/examples", json={"title": "locked"}).headers["Location"]
    connection.cursor().execute(LOCK.format(url.rpartition("/")[2]))
    return request("PATCH", url, make_token(), b'{"title": "changed"}')


def wait_for_answers(callers: list[Caller]) -> None:
    """Wait until the users have had some more."""
    before = sum(len(caller.answers) for caller in callers)
    wait_until(lambda: sum(len(caller.answers) for caller in callers) > before + AROUND, seconds=60)
