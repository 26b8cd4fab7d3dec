"""Tables that no migration of the application makes: the one of the examples, and those of a single test."""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, pool

from app import migrations
from app.settings import Settings
from devtools.examples import migration


@contextmanager
def change_schema(url: str) -> Iterator[None]:
    """Let `alembic.op` and the helpers of `app.migrations` work in the database at `url`, in one transaction."""
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        yield


def migrate(url: str) -> None:
    """Bring the database at `url` to the application's schema, and add the table of the examples."""
    settings = Settings(database_url=url)
    migrations.migrate(settings)
    with change_schema(migrations.owner_url(settings)):
        migration.upgrade()
