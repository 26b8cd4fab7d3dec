"""Many tasks for one user: enough to make a search slow enough to look at."""

from collections.abc import Iterator

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from app import migrations
from app.auth import Principal
from app.db import Database
from app.errors import AppError
from app.settings import Settings

BATCH = 10_000
INSERT = text(
    """
    INSERT INTO task (user_id, title, description, completed)
    SELECT :owner, 'Task ' || n, repeat('Number ' || n || ' of many; nothing to see here. ', 12), n % 50 > 0
    FROM generate_series(:first, :last) n
    """
)


class SeedFailed(RuntimeError):
    """The database refused the tasks. The message is one line."""


def seed(settings: Settings, user_id: str, tasks: int) -> Iterator[int]:
    """Insert so many tasks of a user, one in fifty not completed. Yield after each batch how many there are.

    Row-level security applies to the rows as to any other of the user's.

    Raises:
        SeedFailed: the database refused the tasks.
    """
    database = Database.from_settings(settings.model_copy(update={"database_timeout_ms": 60_000}))
    try:
        for first in range(1, tasks + 1, BATCH):
            last = min(first + BATCH - 1, tasks)
            with database.transaction(Principal(user_id)) as session:
                session.connection().execute(INSERT, {"owner": user_id, "first": first, "last": last})
            yield last
        _analyze(settings)
    except (AppError, SQLAlchemyError) as error:
        raise SeedFailed(f"The tasks cannot be stored: {migrations.first_line(error.__cause__ or error)}") from None
    finally:
        database.close()


def _analyze(settings: Settings) -> None:
    """Update the planner's statistics now. Autovacuum would do so later."""
    assert settings.database_url
    engine = create_engine(settings.database_url.get_secret_value(), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("ANALYZE task"))
