"""The server is frozen, killed or restarted: nobody waits past the deadline, and it is used again at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx

from tests.db.faults.support import (
    LATEST_S,
    OVERLOADED,
    UNAVAILABLE,
    Answer,
    alive,
    ask,
    ask_at_once,
    assert_refused,
    assert_served_again,
    assert_unhealthy,
    post,
    serving,
)
from tests.postmaster import Postmaster
from tests.support import wait_until


def test_a_frozen_server_holds_nobody_up(postmaster: Postmaster, alice: httpx.Client) -> None:
    """Connections stay open and nothing comes back: 503 at the deadline, and all is well after the thaw."""
    ask_at_once(alice, 8)
    with postmaster.freeze(), alive(alice):
        assert_refused(ask_at_once(alice, 24), UNAVAILABLE, OVERLOADED)
        assert_unhealthy(alice)
        assert_refused(ask_at_once(alice, 8), UNAVAILABLE)
    assert_served_again(alice)
    wait_until(lambda: alice.get("/health").status_code == 200, seconds=5)


def test_a_server_that_is_frozen_from_the_start_holds_nobody_up(postmaster: Postmaster, alice: httpx.Client) -> None:
    """Connecting draws on the same deadline."""
    with postmaster.freeze(), alive(alice):
        assert_refused(ask_at_once(alice, 12), UNAVAILABLE, OVERLOADED)
    assert_served_again(alice)


def test_a_killed_server_is_refused_and_missed_no_longer_than_it_is_away(
    postmaster: Postmaster, alice: httpx.Client
) -> None:
    """After kill -9 every answer is a 503 in time; the first request after the restart is served."""
    ask_at_once(alice, 8)
    postmaster.kill()
    with alive(alice):
        for answer in ask_at_once(alice, 24):  # a child of the dead server may still serve its connection once
            assert answer.status in {200, 201, 503}
            assert answer.seconds < LATEST_S
        wait_until(lambda: ask(alice).status == 503)
        assert_refused(ask_at_once(alice, 24), UNAVAILABLE)
        assert_unhealthy(alice)
    postmaster.start()
    assert_served_again(alice)
    wait_until(lambda: alice.get("/health").status_code == 200, seconds=5)


def test_a_restart_costs_no_read(postmaster: Postmaster, alice: httpx.Client) -> None:
    """Every pooled connection is dead, and each of the first reads is served all the same."""
    ask_at_once(alice, 16)
    postmaster.stop()
    postmaster.start()
    with ThreadPoolExecutor(8) as threads:
        assert {answer.status for answer in threads.map(lambda _: ask(alice), range(16))} == {200}
    assert_served_again(alice)


def test_a_load_through_a_kill_sees_nothing_but_200_and_503(postmaster: Postmaster, alice: httpx.Client) -> None:
    """Readers and writers go on while the server is killed and started again, twice: no 500, nothing late."""
    done = Event()

    def work(call: Callable[[httpx.Client], Answer]) -> list[Answer]:
        answers = []
        while not done.is_set():
            answers.append(call(alice))
        return answers

    with ThreadPoolExecutor(4) as threads:
        workers = [threads.submit(work, call) for call in (ask, post, ask, post)]
        try:
            for _ in range(2):
                wait_until(lambda: ask(alice).status == 200)
                postmaster.kill()
                wait_until(lambda: ask(alice).status == 503)
                postmaster.start()
            wait_until(lambda: ask(alice).status == 200)
        finally:
            done.set()
        answers = [answer for worker in workers for answer in worker.result()]
    assert {(answer.status, answer.code) for answer in answers} == {(200, None), (201, None), (503, UNAVAILABLE)}
    assert max(answer.seconds for answer in answers) < LATEST_S


def test_a_read_only_server_is_read_and_refuses_writes(postmaster: Postmaster, name: str) -> None:
    """A standby that answers while a failover goes on: reads are served, a write is a 503 that changed nothing."""
    postmaster.ask(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with serving(postmaster.url(name)) as alice:
        assert_refused([post(alice)], UNAVAILABLE)
        assert "not known" not in alice.post("/api/examples", json={"title": "an example"}).json()["detail"]
        assert (ask(alice).status, alice.get("/api/examples").json()) == (200, [])
        assert alice.get("/health/ready").status_code == 200
