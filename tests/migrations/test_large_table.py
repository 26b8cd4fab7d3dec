"""A backfill of a large table takes as long as it has rows."""

from pathlib import Path

import pytest

from tests.migrations.recipe import insert
from tests.migrations.team import add_migration
from tests.postmaster import Postmaster
from tests.process import run_command
from tests.support import slow

FILL = """backfill("example", "title = 'done'", where="id % 100 = 0 AND title <> 'done'")"""
READ = "SELECT seq_scan, idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'example'"
LEFT = "SELECT count(*) FROM example WHERE id % 100 = 0 AND title <> 'done'"
TIMES = 4  # where a batch ends, which rows match, which were changed, and how many were left out


@pytest.mark.parametrize("rows", [20_000, slow(2_000_000)])
def test_each_row_is_read_a_few_times(copy: Path, postmaster: Postmaster, rows: int) -> None:
    """By the index of the primary key: no batch reads the whole table, which would take the square of its size."""
    database = postmaster.new_database()
    insert(postmaster, database, rows, users=1_000)
    add_migration(copy, FILL)
    ((scans, fetched),) = postmaster.ask(READ, database)
    ended = run_command(["migrate"], postmaster.url(database), copy)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    ((scans_after, fetched_after),) = postmaster.ask(READ, database)
    assert scans_after == scans
    assert fetched_after - fetched < TIMES * rows
    assert postmaster.ask(LEFT, database) == [(0,)]
