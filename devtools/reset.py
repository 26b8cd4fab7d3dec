"""Empties the embedded database, also while `make dev` serves it."""

from contextlib import closing

import psycopg2
from pydantic import SecretStr
from sqlalchemy import make_url

from app.settings import Settings, SettingsError
from devtools import history
from devtools.environment import is_embedded

DATABASE, NEXT = "tasks", "tasks_next"


def reset_database(settings: Settings) -> str | None:
    """Replace the embedded database by an empty one with all migrations. Return its revision.

    The new one is complete before the old one goes. Who is connected to the old one loses the connection.

    Raises:
        SettingsError: DATABASE_URL names another database.
        BrokenMigrations, MigrationFailed: see these classes; the old database is as it was.
    """
    if not is_embedded():
        raise SettingsError("DATABASE_URL is set, and only the embedded database is reset: `make migrate DOWN=base`.")
    assert settings.database_url
    url = make_url(settings.database_url.get_secret_value())
    superuser = url.set(drivername="postgresql", username="postgres", database="postgres")
    with closing(psycopg2.connect(superuser.render_as_string(hide_password=False))) as connection:
        connection.autocommit = True
        ask = connection.cursor().execute
        ask(f"DROP DATABASE IF EXISTS {NEXT} WITH (FORCE)")
        ask(f"CREATE DATABASE {NEXT} OWNER tasks")
        made = url.set(database=NEXT).render_as_string(hide_password=False)
        migrated = history.migrate(settings.model_copy(update={"database_url": SecretStr(made)}))
        ask(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        ask(f"ALTER DATABASE {NEXT} RENAME TO {DATABASE}")
    return migrated.revision
