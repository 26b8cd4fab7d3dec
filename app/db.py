"""The only way to PostgreSQL: every statement is bound to a principal and costs one round trip.

A simple-query message of several statements on an autocommit connection is one implicit transaction, and psycopg2 sends
what it is given as one such message. So the preamble (who asks) travels in the statement's own message, its settings
local to that transaction: nothing is left on the connection, and a pooler in transaction mode may stand between.
AUTOCOMMIT also means that several statements are not atomic: `execute` takes one, `transaction` is for more.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Depends, Request
from opentelemetry.trace import get_current_span
from sqlalchemy import Engine, Executable, Row, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError, SQLAlchemyError, TimeoutError  # noqa: A004
from sqlalchemy.pool import QueuePool
from sqlmodel import Session

from app.auth import Principal
from app.errors import AppError, DatabaseUnavailable

PREAMBLE = "SELECT set_config('app.user_id', %s, true); "
EXPLAIN_TIMEOUT_MS = 100
RECYCLE_S = 280  # Neon suspends an idle database after 300 s


class Database:
    """A pool of connections, and the doors to it. Thread-safe; each call blocks its thread for one statement."""

    def __init__(self, url: str, pool_size: int, pool_class: type[QueuePool] = QueuePool) -> None:
        self._engine = _engine(url, pool_size, pool_class)
        self._probe = _engine(url, 1, QueuePool)
        self._transactional = self._engine.execution_options(isolation_level="READ COMMITTED")

    def execute(self, principal: Principal, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """Run one statement as `principal`, committed when this returns, and return its rows.

        Raises:
            DatabaseUnavailable: no answer, or none that came in time.

        """
        options = {"principal": principal}
        with _refusals(), self._engine.connect() as connection:
            return connection.execute(statement, parameters, execution_options=options).all()

    @contextmanager
    def transaction(self, principal: Principal) -> Iterator[Session]:
        """Open a session on a real transaction as `principal`: committed at the end, rolled back on any exception.

        Raises:
            DatabaseUnavailable: no answer, or none that came in time.

        """
        with _refusals(), Session(self._transactional) as session, session.begin():
            session.connection().exec_driver_sql(PREAMBLE, (principal.user_id,))
            yield session

    def listen(self, listener: Callable[[Engine], object]) -> None:
        """Let `listener` register itself for the events of every statement that is run for a principal."""
        listener(self._engine)

    def explain(self, principal: Principal, statement: str, parameters: Any) -> Any:
        """Return the planner's estimate for a statement of `principal`, as EXPLAIN (FORMAT JSON) gives it.

        On the connection that stands outside the pool, since whoever asks may hold the last one of it, and within
        EXPLAIN_TIMEOUT_MS: it is not worth a wait.

        Raises:
            SQLAlchemyError: there is none to be had.

        """
        pool = self._probe.pool
        assert isinstance(pool, QueuePool)
        if pool.checkedout():
            raise TimeoutError
        with self._probe.connect() as connection:
            options = {"principal": principal}
            timeout = f"SELECT set_config('statement_timeout', '{EXPLAIN_TIMEOUT_MS}', true)"
            explain = f"{timeout}; EXPLAIN (FORMAT JSON, VERBOSE) {statement}"
            return connection.exec_driver_sql(explain, parameters, execution_options=options).scalar()

    def revision(self) -> str | None:
        """Return the schema's revision; the one statement without a principal, on a connection of its own.

        Raises:
            SQLAlchemyError: the database can't be reached, or has no schema.

        """
        with self._probe.connect() as connection:
            revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return revision

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._engine.dispose()
        self._probe.dispose()


async def database(request: Request) -> Database:
    """Return the application's database; a coroutine, since a plain function would cost a thread."""
    found: Database = request.app.state.database
    return found


CurrentDatabase = Annotated[Database, Depends(database)]


def _engine(url: str, pool_size: int, pool_class: type[QueuePool]) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        max_overflow=0,
        pool_pre_ping=True,
        pool_recycle=RECYCLE_S,
        pool_reset_on_return=None,
        pool_size=pool_size,
        poolclass=pool_class,
        use_native_hstore=False,  # else each new connection asks for hstore's type ids
    )
    event.listen(engine, "do_execute", _execute_in_one_message)
    event.listen(engine, "do_executemany", _refuse_many)
    return engine


def _execute_in_one_message(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Send preamble and statement together. Later than `before_cursor_execute`, so that no log or error shows it."""
    principal = context.execution_options.get("principal")
    if principal is None:
        return False
    body: bytes = cursor.mogrify(statement, parameters)
    cursor.execute(_traceparent(context) + cursor.mogrify(PREAMBLE, (principal.user_id,)) + body)
    return True


def _traceparent(context: Any) -> bytes:
    """Return the comment that leads from pg_stat_activity and the server's log back to the trace.

    At the head, since pg_stat_activity keeps a message's beginning (https://google.github.io/sqlcommenter/spec/).
    """
    span = (getattr(context, "_otel_span", None) or get_current_span()).get_span_context()
    if not span.is_valid:
        return b""
    return b"/*traceparent='00-%032x-%016x-%02x'*/ " % (span.trace_id, span.span_id, span.trace_flags)


def _refuse_many(_cursor: Any, _statement: str, _parameters: Any, context: Any) -> None:
    if context.execution_options.get("principal"):
        raise InvalidRequestError("several sets of parameters need Database.transaction()")


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise _refusal(error) from error
    except SQLAlchemyError as error:
        if isinstance(error, TimeoutError):
            raise DatabaseUnavailable from error
        raise


def _refusal(error: DBAPIError) -> Exception | AppError:
    """Return what a client should hear: connection failures and server trouble are 503, the rest is our own fault."""
    sqlstate = getattr(error.orig, "pgcode", None)
    return DatabaseUnavailable() if sqlstate is None or sqlstate[:2] in {"08", "53", "57"} else error
