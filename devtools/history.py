"""What the development database went through, and whether the files in `app/migrations/versions` still say so.

The comment of the table `alembic_version` keeps a fingerprint of each migration that was applied: a file that is edited
later has another one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, inspect
from sqlalchemy.exc import OperationalError
from sqlmodel import SQLModel

from app import migrations
from app.migrations import applied
from app.migrations.applied import fingerprint
from app.settings import Settings, SettingsError

FOLDER = "app/migrations/versions"
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '3s'"  # a transaction that never ends holds nobody


class DatabaseUnavailable(RuntimeError):
    """The development database does not answer. The message is one line."""


class UncleanDatabase(RuntimeError):
    """The development database is not what the migrations make. The message is one line that says what to do."""


class History(NamedTuple):
    """The revision of a database, the migrations that led there with the newest first, and what they were."""

    revision: str | None
    applied: dict[str, Path]
    fingerprints: dict[str, str]

    def edited(self) -> str | None:
        """Return a line that names the applied migrations whose files say something else now, or None."""
        steps = [
            (number, file)
            for number, (revision, file) in enumerate(self.applied.items(), 1)
            if self.fingerprints.get(revision, fingerprint(file)) != fingerprint(file)
        ]
        if not steps:
            return None
        files = " and ".join(f"{FOLDER}/{file.name}" for _, file in reversed(steps))
        return (
            f"{files}: edited after it was applied, so the database does not have the edit."
            f" `make migrate DOWN={steps[-1][0]}` and `make migrate` apply it again, and lose the rows of what it made."
            " Or undo the edit and write another migration. Or `make reset` empties the database."
        )


def read(settings: Settings) -> History:
    """Return the history of the database that `settings` name.

    Raises:
        BrokenMigrations: see its class.
        DatabaseUnavailable, UncleanDatabase: it does not answer; no file has its revision.
    """
    migrations.revisions()
    script = ScriptDirectory.from_config(migrations.alembic_config())
    with _connect(settings) as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
        fingerprints = applied.read(connection)
    if revision and revision not in {known.revision for known in script.walk_revisions()}:
        raise UncleanDatabase(
            f"The database is at the migration {revision}, which {FOLDER} does not have: another"
            " branch may have it. `make reset` empties the database and applies those that are here."
        )
    steps = applied.line(script, [revision] if revision else [])
    return History(revision, {step.revision: Path(step.path) for step in steps}, fingerprints)


def migrate(settings: Settings, revision: str = "head", *, down: bool = False) -> History:
    """Bring the schema up, or `down`, to `revision`, and remember the files that did it. Return the new history.

    Raises:
        BrokenMigrations, MigrationFailed, SettingsError: as app.migrations.migrate.
        DatabaseUnavailable, UncleanDatabase: as `read`.
    """
    read(settings)
    migrations.migrate(settings, revision, down=down)
    return remember(settings)


def take_back(settings: Settings, down: str) -> History:
    """Take back `down` migrations, or those after the revision `down`. Return the new history; raise as `migrate`."""
    if down.isdecimal():
        before = [*read(settings).applied, "base"]
        if int(down) >= len(before):
            raise SettingsError(f"{down} migrations cannot be taken back: {len(before) - 1} are applied.")
        down = before[int(down)]
    return migrate(settings, down, down=True)


def remember(settings: Settings) -> History:
    """Keep a fingerprint of each applied migration that has none, and no others, as a run of `migrate` has done it.

    Alembic's own commands may have moved the revision without it.
    """
    history = read(settings)
    script = ScriptDirectory.from_config(migrations.alembic_config())
    with _connect(settings) as connection:
        kept = applied.keep(connection, script, [history.revision] if history.revision else [])
    return history._replace(fingerprints=kept)


def lacking(settings: Settings) -> str | None:
    """Return a line that names the tables' columns that the models have and the database does not, or None."""
    with _connect(settings) as connection:
        found = inspect(connection).get_multi_columns()
    there = {f"{table}.{column['name']}" for (_, table), columns in found.items() for column in columns}
    wanted = (f"{table.name}.{column.name}" for table in SQLModel.metadata.sorted_tables for column in table.columns)
    missing = [name for name in wanted if name not in there]
    if not missing:
        return None
    more = f" and {len(missing) - 3} more" if missing[3:] else ""
    return f'No migration makes {", ".join(missing[:3])}{more}: `make migration M="what it does"` writes one.'


@contextmanager
def _connect(settings: Settings) -> Iterator[Connection]:
    engine = create_engine(migrations.owner_url(settings), poolclass=NullPool, hide_parameters=True)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(LOCK_TIMEOUT)
            yield connection
    except OperationalError as error:
        raise DatabaseUnavailable(f"The database does not answer: {migrations.first_line(error)}") from None
