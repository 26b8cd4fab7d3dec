"""Rows of all users, changed in batches while others read and write them."""

from contextlib import closing
from pathlib import Path

import pytest

from tests.migrations.team import LAST, add_migration
from tests.postmaster import Postmaster
from tests.process import run_command
from tests.support import slow

ROWS = """
    INSERT INTO example (user_id, title, completed) SELECT 'user ' || n % 7, 'title ' || n, true
    FROM generate_series(1, 2000) AS n
"""
FILL = """backfill("example", "description = title, version = version + 1", where="description IS NULL", batch=100)"""
DONE = (
    "SELECT count(*), count(DISTINCT user_id), min(version), max(version), bool_and(description = title) FROM example"
)
NOT_FIRST = "next.py, line 16: backfill() must come before op.execute() of line 15, because it commits by itself."
AGAIN = "backfill of example: a changed row still matches `where`, so another run would change it again."
PAUSES = "backfill of example: to pause, its login needs GRANT pg_read_all_stats."


@pytest.fixture
def database(postmaster: Postmaster) -> str:
    """The name of a migrated database with the rows of seven users."""
    name = postmaster.new_database()
    postmaster.ask(ROWS, name)
    return name


def revision(postmaster: Postmaster, database: str) -> str:
    ((found,),) = postmaster.ask("SELECT version_num FROM alembic_version", database)
    return str(found)


def test_each_row_of_each_user_is_changed_once(copy: Path, postmaster: Postmaster, database: str) -> None:
    """In many transactions of few rows. The owner sees no more rows than before."""
    add_migration(copy, FILL)
    migrated = run_command(["migrate"], postmaster.url(database), copy)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert "backfill of example: done, 2000 rows changed" in migrated.stdout
    assert postmaster.ask(DONE, database) == [(2000, 7, 2, 2, True)]
    assert postmaster.ask("SELECT count(DISTINCT xmin::text) >= 20 FROM example", database) == [(True,)]
    assert postmaster.ask("SELECT count(*) FROM example", database, "tasks") == [(0,)]
    assert revision(postmaster, database) == "next"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("""backfill("example", "title = 'x'", where="title IS NOT NULL")""", AGAIN),
        slow("""backfill("example", "title = 'x'", where="title <> 'x'", batch=0)""", "batch must be at least 1"),
        slow("""backfill("example", "title = 'x'", where="title <> 'x'", max_running=1)""", PAUSES),
        slow("""backfill("nothing", "a = 1", where="a <> 1")""", "backfill of nothing: there is no such table."),
        slow("""backfill("example", "no_such = 1", where="title <> ''")""", 'column "no_such"'),
        (f"""op.execute("DELETE FROM alembic_version WHERE false"); op.create_table("a")\n{FILL}""", NOT_FIRST),
    ],
    ids=["again", "batch", "pause", "table", "column", "first"],
)
def test_what_cannot_be_done_once_is_refused(
    copy: Path, postmaster: Postmaster, database: str, code: str, told: str
) -> None:
    """In one line, and nothing was changed."""
    add_migration(copy, code)
    refused = run_command(["migrate"], postmaster.url(database), copy)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert told in refused.stderr
    assert postmaster.ask("SELECT count(*) FROM example WHERE title = 'x' OR version > 1", database) == [(0,)]
    assert postmaster.ask("SELECT to_regclass('a')", database) == [(None,)]
    assert revision(postmaster, database) == LAST


@pytest.mark.slow
def test_a_table_without_a_primary_key_is_refused(copy: Path, postmaster: Postmaster, database: str) -> None:
    """There is no way along which to walk."""
    postmaster.ask("CREATE TABLE heap (a integer); ALTER TABLE heap OWNER TO tasks", database)
    add_migration(copy, """backfill("heap", "a = 1", where="a IS NULL")""")
    refused = run_command(["migrate"], postmaster.url(database), copy)
    assert refused.stderr == "backfill of heap: it has no primary key to walk along.\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", ["DROP POLICY maintenance ON example", "ALTER POLICY maintenance ON example TO postgres"]
)
def test_rows_out_of_reach_are_not_left_out(copy: Path, postmaster: Postmaster, database: str, change: str) -> None:
    """A table without the policy, or with that of an owner before: a line names it, and nothing is changed."""
    postmaster.ask(change, database)
    for code in (FILL, "with every_row():\n    op.execute('UPDATE example SET version = 2')"):
        add_migration(copy, code)
        refused = run_command(["migrate"], postmaster.url(database), copy)
        assert refused.stderr == "example: no policy `maintenance` is for this login, so not every row is in reach.\n"
    assert revision(postmaster, database) == LAST


@pytest.mark.slow
def test_any_key_and_any_text(copy: Path, postmaster: Postmaster, database: str) -> None:
    """A key of several columns, in a schema, under names that are words of SQL; signs that mean something elsewhere."""
    postmaster.ask(
        """CREATE SCHEMA team AUTHORIZATION tasks; CREATE TABLE team."order" ("user" uuid, day date, note text,
            PRIMARY KEY ("user", day)); ALTER TABLE team."order" OWNER TO tasks; INSERT INTO team."order"
            SELECT gen_random_uuid(), date '2026-01-01' + n % 30 FROM generate_series(1, 700) AS n""",
        database,
    )
    add_migration(copy, """backfill("team.order", "note = '100 % :of {it}'", where="note IS NULL", batch=10)""")
    migrated = run_command(["migrate"], postmaster.url(database), copy)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert postmaster.ask('SELECT DISTINCT note FROM team."order"', database) == [("100 % :of {it}",)]


@pytest.mark.slow
def test_rows_that_a_trigger_keeps_are_not_left_out(copy: Path, postmaster: Postmaster, database: str) -> None:
    """The revision does not move, and a line tells what may be the cause."""
    postmaster.ask(
        """CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
            CREATE TRIGGER keep BEFORE UPDATE ON example FOR EACH ROW WHEN (OLD.id = 7) EXECUTE FUNCTION keep()""",
        database,
    )
    add_migration(copy, FILL)
    refused = run_command(["migrate"], postmaster.url(database), copy)
    told = "backfill of example: rows that match `where` were not changed. Does a trigger keep them so?\n"
    assert (refused.returncode, refused.stderr) == (1, told)
    assert revision(postmaster, database) == LAST


@pytest.mark.slow
@pytest.mark.parametrize(
    "inside",
    [FILL, "with every_row(): pass", "op.get_context().autocommit_block().__enter__()", "op.execute('COMMIT')"],
    ids=["backfill", "nested", "autocommit", "commit"],
)
def test_rows_after_the_end_of_every_row_are_not_left_out(
    copy: Path, postmaster: Postmaster, database: str, inside: str
) -> None:
    """Where something inside of its block ended it, a line says so, and the revision does not move."""
    add_migration(copy, f"with every_row():\n    {inside}\n    op.execute('UPDATE example SET version = 9')")
    refused = run_command(["migrate"], postmaster.url(database), copy)
    assert refused.stderr.startswith("every_row() ended before its block: "), refused.stderr
    assert revision(postmaster, database) == LAST


@pytest.mark.slow
def test_who_bypasses_policies_needs_none(copy: Path, postmaster: Postmaster, database: str) -> None:
    """Every row is in reach of such a login."""
    postmaster.ask("DROP POLICY maintenance ON example", database)
    add_migration(copy, FILL)
    assert run_command(["migrate"], postmaster.url(database, "postgres"), copy).returncode == 0
    assert postmaster.ask(DONE, database) == [(2000, 7, 2, 2, True)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("timestamptz", "VALUES ('0044-03-15 BC'), ('-infinity'), ('infinity')"),
        ("date", "VALUES ('2026-01-01'), ('infinity')"),
        ("real", "SELECT n / 10.0::real FROM generate_series(1, 40) AS n"),
        ("jsonb", """VALUES ('{"a": 1}'), ('[2]'), ('null')"""),
        ("integer[]", "VALUES ('{1,2}'), ('{}')"),
    ],
)
def test_a_key_that_python_cannot_hold(copy: Path, postmaster: Postmaster, database: str, kind: str, keys: str) -> None:
    """The walk passes every key and ends. The table may be called what the statement calls its parts."""
    for name in ("batch", "changed"):
        table = f"CREATE TABLE {name} (id {kind} PRIMARY KEY, a integer); ALTER TABLE {name} OWNER TO tasks"
        postmaster.ask(f"{table}; INSERT INTO {name} {keys}", database)
    fills = (f"""backfill("{name}", "a = 1", where="a IS NULL", batch=1)""" for name in ("batch", "changed"))
    add_migration(copy, "\n".join(fills))
    migrated = run_command(["migrate"], postmaster.url(database), copy)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    left = "SELECT count(*) FROM (TABLE batch UNION ALL TABLE changed) AS filled WHERE a IS NULL"
    assert postmaster.ask(left, database) == [(0,)]


@pytest.mark.slow
def test_a_row_that_is_locked_is_done_at_the_end(copy: Path, postmaster: Postmaster, database: str) -> None:
    """The others are done meanwhile. Where the lock stays, a line says whose it is, and the next run does that row."""
    add_migration(copy, FILL)
    url = postmaster.url(database)
    with closing(postmaster.connect(database, "tasks")) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; SET LOCAL app.every_row = 'on'")
        cursor.execute("UPDATE example SET title = 'a secret' WHERE id = 1000")
        pid = other.info.backend_pid
        refused = run_command(["migrate"], url, copy, migrate_timeout_s=1)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
        assert f"no lock in 1 s (MIGRATE_TIMEOUT_S) (next.py, line 15). It is held by pid {pid}, " in refused.stderr
        assert "last statement `UPDATE example SET title = ? WHERE id = ?`. End that transaction" in refused.stderr
        assert "secret" not in refused.stderr + refused.stdout
        assert postmaster.ask("SELECT id FROM example WHERE description IS NULL", database) == [(1000,)]
        assert revision(postmaster, database) == LAST
        cursor.execute("COMMIT")
    migrated = run_command(["migrate"], url, copy)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert postmaster.ask(DONE, database) == [(2000, 7, 2, 2, True)]
