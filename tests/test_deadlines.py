"""Whatever happens to PostgreSQL, every request is answered in time, and the first one after it is served."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from statistics import median
from threading import Event, Thread
from time import monotonic
from typing import Any, NamedTuple

import httpx
import psycopg2
import pytest
from sqlalchemy import text

from app.auth import Principal
from app.db import Database
from app.errors import DatabaseUnavailable
from app.pool import PING_AFTER_S
from app.settings import Settings
from tests.postmaster import Postmaster
from tests.support import SECRET, UNLIMITED, running, until
from tests.wire import Wire, wire

TIMEOUT_MS = 1000
TIMEOUT_S = TIMEOUT_MS / 1000
NOISE_S = 0.5  # of a machine that does other things as well
LATEST_S = TIMEOUT_S + 0.5 + NOISE_S
PROBE_S = 2.0 + 0.5 + NOISE_S
UNAVAILABLE, BUSY, OVERLOADED = "database_unavailable", "database_busy", "overloaded"
SLOW = "CREATE POLICY slow ON task AS RESTRICTIVE USING (pg_sleep(20) IS NOT NULL)"  # a row at a time
STATEMENTS = """
    SELECT pid FROM pg_stat_activity WHERE datname = '{}' AND usename = 'tasks' AND state <> 'idle'
"""
TERMINATE = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'tasks'"


class Answer(NamedTuple):
    status: int
    code: str | None
    retry_after: str | None
    seconds: float


@pytest.fixture
def name(postmaster: Postmaster) -> str:
    return postmaster.new_database()


@pytest.fixture
def alice(postmaster: Postmaster, name: str) -> Iterator[httpx.Client]:
    with serving(postmaster.url(name)) as client:
        yield client


@contextmanager
def serving(url: str, **settings: Any) -> Iterator[httpx.Client]:
    """Serve with a short deadline, and speak for alice on as many connections as needed."""
    own: dict[str, Any] = {"database_url": url, "better_auth_secret": SECRET, "database_timeout_ms": TIMEOUT_MS}
    with running(Settings(**(own | UNLIMITED | settings))) as api, api.client("alice") as client:
        yield client


def ask(alice: httpx.Client, method: str = "GET", path: str = "/api/tasks", body: object = None) -> Answer:
    started = monotonic()
    answer = alice.request(method, path, json=body)
    code = answer.json()["code"] if answer.status_code >= 400 else None
    return Answer(answer.status_code, code, answer.headers.get("Retry-After"), monotonic() - started)


def post(alice: httpx.Client) -> Answer:
    return ask(alice, "POST", "/api/tasks", {"title": "a task"})


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
        until(lambda: len(seconds) > 5)
    finally:
        done.set()
        asking.join()
    assert median(seconds) < 0.1
    assert max(seconds) < 0.1 + NOISE_S


def assert_unhealthy(alice: httpx.Client) -> None:
    """Health and readiness say so within their own deadline, and liveness does not care."""
    for path in ("/health", "/health/ready"):
        started = monotonic()
        answer = alice.get(path)
        assert (answer.status_code, answer.json()) == (503, {"status": "unhealthy"})
        assert monotonic() - started < PROBE_S


def test_a_frozen_server_holds_nobody_up(postmaster: Postmaster, alice: httpx.Client) -> None:
    """Connections stay open and nothing comes back: 503 at the deadline, and all is well after the thaw."""
    ask_at_once(alice, 8)
    with postmaster.frozen(), alive(alice):
        assert_refused(ask_at_once(alice, 24), UNAVAILABLE)
        assert_unhealthy(alice)
        assert_refused(ask_at_once(alice, 8), UNAVAILABLE)
    assert_served_again(alice)
    until(lambda: alice.get("/health").status_code == 200, seconds=5)


def test_a_server_that_is_frozen_from_the_start_holds_nobody_up(postmaster: Postmaster, alice: httpx.Client) -> None:
    """Connecting draws on the same deadline."""
    with postmaster.frozen(), alive(alice):
        assert_refused(ask_at_once(alice, 12), UNAVAILABLE)
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
        until(lambda: ask(alice).status == 503)
        assert_refused(ask_at_once(alice, 24), UNAVAILABLE)
        assert_unhealthy(alice)
    postmaster.start()
    assert_served_again(alice)
    until(lambda: alice.get("/health").status_code == 200, seconds=5)


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
        for _ in range(2):
            until(lambda: ask(alice).status == 200)
            postmaster.kill()
            until(lambda: ask(alice).status == 503)
            postmaster.start()
        until(lambda: ask(alice).status == 200)
        done.set()
        answers = [answer for worker in workers for answer in worker.result()]
    assert {(answer.status, answer.code) for answer in answers} == {(200, None), (201, None), (503, UNAVAILABLE)}
    assert max(answer.seconds for answer in answers) < LATEST_S


def test_a_locked_table_is_busy(postmaster: Postmaster, alice: httpx.Client, name: str) -> None:
    """Whoever needs what another transaction holds gets 503 `database_busy`, and is served once it lets go."""
    ask_at_once(alice, 2)
    with closing(postmaster.connect(name)) as other, alive(alice):
        other.cursor().execute("BEGIN; LOCK TABLE task IN ACCESS EXCLUSIVE MODE")
        assert_refused(ask_at_once(alice, 8), BUSY)
        assert alice.get("/health").status_code == 200
        other.cursor().execute("ROLLBACK")
        assert_served_again(alice)


def test_a_locked_row_is_busy_for_those_who_change_it(postmaster: Postmaster, alice: httpx.Client, name: str) -> None:
    """A row lock is nobody's business but the writer's, who is told that nothing was changed."""
    post(alice)
    with closing(postmaster.connect(name)) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; SELECT id FROM task FOR UPDATE")
        (task_id,) = cursor.fetchone()
        url = f"/api/tasks/{task_id}"
        assert_refused([ask(alice, "PATCH", url, {"title": "new"}), ask(alice, "DELETE", url)], BUSY)
        assert ask(alice, "GET", url).status == 200
        other.cursor().execute("ROLLBACK")
    assert ask(alice, "PATCH", url, {"title": "new"}).status == 200


def test_a_key_that_another_transaction_holds_is_busy(postmaster: Postmaster, alice: httpx.Client, name: str) -> None:
    """A post waits for one with the same key no longer than for any lock."""
    with closing(postmaster.connect(name)) as other:
        insert = "INSERT INTO task (user_id, title, completed, idempotency_key) VALUES ('alice', '', true, 'key')"
        other.cursor().execute(f"BEGIN; {insert}")
        alice.headers["Idempotency-Key"] = "key"
        assert_refused([post(alice)], BUSY)
        other.cursor().execute("ROLLBACK")
    assert post(alice).status == 201


def test_a_write_that_is_terminated_is_unknown(postmaster: Postmaster, alice: httpx.Client, name: str) -> None:
    """Its connection ended while it waited: 503 that says its outcome is not known."""
    post(alice)
    with closing(postmaster.connect(name)) as other, ThreadPoolExecutor(1) as threads:
        other.cursor().execute("BEGIN; LOCK TABLE task")
        writing = threads.submit(alice.post, "/api/tasks", json={"title": "a task"})
        until(lambda: postmaster.ask(STATEMENTS.format(name)) != [])
        postmaster.ask(TERMINATE.format(name))
        refused = writing.result()
    assert (refused.status_code, refused.json()["code"]) == (503, UNAVAILABLE)
    assert "not known" in refused.json()["detail"]


def test_a_slow_search_ends_on_both_sides(postmaster: Postmaster, alice: httpx.Client, name: str) -> None:
    """Past the deadline the client has its 503, and the server has given up as well."""
    post(alice)
    postmaster.ask(SLOW, name)
    assert_refused([ask(alice, "GET", "/api/tasks?q=task")], UNAVAILABLE)
    assert postmaster.ask(STATEMENTS.format(name)) == []


def test_a_pool_that_is_busy_refuses_the_rest_in_time(postmaster: Postmaster, name: str) -> None:
    """All connections work on slow statements: who waits is refused at the deadline, who is one too many at once."""
    with serving(postmaster.url(name), database_pool_size=2, max_in_flight=12) as alice:
        post(alice)
        postmaster.ask(SLOW, name)
        with alive(alice), ThreadPoolExecutor(40) as threads:
            answers = list(threads.map(lambda _: ask(alice), range(40)))
            assert alice.get("/health").status_code == 200
        assert_refused(answers, UNAVAILABLE, OVERLOADED)
        assert 12 <= [answer.code for answer in answers].count(UNAVAILABLE) < 40
        assert max(answer.seconds for answer in answers if answer.code == OVERLOADED) < NOISE_S
        postmaster.ask("DROP POLICY slow ON task", name)
        assert_served_again(alice)


def test_a_server_without_a_free_connection_is_unavailable(postmaster: Postmaster, alice: httpx.Client) -> None:
    """Others have taken every connection: 503, until one is free."""
    with alive(alice), ExitStack() as taken:
        with suppress(psycopg2.OperationalError):
            while True:
                taken.enter_context(closing(postmaster.connect("postgres", "tasks")))
        assert_refused(ask_at_once(alice, 8), UNAVAILABLE)
    assert_served_again(alice)


def test_terminated_connections_cost_no_read(postmaster: Postmaster, alice: httpx.Client, name: str) -> None:
    """An administrator ends every connection, again and again: each read goes through at its second attempt."""
    for _ in range(5):
        ask_at_once(alice, 8)
        assert postmaster.ask(TERMINATE.format(name))[0][0] >= 1
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: ask(alice), range(16)))
        assert {answer.status for answer in answers} == {200}, answers


@pytest.fixture
def tapped(postmaster: Postmaster) -> Iterator[Wire]:
    with wire(postmaster.socket) as listening:
        yield listening


def test_a_connection_closed_in_its_sleep_costs_a_read_one_retry(tapped: Wire, name: str) -> None:
    """The server was suspended meanwhile: the read is sent once more, and once only."""
    with serving(tapped.url(name)) as alice:
        post(alice)
        ask(alice)
        tapped.cut()
        tapped.queries()
        assert ask(alice).status == 200
        reads = [query for query in tapped.queries() if "FROM task" in query]
        assert len(reads) == 1
        tapped.cut_after("FROM task")
        assert ask(alice).status == 200
        assert len([query for query in tapped.queries() if "FROM task" in query]) == 2


def test_a_connection_closed_in_its_sleep_costs_a_write_nothing(tapped: Wire, name: str) -> None:
    """A connection that has rested for over a second is asked whether it lives before a write is trusted to it."""
    with serving(tapped.url(name)) as alice:
        post(alice)
        rested = monotonic() + PING_AFTER_S
        tapped.cut()
        until(lambda: monotonic() > rested)
        assert post(alice).status == 201
        assert len([query for query in tapped.queries() if "INSERT INTO task" in query]) == 2


def test_a_connection_that_fell_silent_is_left_behind(tapped: Wire, name: str) -> None:
    """Something between dropped it without a word: one deadline, and the next request has another connection."""
    with serving(tapped.url(name)) as alice:
        post(alice)
        tapped.mute()
        assert_refused([ask(alice)], UNAVAILABLE)
        assert_served_again(alice)


def test_health_does_not_wait_as_long_as_requests_may(tapped: Wire, name: str) -> None:
    """A probe that hangs is over when its own time is, whatever DATABASE_TIMEOUT_MS says, and the next one succeeds."""
    with serving(tapped.url(name), database_timeout_ms=60_000) as alice:
        until(lambda: alice.get("/health").status_code == 200)
        tapped.mute()
        until(lambda: alice.get("/health").status_code == 503, seconds=2 * PROBE_S)
        until(lambda: alice.get("/health").status_code == 200, seconds=2 * PROBE_S)


def test_a_lost_answer_to_a_write_is_told_as_unknown(tapped: Wire, name: str) -> None:
    """The server did it and the client was never told: 503 that says so, no second attempt, and the key finds it."""
    with serving(tapped.url(name)) as alice:
        alice.headers["Idempotency-Key"] = "key"
        ask(alice)
        tapped.queries()
        tapped.cut_after("INSERT INTO task")
        lost = alice.post("/api/tasks", json={"title": "a task"})
        assert (lost.status_code, lost.json()["code"], lost.headers["Retry-After"]) == (503, UNAVAILABLE, "1")
        assert "not known" in lost.json()["detail"]
        assert "Idempotency-Key" in lost.json()["detail"]
        assert len([query for query in tapped.queries() if "INSERT INTO task" in query]) == 1
        again = alice.post("/api/tasks", json={"title": "a task"})
        assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
        assert len(alice.get("/api/tasks").json()) == 1


def test_a_write_that_was_never_sent_is_not_unknown(postmaster: Postmaster, name: str) -> None:
    """No connection, no doubt: the detail of a refused write says nothing of an outcome."""
    with serving(postmaster.url(name, "stranger")) as alice:
        refused = alice.post("/api/tasks", json={"title": "a task"})
        assert (refused.status_code, refused.json()["code"]) == (503, UNAVAILABLE)
        assert "not known" not in refused.json()["detail"]


@pytest.mark.parametrize("fault", ["slow", "frozen", "terminated", "lost commit"])
def test_a_transaction_keeps_its_deadline(postmaster: Postmaster, tapped: Wire, name: str, fault: str) -> None:
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
        with postmaster.frozen() if fault == "frozen" else nullcontext():
            if fault != "lost commit":
                session.connection().exec_driver_sql("SELECT pg_sleep(20)" if fault == "slow" else "SELECT 1")
    assert monotonic() - started < LATEST_S
    assert ("not known" in refused.value.detail) == (fault == "lost commit")
    assert database.execute(Principal("alice"), text("SELECT 1"), {}) == [(1,)]
    database.close()
