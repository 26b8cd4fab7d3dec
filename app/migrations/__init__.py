"""The schema's history, run by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from app.settings import Settings, SettingsError


class MigrationFailed(RuntimeError):
    """The database can't be reached, or there is no such revision; the message is one line."""


def config(url: str | None = None, login: str | None = None) -> Config:
    """Return Alembic's configuration for the database at `url`, which `login` will serve, or its owner."""
    config = Config(toml_file=Path(__file__).parents[2] / "pyproject.toml")
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes.update(url=url, login=login)
    return config


def head() -> str:
    """Return the revision that this code was written for."""
    revision = ScriptDirectory.from_config(config()).get_current_head()
    assert revision  # there is at least the first migration
    return revision


def migrate(settings: Settings, revision: str = "head", *, down: bool = False) -> None:
    """Bring the schema of the database that `settings` name up, or `down`, to `revision`.

    Raises:
        SettingsError: they name no database.
        MigrationFailed: it can't be reached, or knows no such revision.

    """
    url = settings.database_migration_url or settings.database_url
    if url is None:
        raise SettingsError("DATABASE_URL or DATABASE_MIGRATION_URL is required to migrate.")
    login = make_url((settings.database_url or url).get_secret_value()).username
    move = command.downgrade if down else command.upgrade
    try:
        move(config(url.get_secret_value(), login), revision)
    except (CommandError, DBAPIError) as error:
        raise MigrationFailed(f"The schema cannot be changed: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """Return the first line of what the driver or Alembic says; it names host and port and no password."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
