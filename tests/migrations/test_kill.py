"""Whatever is killed while the schema changes: the next run completes it, and no row is missed or done twice."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from subprocess import TimeoutExpired
from time import monotonic

import pytest

from tests.migrations.recipe import FIRST, copy_with_recipe, insert
from tests.migrations.test_recipe import MARKS, MISSED
from tests.postmaster import Postmaster
from tests.process import run_command, start_command
from tests.support import wait_until

ROWS, USERS, KILLS = 100_000, 1_000, 20
VERSIONS = "SELECT version, count(*) FROM example GROUP BY version"
IS_HALF_DONE = "SELECT EXISTS (SELECT FROM example WHERE version > 1)"
KILL_BACKFILL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'migrate' AND query LIKE '%backfill_batch%'
"""


@pytest.fixture
def recipe(durable: Postmaster, empty: str, tmp_path: Path) -> Path:
    """The project with the recipe, whose backfill counts; the database `empty` has the rows to fill."""
    recipe = copy_with_recipe(tmp_path, counting=True)
    assert run_command(["migrate", FIRST], durable.url(empty), recipe).returncode == 0
    insert(durable, empty, ROWS, USERS)
    return recipe


@contextmanager
def copied(postmaster: Postmaster, database: str) -> Iterator[str]:
    postmaster.ask(f"CREATE DATABASE copied TEMPLATE {database} OWNER tasks")
    yield "copied"
    postmaster.ask("DROP DATABASE copied WITH (FORCE)")


def ends_within(seconds: float, url: str, recipe: Path) -> bool:
    """Migrate, and kill it after `seconds`. Return whether it had ended before, which must be well."""
    migrate = start_command(["migrate"], url, recipe)
    try:
        output, _ = migrate.communicate(timeout=seconds)
    except TimeoutExpired:
        migrate.kill()
        migrate.communicate()
        return False
    assert migrate.returncode == 0, output
    return True


def verify_complete(postmaster: Postmaster, database: str) -> None:
    assert postmaster.ask(VERSIONS, database) == [(2, ROWS)]
    assert postmaster.ask(MISSED, database) == [(0,)]
    assert postmaster.ask(MARKS, database) == [(0, True)]


@pytest.mark.slow
def test_it_may_be_killed_at_any_moment(durable: Postmaster, empty: str, recipe: Path) -> None:
    """Twenty random moments of a run: each is followed by another try, which may be killed as well, or completes.

    Later tries have more time: on a busy machine each may take longer than the first run, and none would complete.
    """
    chance, kills = random.Random(17), 0  # noqa: S311  no secret
    with copied(durable, empty) as database:
        began = monotonic()
        assert ends_within(300, durable.url(database), recipe)
        whole = monotonic() - began
    while kills < KILLS:
        with copied(durable, empty) as database:
            tries = count(1)
            while not ends_within(chance.uniform(0, whole * (1 + next(tries) / 10)), durable.url(database), recipe):
                kills += 1
            verify_complete(durable, database)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["backend", "server"])
def test_the_server_may_be_killed(durable: Postmaster, empty: str, recipe: Path, what: str) -> None:
    """The backend of the backfill, or all of PostgreSQL: one line and exit code 1; the next run completes."""
    url = durable.url(empty)
    migrate = start_command(["migrate"], url, recipe)
    wait_until(lambda: durable.ask(IS_HALF_DONE, empty) == [(True,)], seconds=60)
    if what == "backend":
        wait_until(lambda: durable.ask(KILL_BACKFILL) == [(True,)])
    else:
        durable.kill()
        durable.start(durable=True)
    output, _ = migrate.communicate(timeout=60)
    said = [line for line in output.splitlines() if not line.startswith("{")]
    assert (migrate.returncode, len(said)) == (1, 1), output
    assert durable.ask(VERSIONS, empty) != [(2, ROWS)]
    assert ends_within(300, url, recipe)
    verify_complete(durable, empty)
