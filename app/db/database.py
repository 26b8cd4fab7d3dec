"""The only way to PostgreSQL: every statement is bound to a principal, and none outlasts its request's deadline.

`execute` takes one statement and costs one round trip; `transaction` is for what needs several.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, NamedTuple, Self

import psycopg2
from fastapi import Depends
from sqlalchemy import Connection, Engine, Executable, Row, event, exc, text
from sqlalchemy.pool import QueuePool
from sqlmodel import Session

from app.auth.dependencies import CurrentUser
from app.auth.principal import Administrator, Principal
from app.db import deadline
from app.db.errors import doubts, refusals, unavailable
from app.db.pool import ANSWER_S, PREAMBLES, engine_for, preamble
from app.db.roles import remedy
from app.errors import DatabaseUnavailable
from app.record import current
from app.settings import Settings

EXPLAIN_S = 0.2  # half of it for the server

LOGIN = text("SELECT current_user::text, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")


class Login(NamedTuple):
    """What the database makes of the login: its name, whether row-level security can bind it, what it lacks."""

    name: str
    bypasses_row_security: bool
    remedy: str | None


class Database:
    """A pool of connections, and the doors to it. Thread-safe; no call outlasts the request's deadline."""

    def __init__(self, url: str, pool_size: int, timeout_s: float) -> None:
        deadline.install()
        self.timeout_s = timeout_s
        self._engine = engine_for(url, pool_size, timeout_s)
        self._probe = engine_for(url, 1, timeout_s)
        self._explanations = engine_for(url, 1, 0)
        self._transactional = self._engine.execution_options(isolation_level="READ COMMITTED")

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the database that `settings` name."""
        assert settings.database_url  # Settings or the development defaults saw to it
        url = settings.database_url.get_secret_value()
        return cls(url, settings.database_pool_size, settings.database_timeout_ms / 1000)

    def execute(self, principal: Principal, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """Run one statement as `principal`, who sees none but own rows (an `Administrator`: all, and changes none).

        It is committed when this returns.

        A read whose connection turns out to be dead is sent once more; a write never.

        Raises:
            Conflict: a row is there already, or one that is referred to is not, for this user.
            InvalidValue: a value is out of range, too long, or against a check.
            DatabaseBusy: another transaction holds a lock.
            DatabaseUnavailable: no answer, or none in time; after a write the detail says that its outcome is unknown.

        """
        with deadline.within(self.timeout_s), refusals():
            if not statement.is_select:
                with doubts():
                    return self._send(principal, statement, parameters)
            try:
                return self._send(principal, statement, parameters)
            except exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return self._send(principal, statement, parameters)

    def _send(self, principal: Principal, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
        options = {"principal": principal, "administrator": administrator_id(principal)}
        with self._connect() as connection:
            result = connection.execute(statement, parameters, execution_options=options)
            return result.all() if result.returns_rows else []

    def _connect(self) -> Connection:
        """Take a connection; what fails here was never sent, so that nobody has to wonder about its outcome."""
        if deadline.remaining() <= ANSWER_S:
            raise DatabaseUnavailable
        try:
            return self._engine.connect()
        except exc.DBAPIError as error:
            raise unavailable(error) from error

    @contextmanager
    def transaction(self, principal: Principal) -> Iterator[Session]:
        """Open a session on a real transaction as `principal`: committed at the end, rolled back on any exception.

        The connection is taken by its first statement. After a `commit()` of its own the session goes on in another
        transaction, as the same principal; once it is closed it is of no more use.

        Raises:
            Conflict, InvalidValue: as `execute`; those of deferred constraints at the end.
            DatabaseBusy, DatabaseUnavailable: as `execute`; the outcome is unknown where the commit got no answer.

        """
        bound = self._transactional.execution_options(administrator=administrator_id(principal))
        with deadline.within(self.timeout_s), refusals(), Session(bound, close_resets_only=False) as session:
            event.listen(session, "after_begin", partial(_introduce, principal))
            try:
                yield session
            except BaseException:
                _roll_back(session)
                raise
            with doubts():
                session.commit()

    def listen(self, listener: Callable[[Engine], object]) -> None:
        """Let `listener` register itself for the events of every statement that is run for a principal."""
        listener(self._engine)

    def connections(self) -> dict[str, int]:
        """Return how many of the pool's connections are used just now, and how many idle."""
        pool = self._engine.pool
        assert isinstance(pool, QueuePool)
        return {"used": pool.checkedout(), "idle": pool.checkedin()}

    def explain(self, principal: Principal, statement: str, parameters: Any) -> Any:
        """Return the planner's estimate for a statement of `principal`, as EXPLAIN (FORMAT JSON) gives it.

        On a connection outside the pool, since whoever asks may hold the last one of it, and at once or not at all:
        the deadline of whoever asks may have passed.

        Raises:
            SQLAlchemyError: there is none to be had within EXPLAIN_S.

        """
        with deadline.apart(EXPLAIN_S), self._explanations.connect() as connection:
            options = {"principal": principal}
            explain = f"EXPLAIN (FORMAT JSON, VERBOSE) {statement}"
            return connection.exec_driver_sql(explain, parameters, execution_options=options).scalar()

    def revision(self) -> str | None:
        """Return the schema's revision: the one statement without a principal, on a connection of its own.

        Raises:
            SQLAlchemyError: the database can't be reached, or has no schema.

        """
        with deadline.within(self.timeout_s), self._probe.connect() as connection:
            revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return revision

    def login(self) -> Login:
        """Return what the database makes of the login.

        Raises:
            SQLAlchemyError: the database can't be reached.

        """
        with deadline.within(self.timeout_s), self._probe.connect() as connection:
            name, bypasses = connection.execute(LOGIN).one()
            return Login(name, bypasses, remedy(connection, name))

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._engine.dispose()
        self._probe.dispose()
        self._explanations.dispose()


def administrator_id(principal: Principal) -> str | None:
    """Return the user id of an administrator, whose statements are counted and logged; None for any other user."""
    return principal.user_id if isinstance(principal, Administrator) else None


def _roll_back(session: Session) -> None:
    """Roll back; where that fails, give the connection up, so that the first error is the one that is raised."""
    try:
        session.rollback()
    except (exc.SQLAlchemyError, psycopg2.Error):
        session.invalidate()


def _introduce(principal: Principal, _session: Session, _transaction: Any, connection: Connection) -> None:
    """Say for whom a transaction is, as the first thing in it."""
    connection.exec_driver_sql(PREAMBLES[principal.role], preamble(principal), {"observed": False})


async def database() -> Database:
    """Return the application's database; a coroutine, since a plain function would cost a thread."""
    found: Database = current().app.state.database
    return found


CurrentDatabase = Annotated[Database, Depends(database)]


def session(database: CurrentDatabase, user: CurrentUser) -> Iterator[Session]:
    """Give a session of the user who asks, who sees none but own rows; committed before the answer is sent.

    For endpoints that are written with a session, as in FastAPI's tutorial; it costs a transaction and two threads more
    than a store that calls `execute`.

    Raises:
        DatabaseBusy, DatabaseUnavailable: as `Database.transaction`.

    """
    with database.transaction(user) as opened:
        yield opened


CurrentSession = Annotated[Session, Depends(session, scope="function")]
