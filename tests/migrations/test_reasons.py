"""What a developer reads when a migration of theirs cannot run: why, where, and what to do next."""

from pathlib import Path

import pytest

from tests.migrations.team import add_migration
from tests.postmaster import Postmaster
from tests.process import run_command, start_command
from tests.support import wait_until

ROWS = "INSERT INTO example (user_id, title, completed) VALUES ('alice', 'same', true), ('bob', 'same', true)"
RULE = """op.execute("ALTER TABLE example ADD CONSTRAINT rule CHECK (title <> 'same') NOT VALID")"""
ADD_KEY = """
op.create_table("empty", sa.Column("id", sa.BigInteger, primary_key=True))
op.create_foreign_key("other", "example", "empty", ["id"], ["id"], postgresql_not_valid=True)
"""
VALIDATE = "op.execute('ALTER TABLE example VALIDATE CONSTRAINT {}')"
COLUMN = "op.add_column('example', sa.Column('{}', sa.Text, nullable={}))"
MISTAKES = {
    "not null": (
        COLUMN.format("color", "False"),
        "contains null values",
        "fill the rows first, as docs/operate.md",
    ),
    "column is there": (COLUMN.format("title", "True"), "already exists", "another migration or somebody by hand"),
    "table is there": ("op.create_table('example', sa.Column('id', sa.Text))", "already exists", "has made it already"),
    "policy is there": ("protect('example')", "already exists", "take this step out of the migration"),
    "no column": ("op.drop_column('example', 'color')", "does not exist", "look at the spelling"),
    "no table": ("op.drop_table('exampel')", "does not exist", "that one must come before this one"),
    "no constraint": ("op.drop_constraint('nothing', 'example')", "does not exist", "look at the spelling"),
    "not unique": ("op.create_index('i', 'example', ['title'], unique=True)", "could not create", "delete those rows"),
    "no such row": (
        f"{ADD_KEY}\nwith every_row():\n    {VALIDATE.format('other')}",
        "violates foreign key",
        "a row that is not there",
    ),
    "breaks a rule": (
        f"{RULE}\n{VALIDATE.format('rule')}",
        "is violated by some row",
        "those rows by backfill()",
    ),
    "by hand": ("op.execute('CREATE INDEX CONCURRENTLY i ON example (title)')", "transaction", "use create_index()"),
    "depended on": ("op.execute('DROP FUNCTION own()')", "other objects depend on it", "drop that first"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_the_next_step(copy: Path, postmaster: Postmaster, name: str) -> None:
    """In one line, with the place in the file."""
    code, why, remedy = MISTAKES[name]
    database = postmaster.new_database()
    postmaster.ask(ROWS, database)
    if name == "depended on":
        postmaster.ask("CREATE FUNCTION own() RETURNS text RETURN 'a'; ALTER FUNCTION own() OWNER TO tasks", database)
        postmaster.ask("CREATE VIEW owned AS SELECT own()", database)
    add_migration(copy, code)
    failed = run_command(["migrate"], postmaster.url(database), copy)
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1), failed.stderr
    said, _, hint = failed.stderr.partition("; ")
    assert failed.stderr.startswith("The schema cannot be changed: "), failed.stderr
    assert why in said, failed.stderr
    assert said.endswith(")"), failed.stderr
    assert "(next.py, line " in said, failed.stderr
    assert remedy in hint, failed.stderr


@pytest.mark.slow
def test_an_exception_without_words_is_named(copy: Path, postmaster: Postmaster) -> None:
    """With its place: Python's own kinds of RuntimeError say nothing that is for a reader."""
    add_migration(copy, "raise NotImplementedError")
    failed = run_command(["migrate"], postmaster.url(postmaster.new_database()), copy)
    told = "The schema cannot be changed: NotImplementedError (next.py, line 15)\n"
    assert (failed.returncode, failed.stderr) == (1, told)


@pytest.mark.slow
def test_a_statement_that_somebody_cancelled_is_told(copy: Path, postmaster: Postmaster) -> None:
    """As that: it was not too slow."""
    database = postmaster.new_database()
    add_migration(copy, 'op.execute("LOCK TABLE example; SELECT pg_sleep(20)")')
    migrating = start_command(["migrate"], postmaster.url(database), copy)
    runs = "SELECT {} FROM pg_stat_activity WHERE query LIKE 'LOCK TABLE example; %' AND state = 'active'"
    wait_until(lambda: postmaster.ask(runs.format("count(*)")) == [(1,)], seconds=20)
    postmaster.ask(runs.format("pg_cancel_backend(pid)"))
    output, _ = migrating.communicate()
    assert (migrating.returncode, output.count("\n")) == (1, 1), output
    assert "due to user request (next.py, line 15); somebody cancelled the statement" in output
    assert "statement_timeout" not in output
