"""Locks, slow statements and crowds: what is refused is refused in time, with a code of its own."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress

import httpx
import psycopg2

from tests.db.faults.support import (
    BUSY,
    NOISE_S,
    OVERLOADED,
    SLOW,
    STATEMENTS,
    UNAVAILABLE,
    alive,
    ask,
    ask_at_once,
    assert_refused,
    assert_served_again,
    post,
    serving,
)
from tests.postmaster import Postmaster


def test_a_locked_table_is_busy(postmaster: Postmaster, alice: httpx.Client, name: str) -> None:
    """Whoever needs what another transaction holds gets 503 `database_busy`, and is served once it lets go."""
    ask_at_once(alice, 2)
    with closing(postmaster.connect(name)) as other, alive(alice):
        other.cursor().execute("BEGIN; LOCK TABLE example IN ACCESS EXCLUSIVE MODE")
        assert_refused(ask_at_once(alice, 8), BUSY)
        assert alice.get("/health").status_code == 200
        other.cursor().execute("ROLLBACK")
        assert_served_again(alice)


def test_a_locked_row_is_busy_for_those_who_change_it(postmaster: Postmaster, alice: httpx.Client, name: str) -> None:
    """A row lock is nobody's business but the writer's, who is told that nothing was changed."""
    post(alice)
    with closing(postmaster.connect(name)) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; SELECT id FROM example FOR UPDATE")
        (example_id,) = cursor.fetchone()
        url = f"/api/examples/{example_id}"
        assert_refused([ask(alice, "PATCH", url, {"title": "new"}), ask(alice, "DELETE", url)], BUSY)
        assert ask(alice, "GET", url).status == 200
        other.cursor().execute("ROLLBACK")
    assert ask(alice, "PATCH", url, {"title": "new"}).status == 200


def test_a_key_that_another_transaction_holds_is_busy(postmaster: Postmaster, alice: httpx.Client, name: str) -> None:
    """A post waits for one with the same key no longer than for any lock."""
    with closing(postmaster.connect(name)) as other:
        insert = "INSERT INTO example (user_id, title, completed, idempotency_key) VALUES ('alice', '', true, 'key')"
        other.cursor().execute(f"BEGIN; {insert}")
        alice.headers["Idempotency-Key"] = "key"
        assert_refused([post(alice)], BUSY)
        other.cursor().execute("ROLLBACK")
    assert post(alice).status == 201


def test_a_slow_search_ends_on_both_sides(postmaster: Postmaster, alice: httpx.Client, name: str) -> None:
    """Past the deadline the client has its 503, and the server has given up as well."""
    post(alice)
    postmaster.ask(SLOW, name)
    assert_refused([ask(alice, "GET", "/api/examples?q=example")], UNAVAILABLE)
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
        at_once = [answer.code for answer in answers if answer.seconds < NOISE_S]
        assert (set(at_once), 0 < len(at_once) <= 28) == ({OVERLOADED}, True)
        assert [answer.code for answer in answers].count(UNAVAILABLE) >= 2  # the others waited for their threads
        postmaster.ask("DROP POLICY slow ON example", name)
        assert_served_again(alice)


def test_a_server_without_a_free_connection_is_unavailable(postmaster: Postmaster, alice: httpx.Client) -> None:
    """Others have taken every connection: 503, until one is free."""
    with alive(alice), ExitStack() as taken:
        with suppress(psycopg2.OperationalError):
            while True:
                taken.enter_context(closing(postmaster.connect("postgres", "tasks")))
        assert_refused(ask_at_once(alice, 8), UNAVAILABLE)
    assert_served_again(alice)
