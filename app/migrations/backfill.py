"""Changes every row of a large table in small transactions, while the application reads and writes it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any, NamedTuple

from alembic import op
from sqlalchemy import Connection, CursorResult, inspect

from app.migrations.online import outside_transaction
from app.migrations.row_security import every_row, quote, verify_reach

BATCH_S = 0.02  # a request that changes a row of the batch, or commits beside it, waits as long
FIRST_ROWS, FEWEST_ROWS = 500, 50
REPORT_S = 5.0
PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
LAG = "SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0) / 1048576 FROM pg_stat_replication"
RUNNING = """
    SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = current_database()
      AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
SEES_OTHERS = "SELECT pg_has_role('pg_read_all_stats', 'USAGE')"
# A policy makes the planner expect few rows: each batch would read the whole table, with several workers.
SETTINGS = """
    SET LOCAL app.every_row = 'on';
    SET LOCAL enable_seqscan = off;
    SET LOCAL max_parallel_workers_per_gather = 0
"""
# The place in the walk travels as text, which is exact: Python has no infinite date, and its floats have more digits.
END = """
    SELECT {texts} FROM (SELECT {keys} FROM {table} WHERE {lower} ORDER BY {keys} LIMIT {size}) AS walked
    ORDER BY {newest} LIMIT 1
"""
CHANGE = """
    WITH backfill_batch AS MATERIALIZED (
        SELECT {keys} FROM {table} WHERE {lower} AND {upper} AND ({where}) ORDER BY {keys} FOR NO KEY UPDATE {locked}
    ), backfill_changed AS (
        UPDATE {table} SET {assignments} WHERE ({keys}) IN (SELECT {keys} FROM backfill_batch)
        RETURNING ({where}) IS TRUE AS again
    )
    SELECT (SELECT count(*) FROM {table} WHERE {lower} AND {upper} AND ({where})), count(*), bool_or(again)
    FROM backfill_changed
"""

Key = tuple[str, ...]  # of one row
logger = logging.getLogger(__name__)


class BackfillRefused(RuntimeError):
    """The rows of the table cannot be changed each once, or a pause had no end. The message is one line."""


class Limit(NamedTuple):
    """What `query` counts: the backfill pauses while it is over `most`, and says `words`. None is no limit."""

    query: str
    most: int | None
    words: str


def backfill(
    table: str,
    assignments: str,
    *,
    where: str,
    batch: int = 5_000,
    max_lag_mib: int | None = None,
    max_running: int | None = None,
) -> None:
    """Run `UPDATE table SET assignments WHERE where` on the rows of all users, at most `batch` rows at a time.

    It walks along the primary key and commits each batch. Batches are smaller if they take longer than BATCH_S, and it
    rests after each as long as it took. Rows that others have locked are done at the end. A run that was killed goes
    on where it was: no changed row may match `where` any more. New rows may be left out, so give them a default before.

    It pauses while a replica is more than `max_lag_mib` MiB behind, or more than `max_running` statements of others
    run in the database.

    Raises:
        BackfillRefused: see its class.
        NotFirst, OutOfReach: see these classes.
    """
    if op.get_context().as_sql:
        with every_row():
            op.get_context().impl.static_output(f"UPDATE {quote(table)} SET {assignments} WHERE {where};")  # noqa: S608  the team's SQL
        return
    with outside_transaction(), op.get_bind().engine.connect() as connection:
        limits = [
            Limit(LAG, max_lag_mib, "a replica is {:.0f} MiB behind"),
            Limit(RUNNING, max_running, "{} statements run"),
        ]
        walk = Walk(connection, table, assignments, where, batch, limits)
        walk.run_until_complete()
        logger.info("backfill of %s: done, %d rows changed", table, walk.changed)


class Walk:
    """The way along the primary key of a table, on a connection of its own; `changed` counts rows."""

    changed = 0

    def __init__(
        self,
        connection: Connection,
        table: str,
        assignments: str,
        where: str,
        batch: int,
        limits: Sequence[Limit],
    ) -> None:
        self._connection, self._table, self._batch = connection, table, batch
        self._limits = [limit for limit in limits if limit.most is not None]
        with self._transaction():
            key = self._find_key()
            verify_reach(connection)
            can_pause = not self._limits or connection.exec_driver_sql(SEES_OTHERS).scalar()
        if batch < 1:
            raise BackfillRefused(f"backfill of {table}: batch must be at least 1.")
        if not can_pause:
            raise BackfillRefused(f"backfill of {table}: to pause, its login needs GRANT pg_read_all_stats.")
        quoted = [connection.dialect.identifier_preparer.quote(column) for column in key]
        self._parts = {
            "keys": ", ".join(quoted),
            "texts": ", ".join(f"walked.{column}::text" for column in quoted),
            "newest": ", ".join(f"walked.{column} DESC" for column in quoted),
            "table": quote(table),
            "assignments": assignments.replace("%", "%%"),
            "where": where.replace("%", "%%"),
            "upper": f"({', '.join(quoted)}) <= ({', '.join(f'%(end_{n})s' for n in range(len(key)))})",
        }
        self._lower = f"({', '.join(quoted)}) > ({', '.join(f'%(after_{n})s' for n in range(len(key)))})"

    def _find_key(self) -> list[str]:
        schema, _, name = self._table.rpartition(".")
        found = inspect(self._connection)
        if not found.has_table(name, schema or None):
            raise BackfillRefused(f"backfill of {self._table}: there is no such table.")
        key: list[str] = found.get_pk_constraint(name, schema or None)["constrained_columns"]
        if not key:
            raise BackfillRefused(f"backfill of {self._table}: it has no primary key to walk along.")
        return key

    def run_until_complete(self) -> None:
        """Change every row; what others had locked when they are done."""
        # A row that its user changed while the second round waited counts as left out, though it needs nothing.
        if self._run("SKIP LOCKED") and self._run("") and self._run(""):
            raise BackfillRefused(
                f"backfill of {self._table}: rows that match `where` were not changed. Does a trigger keep them so?"
            )

    def _run(self, locked: str) -> bool:
        """Go from the first row to the last. Return whether rows were left out, since others had locked them."""
        after: Key = ()
        size, left_out, reported = min(FIRST_ROWS, self._batch), False, monotonic()
        while True:
            self._wait_until_calm()
            started = monotonic()
            with self._transaction():
                end = self._ask(END, after, size=size).first()
                if end is None:
                    return left_out
                left_out |= self._change(after, tuple(end), locked)
            took = monotonic() - started
            after, size = tuple(end), self._next_size(size, took)
            if monotonic() - reported > REPORT_S:
                reported = monotonic()
                logger.info("backfill of %s: %d rows changed", self._table, self.changed)
            sleep(took)

    def _next_size(self, size: int, took: float) -> int:
        wanted = int(size * max(0.5, min(2.0, BATCH_S / took)))
        return min(self._batch, max(FEWEST_ROWS, wanted))

    def _change(self, after: Key, end: Key, locked: str) -> bool:
        """Change the matching rows of one batch. Return whether some were left out."""
        matching, changed, again = tuple(self._ask(CHANGE, after, end, locked=locked).one())
        if again:
            raise BackfillRefused(
                f"backfill of {self._table}: a changed row still matches `where`, so another run would change it again."
            )
        self.changed += changed
        return bool(matching > changed)

    def _ask(self, statement: str, after: Key, end: Key = (), **parts: Any) -> CursorResult[Any]:
        """Run a statement about the rows past `after`, up to `end`."""
        sql = statement.format(**self._parts, **parts, lower=self._lower if after else "TRUE")
        bounds = {"after": after, "end": end}
        values = {f"{name}_{n}": value for name, key in bounds.items() for n, value in enumerate(key)}
        return self._connection.exec_driver_sql(sql, values)

    def _wait_until_calm(self) -> None:
        """Pause while a limit is exceeded, or raise BackfillRefused after LONGEST_PAUSE_S."""
        waited = 0.0
        while exceeded := self._find_exceeded():
            if waited >= LONGEST_PAUSE_S:
                raise BackfillRefused(
                    f"backfill of {self._table}: paused for {LONGEST_PAUSE_S:.0f} s, since {exceeded}."
                )
            if not waited:
                logger.info("backfill of %s: pauses, since %s", self._table, exceeded)
            sleep(PAUSE_S)
            waited += PAUSE_S

    def _find_exceeded(self) -> str | None:
        for query, most, words in self._limits:
            with self._transaction():
                found = self._connection.exec_driver_sql(query).scalar_one()
            if found > most:
                return words.format(found)
        return None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._connection.begin():
            self._connection.exec_driver_sql(SETTINGS)
            yield
