"""The schema's history, run by Alembic."""

import logging
import re
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError, load_python_file
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from app.migrations import applied, place, reasons
from app.migrations.locks import LOCK_NOT_AVAILABLE, Patience, sqlstate_of
from app.migrations.reasons import first_line as first_line  # devtools and serving tell errors in the same way
from app.migrations.report import Report
from app.settings import Settings, SettingsError

VERSIONS = Path(__file__).parent / "versions"
MAX_FAULTS = 10  # that one line names
UNKNOWN = re.compile(r"Can't locate revision identified by '(.*)'")
STEPS = re.compile(r"[+-]\d+$")
LOCKED = {LOCK_NOT_AVAILABLE, "40P01"}  # the second: deadlock

logger = logging.getLogger(__name__)


class BrokenMigrations(RuntimeError):
    """The files in `versions` cannot be imported, or are not one line of revisions; the message is one line."""


class MigrationFailed(RuntimeError):
    """The database can't be reached, there is no such revision, or a migration failed; the message is one line."""


class Revisions(NamedTuple):
    """The revisions that this code knows: the one it was written for, and those before it."""

    head: str
    older: frozenset[str]

    def serve(self, revision: str | None) -> bool:
        """Tell whether this code can serve a schema at `revision`.

        A revision that only newer code knows is good: a rolling deployment migrates first. So a migration must leave
        the schema good for the code before it (expand now, contract a release later).
        """
        return revision is not None and revision not in self.older


def revisions() -> Revisions:
    """Return the revisions that this code knows, or raise BrokenMigrations."""
    try:
        with warnings.catch_warnings():
            # Alembic warns of an id that is there twice.
            warnings.filterwarnings("error", category=UserWarning, module=r"alembic\.script")
            script = ScriptDirectory.from_config(alembic_config())
            heads, known = script.get_heads(), {known.revision for known in script.walk_revisions()}
    except Exception as error:  # noqa: BLE001  a file that is imported may raise anything
        found = [*_find_faults()] or [reasons.name(error)]
        left_out = [f"and {len(found) - MAX_FAULTS} more"] if len(found) > MAX_FAULTS else []
        raise BrokenMigrations(f"The migrations are broken: {'; '.join(found[:MAX_FAULTS] + left_out)}") from None
    if not heads:
        raise BrokenMigrations("There is no migration in app/migrations/versions.")
    if len(heads) > 1:
        last = " and ".join(sorted(_file(script.get_revision(head)) for head in heads))
        remedy = "let the one that no database has yet name the other as its `down_revision`"
        raise BrokenMigrations(f"Only one migration can be the last: of {last}, {remedy}.")
    return Revisions(heads[0], frozenset(known) - set(heads))


def migrate(settings: Settings, revision: str = "head", *, down: bool = False, report: Report | None = None) -> None:
    """Bring the schema of the database that `settings` name up, or `down`, to `revision`; `report` keeps what is done.

    Each migration is a transaction. Where it gets no lock it is rolled back, and tried again later. On the way to
    `head`, a database that newer code has migrated stays as it is: so a rollback of the code gets on.

    Raises:
        SettingsError: they name no database, `revision` is `base` without `down`, or it is a number of steps.
        LockNotFree: a lock was not free within MIGRATE_TIMEOUT_S.
        BrokenMigrations, MigrationFailed: see these classes.
    """
    owner_url(settings)
    if revision == "base" and not down:
        raise SettingsError("`base` is the empty schema, which is below every revision: add --down.")
    if not revision or STEPS.search(revision):
        raise SettingsError("Name a revision: a number of steps would be another one at a second try.")
    revisions()
    report = report or Report()
    report.verb = "Taken back" if down else "Applied"
    patience = Patience(settings.migrate_timeout_s)
    try:
        while (waited_at := _move(settings, revision, patience, report, down=down)) is not None:
            patience.pause_before_next_try(waited_at)
    except RuntimeError as error:
        if report.done:
            error.args = (f"{str(error).removesuffix('.')}. {report}",)
        raise


def _move(settings: Settings, revision: str, patience: Patience, report: Report, *, down: bool) -> str | None:
    """Migrate. Return None, or the place where a lock was not free."""
    config = alembic_config(settings)
    config.attributes.update(patience=patience, report=report, to_head=revision == "head" and not down)
    try:
        (command.downgrade if down else command.upgrade)(config, revision)
    except Exception as raised:
        # RoleMissing, or a migration's own way to say what is wrong. Python's own kinds say nothing.
        if isinstance(raised, RuntimeError) and not isinstance(raised, (NotImplementedError, RecursionError)):
            raise
        error = _first_error(raised)
        if sqlstate_of(error) in LOCKED:
            return place.of_error(error)
        raise MigrationFailed(f"The schema cannot be changed: {_explain(error, revision)}") from None
    return None


def verify_applied(connection: Connection, script: ScriptDirectory, heads: Collection[str]) -> None:
    """Raise MigrationFailed if the database is at `heads` and never had a migration that stands before them."""
    skipped = applied.find_skipped(connection, script, heads)
    if not skipped:
        return
    last, names = skipped[0], " and ".join(_file(step) for step in reversed(skipped))
    here = " and ".join(sorted(heads))
    raise MigrationFailed(
        f"The database is at {here}, but never had {names}, which the files put before it. If no database has"
        f" {_file(last)}, put it last: let it name {here} as its `down_revision`, and give the migration that names"
        f" {last.revision} the `down_revision` that it had. Otherwise begin with an empty database, as `make reset`"
        " does in development."
    )


def is_newer(connection: Connection, script: ScriptDirectory, heads: Collection[str]) -> bool:
    """Tell whether the database is at `heads` that only newer code knows, and warn of it: nothing is to be done.

    Raises:
        MigrationFailed: it is of another line, since it never had one of the migrations that this code knows, or of
            another application, since it has none of the tables.
    """
    if set(heads) <= {step.revision for step in script.walk_revisions()}:
        return False
    here, lacking = " and ".join(sorted(heads)), applied.find_lacking(connection, script, heads)
    if lacking:
        names = " and ".join(_file(step) for step in reversed(lacking))
        raise MigrationFailed(
            f"The database is at {here}, which this code does not know, and never had {names}: it is of another line,"
            " such as that of a branch. Deploy the code that migrated it, or name another database."
        )
    if lacking is None and not applied.has_tables(connection):
        raise MigrationFailed(
            f"The database is at {here}, which this code does not know, and has none of its tables: it is of another"
            " application. Name another database."
        )
    unsure = " Or it is of another line: SQL that was run by hand does not say." if lacking is None else ""
    written_for = " and ".join(script.get_heads())
    told = "the schema is newer than this code, at %s: this code was written for %s. Nothing is changed.%s"
    logger.warning(told, here, written_for, unsure)
    return True


def _file(step: Script | None) -> str:
    return Path(step.path).name if step else ""


def _first_error(error: Exception) -> Exception:
    """Return what ended the connection, where the error says only that it has ended."""
    if not isinstance(error, PendingRollbackError) or not isinstance(error.__context__, Exception):
        return error
    return _first_error(error.__context__.with_traceback(error.__traceback__))  # this one's has the place


def _explain(error: Exception, revision: str) -> str:
    """Return why a migration failed, its place, and what to do."""
    unknown = UNKNOWN.search(str(error)) if isinstance(error, CommandError) else None
    if unknown and unknown[1] != revision:
        return f"the database is at {unknown[1]}, which this code does not know. Newer code has migrated it."
    return reasons.explain(error) if isinstance(error, (CommandError, DBAPIError)) else reasons.name(error)


def owner_url(settings: Settings) -> str:
    """Return the URL of the database for the login that owns its tables, or raise SettingsError."""
    url = settings.database_migration_url or settings.database_url
    if url is None:
        raise SettingsError("DATABASE_URL or DATABASE_MIGRATION_URL is required to migrate.")
    return url.get_secret_value()


def alembic_config(settings: Settings | None = None) -> Config:
    """Return Alembic's configuration; env.py reads `settings` from it."""
    config = Config(toml_file=Path(__file__).parents[2] / "pyproject.toml")
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["settings"] = settings
    return config


def _find_faults() -> Iterator[str]:
    """Tell of each file that cannot be imported: Alembic stops at the first."""
    for path in sorted(VERSIONS.glob("*.py")):
        try:
            load_python_file(str(VERSIONS), path.name)
        except Exception as error:  # noqa: BLE001  a file that is imported may raise anything
            yield reasons.name(error)
