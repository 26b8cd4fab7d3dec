"""Tables of a test's own, made by the helpers that a migration uses."""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, pool


@contextmanager
def change_schema(url: str) -> Iterator[None]:
    """Let `alembic.op` and the helpers of `app.migrations` work in the database at `url`, in one transaction."""
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        yield
