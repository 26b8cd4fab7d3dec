"""Tables that no migration of the application makes: those of the tests' entity, and of a single test."""

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
    migrations.migrate(Settings(database_url=url))
    with change_schema(url):
        migration.upgrade()
