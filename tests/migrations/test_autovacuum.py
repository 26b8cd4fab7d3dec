"""An autovacuum of the table, which may take hours: it makes way, and no request waits for that."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migrations.recipe import insert
from tests.migrations.team import add_migration
from tests.postmaster import Postmaster
from tests.process import run_command
from tests.support import wait_until

ENDLESS = """
    autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_cost_delay = 100
"""
VACUUMS = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'autovacuum: VACUUM%public.example%'"


@pytest.fixture
def vacuumed(postmaster: Postmaster) -> Iterator[str]:
    """A database whose examples are being vacuumed, for longer than any test takes."""
    database = postmaster.new_database()
    insert(postmaster, database, 20_000, 20)
    postmaster.ask("ALTER SYSTEM SET autovacuum_naptime = '1s'")
    postmaster.ask("SELECT pg_reload_conf()")
    postmaster.ask(f"ALTER TABLE example SET ({ENDLESS}); UPDATE example SET completed = NOT completed", database)
    wait_until(lambda: postmaster.ask(VACUUMS) == [(1,)], seconds=30)
    postmaster.ask("ALTER SYSTEM RESET autovacuum_naptime")  # the next one is a minute away
    postmaster.ask("SELECT pg_reload_conf()")
    yield database
    postmaster.ask(f"DROP DATABASE {database} WITH (FORCE)")


@pytest.mark.slow
def test_an_autovacuum_makes_way(copy: Path, postmaster: Postmaster, vacuumed: str) -> None:
    """PostgreSQL ends it for who waits a second; a migration's own waits are shorter than that."""
    add_migration(copy, 'op.add_column("example", sa.Column("color", sa.Text))')
    migrated = run_command(["migrate"], postmaster.url(vacuumed), copy, migrate_timeout_s=15)
    assert migrated.returncode == 0, migrated.stderr
