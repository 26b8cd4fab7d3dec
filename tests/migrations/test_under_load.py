"""Users notice nothing: the schema of a large table is changed while they read and write it."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from statistics import quantiles
from time import monotonic

import pytest

from tests.load import Answer, open_loop, request
from tests.migrations.recipe import FIRST, copy_with_recipe, insert
from tests.migrations.test_recipe import MARKS, MISSED
from tests.postmaster import Postmaster
from tests.process import Process, run_command, run_process, start_command
from tests.support import make_token

ROWS, ALL_USERS, USERS = 1_000_000, 50_000, 20  # those who are there; each has 20 rows
RATE = 80  # requests a second, which leave CPU to a migration on the same machine
BASE_S, SLICE_S, LEAST_SLICES = 20, 5, 12
MAX_WAIT_MS = 250
NOISE_S = 0.025  # a p99 below it may be anything times that before
TURNS = [*[("GET", "")] * 4, *[("GET", "/api/examples")] * 2, *[("PATCH", "")] * 2, *[("POST", "/api/examples")] * 2]
WATCH = {"log_lock_waits": "on", "deadlock_timeout": f"{MAX_WAIT_MS}ms", "log_line_prefix": "[%a] "}
WAITED = re.compile(r"^\[(?!migrate\]).*still waiting for .*$", re.MULTILINE)


@pytest.fixture
def watched(durable: Postmaster) -> Iterator[Postmaster]:
    """A server that writes down each wait for a lock that is too long."""
    for name, value in WATCH.items():
        durable.ask(f"ALTER SYSTEM SET {name} = '{value}'")
    durable.ask("SELECT pg_reload_conf()")
    yield durable
    durable.ask("ALTER SYSTEM RESET ALL")


def requests() -> Iterator[bytes]:
    """What the users do in turn, for ever: four reads, two lists, two changes and two creations each."""
    tokens = [make_token(f"user-{user}") for user in range(USERS)]
    for number in count():
        user, turn = number % USERS, number // USERS
        row = f"/api/examples/{ALL_USERS * (turn * 7 % (ROWS // ALL_USERS)) + (user or ALL_USERS)}"
        method, path = TURNS[(turn + user) % len(TURNS)]
        body = b'{"title": "number %d"}' % number if method.startswith("P") else b""
        yield request(method, path or row, tokens[user], body)


def load(process: Process, sent: Iterator[bytes], seconds: float) -> list[Answer]:
    return open_loop(process.port, list(islice(sent, round(seconds * RATE))), seconds, RATE)


def p50_p99(answers: list[Answer]) -> tuple[float, float]:
    """The median and the 99th percentile, in milliseconds."""
    cuts = quantiles((answer.seconds * 1000 for answer in answers), n=100)
    return round(cuts[49], 1), round(cuts[98], 1)


@pytest.mark.slow
def test_nobody_notices_the_recipe(watched: Postmaster, empty: str, tmp_path: Path) -> None:
    """Beside 20 users a million rows get the column, its index and NOT NULL.

    No request fails, the slowest in a hundred take at most twice as long, and none waits over 250 ms for a lock.
    """
    url, copy = watched.url(empty), copy_with_recipe(tmp_path)
    assert run_command(["migrate", FIRST], url, copy).returncode == 0
    insert(watched, empty, ROWS, ALL_USERS)
    sent = requests()
    with run_process(url) as process:
        load(process, sent, SLICE_S)  # warms up
        base = load(process, sent, BASE_S)
        written, began, seconds, during = len(watched.log()), monotonic(), 0.0, list[Answer]()
        migrate = start_command(["migrate"], url, copy)
        for done in count(1):
            during += load(process, sent, SLICE_S)
            if migrate.poll() is None:
                seconds = monotonic() - began
            elif done >= LEAST_SLICES:
                break
        said = watched.log()[written:]
        base += load(process, sent, BASE_S)  # what else runs on the machine may have changed
    output, _ = migrate.communicate()
    print(f"base {p50_p99(base)}, during {p50_p99(during)} ms, {len(during)} requests, migrated in {seconds:.0f} s")  # noqa: T201  for docs/operate.md
    assert migrate.returncode == 0, output
    assert set(Counter(answer.status for answer in base + during)) == {200, 201}
    assert WAITED.findall(said) == []
    assert p50_p99(during)[1] < max(2 * p50_p99(base)[1], NOISE_S * 1000)
    assert watched.ask(MARKS, empty) == [(0, True)]
    assert watched.ask(MISSED, empty) == [(0,)]
