"""The schema's history, run by Alembic."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from traceback import extract_tb
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError, load_python_file
from sqlalchemy.exc import DBAPIError

from app.settings import Settings, SettingsError

VERSIONS = Path(__file__).parent / "versions"
MAX_FAULTS = 10  # that one line names


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
        reasons = [*_find_faults()] or [_reason(error)]
        left_out = [f"and {len(reasons) - MAX_FAULTS} more"] if len(reasons) > MAX_FAULTS else []
        raise BrokenMigrations(f"The migrations are broken: {'; '.join(reasons[:MAX_FAULTS] + left_out)}") from None
    if not heads:
        raise BrokenMigrations("There is no migration in app/migrations/versions.")
    if len(heads) > 1:
        last = " and ".join(sorted(heads))
        remedy = "let one name the other as its `down_revision`"
        raise BrokenMigrations(f"Only one migration can be the last: of {last}, {remedy}.")
    return Revisions(heads[0], frozenset(known) - set(heads))


def migrate(settings: Settings, revision: str = "head", *, down: bool = False) -> None:
    """Bring the schema of the database that `settings` name up, or `down`, to `revision`.

    Raises:
        SettingsError: they name no database, or `revision` is `base` without `down`.
        BrokenMigrations, MigrationFailed: see these classes.
    """
    owner_url(settings)
    if revision == "base" and not down:
        raise SettingsError("`base` is the empty schema, which is below every revision: add --down.")
    revisions()
    move = command.downgrade if down else command.upgrade
    try:
        move(alembic_config(settings), revision)
    except RuntimeError:  # RoleMissing, or a migration's own way to say what is wrong
        raise
    except Exception as error:  # noqa: BLE001  a migration may raise anything
        told = isinstance(error, (CommandError, DBAPIError))
        reason = f"{first_line(error)}{_place(error)}" if told else _reason(error)
        raise MigrationFailed(f"The schema cannot be changed: {reason}") from None


def owner_url(settings: Settings) -> str:
    """Return the URL of the database for the login that owns its tables, or raise SettingsError."""
    url = settings.database_migration_url or settings.database_url
    if url is None:
        raise SettingsError("DATABASE_URL or DATABASE_MIGRATION_URL is required to migrate.")
    return url.get_secret_value()


def first_line(error: BaseException) -> str:
    """Return the first line of what the driver or Alembic says; it names no password."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]


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
            yield _reason(error)


def _reason(error: Exception) -> str:
    """Return what an exception says, and the place in a migration."""
    return f"{type(error).__name__}: {first_line(error)}{_place(error)}"


def _place(error: Exception) -> str:
    """Return the file and line of the migration that raised the error, or nothing; a SyntaxError names its own."""
    frames = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).parent.name == "versions"]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
