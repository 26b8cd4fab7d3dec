"""The schema's history: there and back, what serves it, backups and data migrations."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import op
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, pool
from sqlmodel import SQLModel

from app import migrations
from app.db.roles import ROLES
from app.migrations import MigrationFailed
from app.migrations.row_security import RoleMissing, every_row
from app.serving import NotServing, verify_database
from app.settings import SettingsError
from tests.docs.pages import blocks
from tests.migrations.support import SCHEMA, settings
from tests.postmaster import Postmaster
from tests.process import run_command

COMPARED = {
    "compare_server_default": True,
    "autogenerate_plugins": ("alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"),
}
DIFFER = (
    "The models have what the migrations do not make, or the other way round."
    " Change the models, or let `make migration` write this:"
)


def test_every_step_can_be_taken_back_and_again(postmaster: Postmaster, empty: str) -> None:
    """Upgrade, downgrade and upgrade lead to the same schema; nothing is left in between but the roles."""
    url = postmaster.url(empty)
    migrations.migrate(settings(url))
    first = postmaster.ask(SCHEMA, empty)
    migrations.migrate(settings(url), "base", down=True)
    assert postmaster.ask(SCHEMA, empty) == [("",)]
    assert [postmaster.ask(f"SELECT pg_has_role('tasks', '{role}', 'SET')") for role in ROLES] == [[(True,)]] * 2
    migrations.migrate(settings(url))
    assert postmaster.ask(SCHEMA, empty) == first
    assert first != [("",)]


def test_the_models_are_what_was_migrated(postmaster: Postmaster) -> None:
    """Alembic finds no difference between the models and the schema, types, defaults, indexes and checks included."""
    engine = create_engine(postmaster.url(postmaster.new_database()), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=COMPARED)
        steps = produce_migrations(context, SQLModel.metadata).upgrade_ops
        if steps and not steps.is_empty():
            code = [line for line in render_python_code(steps).splitlines() if "###" not in line]
            pytest.fail("\n".join([DIFFER, *code]), pytrace=False)


def test_one_database_may_be_migrated_twice_at_once(postmaster: Postmaster, empty: str) -> None:
    """Two replicas that start together both end well: the second waits for the first."""
    with ThreadPoolExecutor(3) as threads:
        ended = list(threads.map(lambda _: run_command(["migrate"], postmaster.url(empty)), range(2)))
    assert [(process.returncode, process.stderr) for process in ended] == [(0, "")] * 2
    assert postmaster.ask("SELECT count(*) FROM alembic_version", empty) == [(1,)]


def test_what_cannot_be_migrated_is_told_in_a_line(postmaster: Postmaster, empty: str) -> None:
    """A server that is away, a login that nobody knows and a revision that never was: exit code 1, one line."""
    nowhere = "postgresql://tasks@127.0.0.1:1/tasks"
    unknown, owner = postmaster.url(empty, "nobody_knows"), postmaster.url(empty)
    with pytest.raises(MigrationFailed, match=r'role "nobody_knows" does not exist$'):
        migrations.migrate(settings(unknown))
    with pytest.raises(
        RoleMissing, match=r'GRANT tasks_api, tasks_admin TO "nobody_knows" WITH SET TRUE, INHERIT FALSE;$'
    ):
        migrations.migrate(settings(unknown, database_migration_url=owner))
    with pytest.raises(MigrationFailed, match=r"0099'$"):
        migrations.migrate(settings(owner), "0099")
    ended = run_command(["migrate"], nowhere)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr


@pytest.mark.parametrize("revision", ["", "-1", "+1", "head-1"])
def test_a_revision_is_named(revision: str) -> None:
    """A number of steps is refused: a second try, after a lock was not free, would begin elsewhere."""
    with pytest.raises(SettingsError, match="Name a revision"):
        migrations.migrate(settings("postgresql://nobody@127.0.0.1:1/nothing"), revision, down=True)


def test_a_schema_that_is_behind_is_not_served(postmaster: Postmaster, empty: str) -> None:
    """Serving ends with one line that names `migrate`, whether the schema is missing or at no revision."""
    url = postmaster.url(empty)
    with pytest.raises(NotServing, match=r"There is no schema: run `python -m app migrate`\.$"):
        verify_database(settings(url))
    migrations.migrate(settings(url))
    migrations.migrate(settings(url), "base", down=True)
    with pytest.raises(NotServing, match=r"schema is at None, .*: run `python -m app migrate`\.$"):
        verify_database(settings(url))


def test_a_schema_that_is_ahead_is_served(postmaster: Postmaster, caplog: pytest.LogCaptureFixture) -> None:
    """The revision is one that only newer code knows: a replica of this code still starts, and says so."""
    database = postmaster.new_database()
    postmaster.ask("UPDATE alembic_version SET version_num = '9999_next'", database)
    verify_database(settings(postmaster.url(database)))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning == f"the schema is ahead, at 9999_next: this code was written for {migrations.revisions().head}"


def test_a_data_migration_reaches_every_row(postmaster: Postmaster) -> None:
    """A plain UPDATE of the owner touches nothing; within `every_row` it touches all, and policies are forced after."""
    database = postmaster.new_database()
    postmaster.ask("INSERT INTO example (user_id, title, completed) VALUES ('a', '', true), ('b', '', true)", database)
    engine = create_engine(postmaster.url(database), poolclass=pool.NullPool)
    (data_migration,) = blocks("docs/operate.md", __file__)
    update = "UPDATE example SET title = 'backfilled'"
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        assert connection.exec_driver_sql(update).rowcount == 0
        exec(data_migration.replace("task", "example"), {"every_row": every_row, "op": op})  # noqa: S102  our own page
        with every_row():
            assert connection.exec_driver_sql(update).rowcount == 2
        assert connection.exec_driver_sql(update).rowcount == 0
    assert postmaster.ask("SELECT relforcerowsecurity FROM pg_class WHERE relname = 'example'", database) == [(True,)]
