"""Steps that run beside the requests of users: outside of the migration's transaction, and so first in a migration.

Each can be killed and run again: it goes on with what is left. The revision moves when the whole migration is done.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from alembic import context, op
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, Row, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.migrations import place
from app.migrations.locks import LOCK_NOT_AVAILABLE, OFFLINE_LIMITS, Patience, sqlstate_of
from app.migrations.row_security import quote

HAS_WRITTEN = text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
CHANGES_NOTHING = re.compile(r"\s*(SELECT|SET|SHOW|RESET)\b", re.IGNORECASE)
FIRST_CHANGE = "first change"  # the place in a migration, in the `info` of its connection
FIND_INDEX = text("""
    SELECT indisvalid AS is_valid, pg_get_indexdef(indexrelid) AS definition
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE relname = :name AND indrelid = to_regclass(:table)
""")
# The server notices that this process was killed, and builds no index for nobody.
SESSION = {"statement_timeout": "0", "client_connection_check_interval": "1s"}

logger = logging.getLogger(__name__)


class NotFirst(RuntimeError):
    """Something stands before it in the migration, which would be committed without it. The message is one line."""


class IndexDiffers(RuntimeError):
    """The table has an index of this name that is another one. The message is one line."""


def watch_changes(connection: Connection) -> None:
    """Note which line of a migration is the first to change something in a transaction of `connection`."""

    def forget(_: Connection) -> None:
        connection.info.pop(FIRST_CHANGE, None)

    def note(_: Connection, __: object, statement: str, *___: object) -> None:
        if not CHANGES_NOTHING.match(statement) and (found := place.running()):
            connection.info.setdefault(FIRST_CHANGE, found)

    event.listen(connection, "begin", forget)
    event.listen(connection, "before_cursor_execute", note)


@contextmanager
def outside_transaction(**settings: str) -> Iterator[None]:
    """End the migration's transaction, in which nothing was changed, and begin another one after the block.

    Its session has `settings` meanwhile, and may be idle for long.
    """
    migration = op.get_context()
    if not migration.as_sql and op.get_bind().scalar(HAS_WRITTEN):
        raise NotFirst(_tell_order(op.get_bind().info.get(FIRST_CHANGE)))
    current_patience().stop_clock()
    with migration.autocommit_block(), _session(settings | {"idle_session_timeout": "0"}):
        yield


def _tell_order(first: place.Place | None) -> str:
    step = place.running() or place.Place("a migration", 0, "this step")
    before = f"{first.call} of line {first.line}" if first else "what changes something"
    return (
        f"{step.file}, line {step.line}: {step.call} must come before {before}, because it commits by itself."
        " Put it in a migration of its own, or first."
    )


@contextmanager
def _session(settings: dict[str, str]) -> Iterator[None]:
    for name, value in settings.items():
        op.execute(f"SET {name} = '{value}'")
    try:
        yield
    finally:
        limits = OFFLINE_LIMITS if op.get_context().as_sql else {}
        with suppress(SQLAlchemyError):  # a lost connection keeps no setting
            for name in settings:
                op.execute(f"SET {name} = '{limits[name]}'" if name in limits else f"RESET {name}")


def current_patience() -> Patience:
    """Return how long the running `migrate` still waits for locks."""
    patience: Patience = context.config.attributes["patience"]
    return patience


def create_index(name: str, table: str, columns: Sequence[Any], *, concurrently: bool = False, **options: Any) -> None:
    """Create an index, as `op.create_index` does; `concurrently`: while others write to the table.

    What a failed or killed run left of the index is dropped first. An index that such a run has built is kept.

    Raises:
        NotFirst, IndexDiffers: see these classes.
    """
    if not concurrently:
        op.create_index(name, table, columns, **options)
        return
    with _concurrently():
        schema = options.get("schema")
        found = _find(name, f"{schema}.{table}" if schema else table)
        if found and not found.is_valid:
            op.drop_index(name, table, postgresql_concurrently=True, if_exists=True, schema=schema)
        if found and found.is_valid:
            _verify_same(found.definition, name, table, columns, options)
        else:
            again = op.get_context().as_sql  # whoever runs the SQL by hand cannot be asked whether it is there
            op.create_index(name, table, columns, postgresql_concurrently=True, if_not_exists=again, **options)


def drop_index(name: str, table: str, *, concurrently: bool = False, **options: Any) -> None:
    """Drop an index, as `op.drop_index` does; `concurrently`: while others use the table. Raises NotFirst.

    One that is not there is told in the log: a run that was killed may have dropped it.
    """
    if not concurrently:
        op.drop_index(name, table, **options)
        return
    with _concurrently():
        schema = options.get("schema")
        if not op.get_context().as_sql and _find(name, f"{schema}.{table}" if schema else table) is None:
            reason = "Its name is misspelled, or an earlier run of this migration has dropped it"
            logger.warning("drop_index: %s has no index %s, so nothing is dropped. %s.", table, name, reason)
        op.drop_index(name, table, postgresql_concurrently=True, if_exists=True, **options)


def _find(index: str, table: str) -> Row[Any] | None:
    """Return what there is of an index of the table."""
    if op.get_context().as_sql:
        return None
    return op.get_bind().execute(FIND_INDEX, {"name": index, "table": quote(table)}).first()


def _verify_same(there: str, name: str, table: str, columns: Sequence[Any], options: dict[str, Any]) -> None:
    """Raise IndexDiffers if the index that is `there` is not what these arguments make of an empty table."""
    schema = options.get("schema")
    with op.get_bind().engine.connect() as connection:  # rolls back
        own, like = quote(f"pg_temp.{table}"), quote(f"{schema}.{table}" if schema else table)
        connection.exec_driver_sql(f"CREATE TABLE {own} (LIKE {like} INCLUDING GENERATED)")
        operations = Operations(MigrationContext.configure(connection))
        operations.create_index(name, table, columns, **options | {"schema": "pg_temp"})
        wanted = connection.execute(FIND_INDEX, {"name": name, "table": own}).one().definition
    if _shape(there) != _shape(wanted):
        step = place.running()
        at = f"{step.file}, line {step.line}: " if step else ""
        raise IndexDiffers(
            f"{at}{table} has another index of this name already: `{there}`."
            f" Give the new one another name, or drop the old one in a migration before."
        )


def _shape(definition: str) -> tuple[bool, str]:
    """Return what an index is, apart from its name and its table's."""
    return definition.startswith("CREATE UNIQUE "), definition.partition(" USING ")[2]


@contextmanager
def _concurrently() -> Iterator[None]:
    """Let a statement wait as long as there is patience: nobody waits behind one that is concurrent."""
    patience = current_patience()
    with outside_transaction(**SESSION, lock_timeout=f"{max(1, patience.left_s * 1000):.0f}"):
        patience.is_concurrent = True
        try:
            yield
        except DBAPIError as error:
            if sqlstate_of(error) == LOCK_NOT_AVAILABLE:
                patience.use_up()
            raise
        finally:
            patience.is_concurrent = False
