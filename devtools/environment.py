"""What development needs and production must bring itself: a secret and a database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from pydantic import SecretStr

from app.auth.development import with_secret
from app.settings import Settings
from devtools.postgres import postgres

HOME = Path(__file__).parents[1] / ".dev"


@contextmanager
def complete(settings: Settings) -> Iterator[Settings]:
    """Add a secret of this checkout and a running database to the settings, if they name none.

    Raises:
        SettingsError: ENVIRONMENT is production.
        PostgresFailed: the embedded database does not start.
    """
    settings = with_secret(settings)
    if settings.database_url is not None:
        yield settings
        return
    with postgres(HOME / "postgres", say=typer.echo, slow_query_ms=settings.slow_query_ms) as server:
        url = SecretStr(server.url())
        yield settings.model_copy(update={"database_url": url, "database_migration_url": None})


def is_embedded() -> bool:
    """Tell whether development has the embedded database, because the settings name no other."""
    return Settings.load().database_url is None
