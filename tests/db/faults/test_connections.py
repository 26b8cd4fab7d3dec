"""Connections that die: a read is sent again, and a write is never."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from time import monotonic

import httpx
import pytest
from sqlalchemy import text

from app.auth import Principal
from app.db import Database, deadline
from app.db.checks import PING_AFTER_S
from app.errors import DatabaseUnavailable
from tests.db.faults.support import (
    LATEST_S,
    STATEMENTS,
    TERMINATE,
    TIMEOUT_S,
    UNAVAILABLE,
    ask,
    ask_at_once,
    assert_refused,
    assert_served_again,
    post,
    serving,
)
from tests.postmaster import Postmaster
from tests.proxy import Proxy, run_proxy
from tests.support import wait_until


def test_terminated_connections_cost_no_read(postmaster: Postmaster, alice: httpx.Client, name: str) -> None:
    """An administrator ends every connection, again and again: each read goes through at its second attempt."""
    for _ in range(5):
        ask_at_once(alice, 8)
        assert postmaster.ask(TERMINATE.format(name))[0][0] >= 1
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: ask(alice), range(16)))
        assert {answer.status for answer in answers} == {200}, answers


def test_a_session_says_whose_it_is(postmaster: Postmaster, alice: httpx.Client, name: str) -> None:
    """pg_stat_activity, and what reads it, tell the application's sessions from others of the same login."""
    ask(alice)
    names = f"SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = '{name}' AND usename = 'tasks'"
    assert postmaster.ask(names) == [("task-api",)]


@pytest.fixture
def tapped(postmaster: Postmaster) -> Iterator[Proxy]:
    with run_proxy(postmaster.socket) as listening:
        yield listening


def test_a_connection_closed_in_its_sleep_costs_a_read_one_retry(tapped: Proxy, name: str) -> None:
    """The server was suspended meanwhile: the read is sent once more, and once only."""
    with serving(tapped.url(name)) as alice:
        post(alice)
        ask(alice)
        tapped.cut()
        tapped.queries()
        assert ask(alice).status == 200
        reads = [query for query in tapped.queries() if "FROM example" in query]
        assert len(reads) == 1
        tapped.cut_after("FROM example")
        assert ask(alice).status == 200
        assert len([query for query in tapped.queries() if "FROM example" in query]) == 2


def test_a_connection_closed_in_its_sleep_costs_a_write_nothing(tapped: Proxy, name: str) -> None:
    """A connection that has rested for over a second is asked whether it lives before a write is trusted to it."""
    with serving(tapped.url(name)) as alice:
        post(alice)
        rested = monotonic() + PING_AFTER_S
        tapped.cut()
        wait_until(lambda: monotonic() > rested)
        assert post(alice).status == 201
        assert len([query for query in tapped.queries() if "INSERT INTO example" in query]) == 2


def test_a_write_that_is_terminated_is_unknown(postmaster: Postmaster, alice: httpx.Client, name: str) -> None:
    """Its connection ended while it waited: 503 that says its outcome is not known."""
    post(alice)
    with closing(postmaster.connect(name)) as other, ThreadPoolExecutor(1) as threads:
        other.cursor().execute("BEGIN; LOCK TABLE example")
        writing = threads.submit(alice.post, "/api/examples", json={"title": "an example"})
        wait_until(lambda: postmaster.ask(STATEMENTS.format(name)) != [])
        postmaster.ask(TERMINATE.format(name))
        refused = writing.result()
    assert (refused.status_code, refused.json()["code"]) == (503, UNAVAILABLE)
    assert "not known" in refused.json()["detail"]


def test_a_connection_that_fell_silent_is_left_behind(tapped: Proxy, name: str) -> None:
    """Something between dropped it without a word: one deadline, and the next request has another connection."""
    with serving(tapped.url(name)) as alice:
        post(alice)
        tapped.mute()
        assert_refused([ask(alice)], UNAVAILABLE)
        assert_served_again(alice)


def test_health_does_not_wait_as_long_as_requests_may(tapped: Proxy, name: str) -> None:
    """A probe that hangs is over when its own time is, whatever DATABASE_TIMEOUT_MS says, and the next one succeeds."""
    with serving(tapped.url(name), request_deadline_ms=60_000) as alice:
        wait_until(lambda: alice.get("/health").status_code == 200)
        tapped.mute()
        wait_until(lambda: alice.get("/health").status_code == 503)
        wait_until(lambda: alice.get("/health").status_code == 200)


def test_a_lost_answer_to_a_write_is_told_as_unknown(tapped: Proxy, name: str) -> None:
    """The server did it and the client was never told: 503 that says so, no second attempt, and the key finds it."""
    with serving(tapped.url(name)) as alice:
        alice.headers["Idempotency-Key"] = "key"
        ask(alice)
        tapped.queries()
        tapped.cut_after("INSERT INTO example")
        lost = alice.post("/api/examples", json={"title": "an example"})
        assert (lost.status_code, lost.json()["code"], lost.headers["Retry-After"]) == (503, UNAVAILABLE, "1")
        assert "not known" in lost.json()["detail"]
        assert "Idempotency-Key" in lost.json()["detail"]
        assert len([query for query in tapped.queries() if "INSERT INTO example" in query]) == 1
        again = alice.post("/api/examples", json={"title": "an example"})
        assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
        assert len(alice.get("/api/examples").json()) == 1


def test_a_write_that_was_never_sent_is_not_unknown(postmaster: Postmaster, name: str) -> None:
    """No connection, no doubt: the detail of a refused write says nothing of an outcome."""
    with serving(postmaster.url(name, "stranger")) as alice:
        refused = alice.post("/api/examples", json={"title": "an example"})
        assert (refused.status_code, refused.json()["code"]) == (503, UNAVAILABLE)
        assert "not known" not in refused.json()["detail"]


@pytest.mark.parametrize("fault", ["slow", "frozen", "terminated", "lost commit"])
def test_a_transaction_keeps_its_deadline(postmaster: Postmaster, tapped: Proxy, name: str, fault: str) -> None:
    """`transaction()` ends in time as well; where its commit was under way, its outcome is unknown."""
    database = Database(tapped.url(name), 1, TIMEOUT_S)
    database.execute(Principal("alice"), text("SELECT 1"), {})
    if fault == "lost commit":
        tapped.cut_after("^COMMIT$")
    started = monotonic()
    with pytest.raises(DatabaseUnavailable) as refused, database.transaction(Principal("alice")) as session:  # noqa: PT012
        session.connection().exec_driver_sql("SELECT 1")
        if fault == "terminated":
            postmaster.ask(TERMINATE.format(name))
        with postmaster.freeze() if fault == "frozen" else nullcontext():
            if fault != "lost commit":
                session.connection().exec_driver_sql("SELECT pg_sleep(20)" if fault == "slow" else "SELECT 1")
    assert monotonic() - started < LATEST_S
    assert ("not known" in refused.value.detail) == (fault == "lost commit")
    assert database.execute(Principal("alice"), text("SELECT 1"), {}) == [(1,)]
    database.close()


def test_a_statement_inside_a_transaction_waits_no_longer_than_the_deadline(postmaster: Postmaster, name: str) -> None:
    """The transaction holds the only connection: a statement beside it is refused when the request's time is up."""
    database = Database(postmaster.url(name), 1, 10 * TIMEOUT_S)
    alice, started = Principal("alice"), monotonic()

    def ask_beside() -> None:
        with deadline.ensure(TIMEOUT_S), database.transaction(alice) as session:
            session.connection()
            database.execute(alice, text("SELECT 1"), {})

    with pytest.raises(DatabaseUnavailable):
        ask_beside()
    assert monotonic() - started < LATEST_S
    assert database.execute(alice, text("SELECT 1"), {}) == [(1,)]
    database.close()
