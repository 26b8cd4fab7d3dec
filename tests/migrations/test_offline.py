"""The SQL of the migrations, for those who must run it by hand: it does what `migrate` does."""

import subprocess
from pathlib import Path

import pytest

from tests.migrations.support import SCHEMA
from tests.migrations.team import add_migration
from tests.postmaster import Postmaster
from tests.process import run_command

TABLE = """
texts = [sa.Column("user_id", sa.Text), sa.Column("a", sa.Text)]
op.create_table("note", sa.Column("id", sa.Integer, primary_key=True), *texts)
protect("note")
with every_row():
    op.execute("INSERT INTO note (id, user_id) VALUES (1, 'alice'), (2, 'bob')")
""".strip()
LATER = """
backfill("note", "a = '10:30 %'", where="a IS NULL")
create_index("note_a", "note", ["a"], concurrently=True)
op.alter_column("note", "a", nullable=False)
""".strip()


@pytest.mark.slow
def test_the_sql_does_what_migrate_does(copy: Path, postmaster: Postmaster, empty: str) -> None:
    """Roles, policies, backfills and indexes included."""
    add_migration(copy, TABLE, "note")
    add_migration(copy, LATER, "later", before="note")
    migrated, url = postmaster.new_database(), postmaster.url(empty)
    postmaster.ask("DROP TABLE example", migrated)
    assert run_command(["migrate"], postmaster.url(migrated), copy).returncode == 0
    written = run_command(["upgrade", "head", "--sql"], url, copy, module="alembic")
    assert written.returncode == 0, written.stderr
    limits, _, end = written.stdout.partition("CREATE INDEX CONCURRENTLY")
    assert limits.rindex("SET statement_timeout = '0'") > limits.rindex("SET statement_timeout = '15s'")
    assert "SET statement_timeout = '15s'" in end  # an index may take long, and nothing else
    psql = [str(postmaster.programs / "psql"), url.replace("+psycopg2", ""), "--set=ON_ERROR_STOP=1", "--quiet"]
    subprocess.run(psql, input=written.stdout, text=True, capture_output=True, check=True)
    rows = "SELECT id, user_id, a FROM note ORDER BY id"
    assert postmaster.ask(rows, empty) == [(1, "alice", "10:30 %"), (2, "bob", "10:30 %")]
    for question in (rows, SCHEMA):
        assert postmaster.ask(question, empty) == postmaster.ask(question, migrated)
