"""The engine under `Database`: how a statement travels, from which thread, and how a dead connection is noticed.

psycopg2 sends several statements as one message, which is one implicit transaction on an autocommit connection. So the
preamble (whose rows, how long) travels with its statement, and its settings end with that transaction: nothing is left
on the connection, and a pooler in transaction mode may stand between.
"""

import logging
from asyncio import _get_running_loop  # the public one raises where there is none, which costs ten times as much
from time import perf_counter
from typing import Any

import psycopg2
from opentelemetry.trace import get_current_span
from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.util.queue import Empty, Queue

from app.auth.tokens import Principal
from app.db import deadline
from app.db.checks import Checks
from app.db.roles import ROLES
from app.record import CURRENT, Holders

SETTINGS = (
    "set_config('app.user_id', %s, true), set_config('statement_timeout', %s, true), "
    "set_config('lock_timeout', %s, true), set_config('TimeZone', 'UTC', true)"
)
PREAMBLES = {role: f"SELECT set_config('role', '{role}', true), {SETTINGS}; " for role in ROLES}
MEMBERS_PREAMBLES = {
    role: f"SELECT set_config('role', '{role}', true), {SETTINGS}, set_config('app.org_id', %s, true); "
    for role in ROLES
}
ANSWER_S = 0.1  # left of the deadline for the way back, once the server has given up
LONGEST_S = 60.0  # of a transaction that nobody gave a deadline
RECYCLE_S = 280  # Neon suspends an idle database after 300 s
SEVERAL = "several sets of parameters need Database.transaction()"
REMEDY = (
    "`async def` code must not run a statement, since every other request waits for its answer: "
    "write it with `def`, or `await run_in_threadpool(...)` of fastapi.concurrency."
)

logger = logging.getLogger(__name__)


class StatementOnEventLoop(RuntimeError):
    """A coroutine ran a statement itself; the message says what to do."""


class DeadlineQueue(Queue[ConnectionPoolEntry]):
    """Idle connections, for which nobody waits past the request's deadline; its record learns how long the wait was."""

    def __init__(self, maxsize: int = 0, use_lifo: bool = False) -> None:  # noqa: FBT001, FBT002  SQLAlchemy's signature
        super().__init__(maxsize, use_lifo)
        self.holders = Holders(maxsize)

    def get(self, block: bool = True, timeout: float | None = None) -> ConnectionPoolEntry:  # noqa: FBT001, FBT002  as above
        """Return a connection, within `timeout` seconds and what is left of the deadline."""
        started, failure, holders = perf_counter(), None, self.holders.of_all()
        try:
            return super().get(block, timeout and max(0.0, min(timeout, deadline.remaining())))
        except Empty:
            failure = exc.TimeoutError.__name__ if block else None  # else there is a place for a new connection
            raise
        finally:
            if record := CURRENT.get():
                record.note_wait("connections", started, failure, holders)


class DeadlinePool(QueuePool):
    """A pool of connections."""

    _queue_class = DeadlineQueue
    _sqla_logger_namespace = "sqlalchemy.pool"  # else its logger is named after the class, and logs as ours do

    def _do_get(self) -> ConnectionPoolEntry:
        entry = super()._do_get()
        self._holders.begin(entry, CURRENT.get())
        return entry

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        self._holders.end(record)  # before anybody else can have it
        super()._do_return_conn(record)

    @property
    def _holders(self) -> Holders:
        assert isinstance(self._pool, DeadlineQueue)
        return self._pool.holders


def engine_for(url: str, pool_size: int, checks: Checks, timeout_s: float = LONGEST_S) -> Engine:
    """Return an engine of at most `pool_size` connections; nobody waits for one longer than `timeout_s`, nor past the
    deadline. `checks` makes them.
    """
    engine = create_engine(
        url,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        max_overflow=0,
        pool_recycle=RECYCLE_S,
        pool_reset_on_return=None,
        pool_size=pool_size,
        pool_timeout=timeout_s,
        poolclass=DeadlinePool,
        use_native_hstore=False,  # else each new connection asks for hstore's type ids
    )
    checks.listen(engine)
    event.listen(engine, "do_execute", _execute_in_one_message)
    event.listen(engine, "do_executemany", _execute_each)
    event.listen(engine, "commit", _refuse_late)
    event.listen(engine, "handle_error", _keep_other_connections)
    return engine


def watch_event_loop(engine: Engine, *, refuse: bool) -> None:
    """Look out for statements on the event loop's thread.

    With `refuse` each raises StatementOnEventLoop. Without it, the log names each route once.
    """
    warned: set[str] = set()

    def check_thread(*_: Any) -> None:
        if _get_running_loop() is None:
            return
        record = CURRENT.get()
        route = (record and record.route) or "-"
        if refuse:
            logger.error("%s: %s", route, REMEDY)
            raise StatementOnEventLoop(REMEDY)
        if route not in warned:
            warned.add(route)
            logger.warning("%s: %s", route, REMEDY)

    event.listen(engine, "before_cursor_execute", check_thread)


def preamble(principal: Principal) -> tuple[str, tuple[str, ...]]:
    """Return the preamble, and whose rows, how long the server may take and wait for a lock (ms), which organization's.

    Where the user has no organization the setting is not there, or empty, and a policy by it shows nothing.
    """
    left = max(1, int((min(deadline.remaining(), LONGEST_S) - ANSWER_S) * 1000))
    values = (principal.user_id, str(left), str(max(1, left // 2)))
    if (org_id := principal.claims.org_id) is None:
        return PREAMBLES[principal.database_role], values
    return MEMBERS_PREAMBLES[principal.database_role], (*values, org_id)


def _execute_in_one_message(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Send the traceparent, the preamble and the statement together; in a transaction the preamble went before.

    This is later than `before_cursor_execute`, so that no log or error shows the preamble.
    """
    principal = context.execution_options.get("principal")
    if principal and context.executemany:
        raise exc.InvalidRequestError(SEVERAL)
    try:
        body: bytes = cursor.mogrify(statement, parameters)
    except ValueError as error:
        _refuse_text(error)
        raise
    settings: bytes = cursor.mogrify(*preamble(principal)) if principal else b""
    cursor.execute(_traceparent() + settings + body)
    return True


def _execute_each(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Send a statement once for each set of parameters, in a transaction."""
    if context.execution_options.get("principal"):
        raise exc.InvalidRequestError(SEVERAL)
    try:
        cursor.executemany(statement, parameters)
    except ValueError as error:
        _refuse_text(error)
        raise
    return True


def _refuse_text(error: ValueError) -> None:
    """Raise the database's own error if it is one of text that no server could store."""
    if isinstance(error, UnicodeError) or "NUL" in str(error):
        raise psycopg2.DataError(type(error).__name__) from error


def _traceparent() -> bytes:
    """Return the comment that leads from pg_stat_activity and the server's log back to the trace.

    At the head, since pg_stat_activity keeps a message's beginning (https://google.github.io/sqlcommenter/spec/).
    """
    span = get_current_span().get_span_context()  # the statement's own, while it is observed
    if not span.is_valid:
        return b""
    return b"/*traceparent='00-%032x-%016x-%02x'*/ " % (span.trace_id, span.span_id, span.trace_flags)


def _refuse_late(connection: Connection) -> None:
    """Send no COMMIT once the time is up: nobody would wait for its answer, and so know its outcome."""
    if deadline.remaining() <= 0:
        connection.invalidate()  # nor would anybody wait for a ROLLBACK: the server rolls back what is closed
        raise deadline.DeadlineExceeded(0.0)


def _keep_other_connections(context: Any) -> None:
    """Keep the pool where only one statement was cut at its deadline."""
    if isinstance(context.original_exception, deadline.DeadlineExceeded):
        context.invalidate_pool_on_disconnect = False
