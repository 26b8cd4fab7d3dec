"""Many rows for one user: enough to make a search slow enough to look at."""

from collections.abc import Iterator

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError

from app import migrations
from app.auth import Principal
from app.db import Database
from app.errors import AppError
from app.settings import Settings

BATCH = 10_000
quote = postgresql.dialect().identifier_preparer.quote  # type: ignore[no-untyped-call]
INSERT = """
    INSERT INTO {table} (user_id, title, description, completed)
    SELECT :owner, 'Row ' || n, repeat('Number ' || n || ' of many; nothing to see here. ', 12), n % 50 > 0
    FROM generate_series(:first, :last) n
"""


class SeedFailed(RuntimeError):
    """The database refused the rows. The message is one line."""


def seed(settings: Settings, table: str, user_id: str, rows: int) -> Iterator[int]:
    """Insert rows of a user into `table`, one in fifty not completed. Yield after each batch how many there are.

    Row-level security applies to the rows as to any other of the user's.

    Raises:
        SeedFailed: the database refused the rows.
    """
    insert = text(INSERT.format(table=quote(table)))
    database = Database.from_settings(settings.model_copy(update={"request_deadline_ms": 60_000}))
    try:
        for first in range(1, rows + 1, BATCH):
            last = min(first + BATCH - 1, rows)
            with database.transaction(Principal(user_id)) as session:
                session.connection().execute(insert, {"owner": user_id, "first": first, "last": last})
            yield last
        _analyze(settings, table)
    except (AppError, SQLAlchemyError) as error:
        raise SeedFailed(f"The rows cannot be stored: {migrations.first_line(error.__cause__ or error)}") from None
    finally:
        database.close()


def _analyze(settings: Settings, table: str) -> None:
    """Update the planner's statistics now. Autovacuum would do so later."""
    assert settings.database_url
    engine = create_engine(settings.database_url.get_secret_value(), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"ANALYZE {quote(table)}"))
