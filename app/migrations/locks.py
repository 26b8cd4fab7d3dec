"""The locks that a migration waits for: how long, for whom, and how others are kept from waiting behind it.

While a statement waits for a lock, every later request of the table waits behind it. So each wait is short at first.
The migration then lets go of all its locks, and tries again later.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from threading import Event, Thread
from time import monotonic, sleep

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.migrations.holders import BLOCKING, OTHER_MIGRATION, Holder, describe, remedy

KEY = 4_821_937  # any number: one migration at a time, whoever starts it
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 0.5  # of one statement for one lock: a request behind it gives up after 0.9
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0  # between two tries
STATEMENT_TIMEOUT_S = 15
OFFLINE_LIMITS = {"lock_timeout": f"{LONGEST_WAIT_S * 1000:.0f}ms", "statement_timeout": f"{STATEMENT_TIMEOUT_S}s"}
LOCK_NOT_AVAILABLE = "55P03"  # SQLSTATE
POLL_S = 0.1
AUTOVACUUM_S = 3  # it ends within deadlock_timeout, unless it prevents a wraparound
REPORT_S = 8.0
NAME = "migrate"  # of its sessions in pg_stat_activity
TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")
# A transaction that is open but idle holds the lock, and no row version: nobody's time-out may end it.
KEEP_OPEN = text("""
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')
""")
logger = logging.getLogger(__name__)


class LockNotFree(RuntimeError):
    """Somebody else held a lock for MIGRATE_TIMEOUT_S. The message is one line that says who."""


@dataclass
class Patience:
    """How long a run of `migrate` may still wait for locks in all, and one statement for one lock; in seconds.

    The clock runs from the first try that failed until a migration is done. It stands still beside steps that are
    outside of the transaction, which may take long.
    """

    total_s: float
    wait_s: float = FIRST_WAIT_S
    pause_s: float = FIRST_PAUSE_S
    holder: Holder = field(default_factory=Holder)
    is_concurrent: bool = False  # the statement that runs: it is not tried again, and waits as long as it may
    _counted_s: float = 0.0
    _since: float | None = None
    _reported: float = -inf

    @property
    def waited_s(self) -> float:
        """How long it has waited."""
        return self._counted_s + (monotonic() - self._since if self._since is not None else 0)

    @property
    def left_s(self) -> float:
        """How long it may still wait."""
        return max(0.0, self.total_s - self.waited_s)

    def start_clock(self, ago: float = 0.0) -> None:
        """Count the time from now on, or from `ago` seconds before now, if it does not run."""
        if self._since is None:
            self._since = monotonic() - ago

    def stop_clock(self) -> None:
        """Count no more time."""
        self._counted_s, self._since = self.waited_s, None

    def use_up(self) -> None:
        """Count all the time as waited."""
        self._counted_s, self._since = max(self.waited_s, self.total_s), None

    def pause(self, seconds: float, place: str = "") -> None:
        """Sleep, or raise LockNotFree if all the time was waited."""
        self.start_clock()
        if not self.left_s:
            raise LockNotFree(
                f"The schema cannot be changed: no lock in {self.total_s:g} s (MIGRATE_TIMEOUT_S){place}."
                f" It is held by {self.holder.who}.{self.holder.remedy}"
            )
        self.report(place)
        sleep(min(seconds, self.left_s))

    def report(self, place: str = "") -> None:
        """Say for whom it waits, unless it has said so a short time ago."""
        if monotonic() - self._reported < REPORT_S:
            return
        self._reported = monotonic()
        progress = f"{self.waited_s:.0f} of {self.total_s:g} s{place}"
        logger.warning("Waiting for a lock, %s: %s.%s", progress, self.holder.who, self.holder.remedy)

    def see(self, *, is_waiting: bool) -> None:
        """Count the time and report it while a concurrent statement waits."""
        if self.is_concurrent and is_waiting:
            self.start_clock()
            self.report()
        elif self.is_concurrent:
            self.stop_clock()

    def pause_before_next_try(self, place: str) -> None:
        """Sleep longer each time. The next try waits longer for its locks."""
        self.start_clock(self.wait_s)
        self.pause(self.pause_s, place)
        self.wait_s = min(self.wait_s * 2, LONGEST_WAIT_S)
        self.pause_s = min(self.pause_s * 2, LONGEST_PAUSE_S)
        self.holder = Holder()


def limit_waits(engine: Engine, patience: Patience) -> None:
    """Let each transaction of `engine` end a statement that waits too long for a lock, or takes too long."""

    def set_timeouts(connection: Connection) -> None:
        connection.exec_driver_sql(
            "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true),"
            " set_config('client_connection_check_interval', '1s', true)",  # no statement outlives this process
            (f"{patience.wait_s * 1000:.0f}", f"{STATEMENT_TIMEOUT_S}s"),
        )

    event.listen(engine, "begin", set_timeouts)


@contextmanager
def only_migration(engine: Engine, patience: Patience) -> Iterator[Connection]:
    """Keep other migrations of this database out, and watch for whom this one waits; or raise LockNotFree.

    Yields the connection that has the lock.

    The lock belongs to an open transaction on a connection of its own, so that migrations may commit, and a pooler in
    transaction mode may stand between. Nothing reads in it beside a step: an index that is built concurrently would
    wait for the end of this transaction.
    """
    with engine.connect() as connection:
        is_first_try = not patience.waited_s
        while not _take_lock(connection, patience):
            patience.pause(POLL_S)
        if is_first_try:
            patience.stop_clock()
        with _watch(engine, patience):
            yield connection


def verify_held(lock: Connection) -> None:
    """Raise the driver's error if the connection that has the lock is lost: another migration may be running."""
    lock.exec_driver_sql("SELECT")


def _take_lock(connection: Connection, patience: Patience) -> bool:
    """Return whether this transaction has the lock of migrations now. If not, it is over, and who has it is noted."""
    connection.execute(KEEP_OPEN)
    if connection.scalar(TRY_LOCK, {"key": KEY}):
        return True
    if (found := connection.execute(OTHER_MIGRATION, {"key": KEY}).first()) is not None:
        patience.holder = Holder(f"another migration, {describe(found)}")
    connection.rollback()
    return False


@contextmanager
def _watch(engine: Engine, patience: Patience) -> Iterator[None]:
    """Note for whom the migration waits: once a wait has ended, the database does not tell any more."""
    over = Event()

    def look() -> None:
        # Where no connection is left for this, or it is lost, who holds a lock stays unknown.
        with suppress(SQLAlchemyError), engine.connect() as connection:
            while not over.wait(POLL_S):
                found = connection.execute(BLOCKING, {"name": NAME}).first()
                connection.rollback()
                if found is not None:
                    patience.holder = Holder(describe(found), remedy(found))
                patience.see(is_waiting=found is not None)
                if found is not None and found.is_background and found.relation:
                    _end_autovacuum(connection, found.relation)

    thread = Thread(target=look, name="lock-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _end_autovacuum(connection: Connection, table: str) -> None:
    """Let PostgreSQL end an autovacuum of the table, as it does for who waits for `deadlock_timeout` (a second).

    The migration may not wait so long. This lock keeps nobody from reading or writing, nor does waiting for it.
    """
    with suppress(DBAPIError), connection.begin():
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{AUTOVACUUM_S}s'")
        connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")


def sqlstate_of(error: BaseException) -> str | None:
    """Return PostgreSQL's code of an error, if it is one of the database."""
    return getattr(getattr(error, "orig", None), "pgcode", None)
