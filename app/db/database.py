"""The only way to PostgreSQL: each statement runs as one user, and none outlasts the request's deadline.

`execute` takes one statement and needs one round trip; `transaction` is for several.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Self

import psycopg2
from fastapi import Depends
from sqlalchemy import Connection, Engine, Executable, Row, event, exc, text
from sqlalchemy.pool import QueuePool
from sqlmodel import Session

from app.auth.authenticator import CurrentUser
from app.auth.tokens import Administrator, Principal
from app.db import deadline
from app.db.checks import Checks
from app.db.errors import translated_errors, unavailable
from app.db.pool import ANSWER_S, engine_for, preamble
from app.db.roles import Login, read_login
from app.record import current
from app.settings import Settings

Parameters = Mapping[str, Any]
Rows = Sequence[Row[Any]]

EXPLAIN_S = 0.2  # half of it for the server


class Database:
    """A pool of connections, for statements that run as one user. Thread-safe."""

    def __init__(self, url: str, pool_size: int, timeout_s: float) -> None:
        deadline.install()
        self.timeout_s = timeout_s
        self._checks = Checks()
        self._engine = engine_for(url, pool_size, self._checks)
        self._probe = engine_for(url, 1, self._checks)
        self._explanations = engine_for(url, 1, self._checks, 0)
        self._transactional = self._engine.execution_options(isolation_level="READ COMMITTED")

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the database that `settings` name."""
        assert settings.database_url  # Settings or the development defaults checked it
        url = settings.database_url.get_secret_value()
        return cls(url, settings.database_pool_size, settings.request_deadline_ms / 1000)

    def execute(
        self, principal: Principal, statement: Executable, parameters: Parameters, function: str | None = None
    ) -> Rows:
        """Run one statement as `principal` and commit it; its span names the calling `function`.

        A user reaches only own rows, an `Administrator` reads all rows and changes none. If the connection is dead, a
        read is sent once more and a write is not.

        Raises:
            Conflict: a row is there already, or one that is referred to is not, for this user.
            InvalidValue: a value is out of range, too long, or against a check.
            DatabaseBusy: another transaction holds a lock.
            DatabaseUnavailable: no answer, or none in time; after a write the detail says that its outcome is unknown.
            Overloaded: the request's time is used up, most of it by waiting for a thread. Nothing was changed.
            RequestDeadline: the request's time is used up, most of it by code or other services. Nothing was changed.
        """
        options = {"principal": principal, "administrator": administrator_id(principal), "function": function}
        with deadline.ensure(self.timeout_s), translated_errors(outcome_unknown=not statement.is_select):
            try:
                return self._send(statement, parameters, options)
            except exc.DBAPIError as error:
                if not (statement.is_select and error.connection_invalidated):
                    raise
            return self._send(statement, parameters, options)

    def _send(self, statement: Executable, parameters: Parameters, options: Parameters) -> Rows:
        if deadline.remaining() <= ANSWER_S:
            raise unavailable()
        try:
            connection = self._engine.connect()
        except exc.DBAPIError as error:  # nothing was sent, so the outcome of a write is known
            raise unavailable(error) from error
        with connection:
            result = connection.execute(statement, parameters, execution_options=options)
            return result.all() if result.returns_rows else []

    @contextmanager
    def transaction(self, principal: Principal) -> Iterator[Session]:
        """Open a session on a transaction as `principal`: committed at the end, rolled back on any exception.

        Its first statement takes the connection. After a `commit()` of its own the session goes on in another
        transaction as the same principal. Once it is closed it cannot be used; what was read keeps its values.

        Raises:
            Conflict, InvalidValue: as `execute`; those of deferred constraints at the end.
            DatabaseBusy, DatabaseUnavailable, Overloaded, RequestDeadline: as `execute`; the outcome is unknown if the
                commit got no answer.
        """
        bound = self._transactional.execution_options(administrator=administrator_id(principal))
        with deadline.ensure(self.timeout_s), translated_errors(), Session(bound, close_resets_only=False) as session:
            event.listen(session, "after_begin", partial(_send_preamble, principal))
            try:
                yield session
                session.expire_on_commit = False  # what was read is good to return: nobody could read it again
                with translated_errors(outcome_unknown=True):
                    session.commit()
            except BaseException:
                _roll_back(session)
                raise

    def listen(self, listener: Callable[[Engine], object]) -> None:
        """Let `listener` register itself for the events of every statement that runs for a principal."""
        listener(self._engine)

    def connections(self) -> dict[str, int]:
        """Return how many of the pool's connections are used, and how many are idle."""
        pool = self._engine.pool
        assert isinstance(pool, QueuePool)
        return {"used": pool.checkedout(), "idle": pool.checkedin()}

    def checks(self) -> dict[tuple[str, str], int]:
        """Return how often the server was looked up, connected to and pinged, by step and outcome; by probes too."""
        return self._checks.numbers

    def explain(self, principal: Principal, statement: str, parameters: Any) -> Any:
        """Return the planner's estimate for a statement of `principal`, as EXPLAIN (FORMAT JSON) gives it.

        It has a connection and a deadline of its own: the caller may hold the pool's last connection, and have no time
        left. Raises SQLAlchemyError if there is none within EXPLAIN_S, or that connection is in use.
        """
        with deadline.start(EXPLAIN_S), self._explanations.connect() as connection:
            options = {"principal": principal}
            explain = f"EXPLAIN (FORMAT JSON, VERBOSE) {statement}"
            return connection.exec_driver_sql(explain, parameters, execution_options=options).scalar()

    def revision(self) -> str | None:
        """Return the schema's revision, or raise SQLAlchemyError; no principal, on a connection of its own."""
        with deadline.ensure(self.timeout_s), self._probe.connect() as connection:
            revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return revision

    def login(self) -> Login:
        """Return what the database knows of the login, or raise SQLAlchemyError; as `revision`."""
        with deadline.ensure(self.timeout_s), self._probe.connect() as connection:
            return read_login(connection)

    def close(self) -> None:
        """Close every connection that is not in use."""
        for engine in (self._engine, self._probe, self._explanations):
            engine.dispose()


def administrator_id(principal: Principal) -> str | None:
    """Return the user id of an administrator, whose statements are counted and logged; None for any other user."""
    return principal.user_id if isinstance(principal, Administrator) else None


def _roll_back(session: Session) -> None:
    """Roll back. If that fails, give the connection up, so that the first error is the one that is raised."""
    try:
        session.rollback()
    except (exc.SQLAlchemyError, psycopg2.Error):
        session.invalidate()


def _send_preamble(principal: Principal, _session: Session, _transaction: Any, connection: Connection) -> None:
    """Set whose transaction it is, as its first statement."""
    connection.exec_driver_sql(*preamble(principal), {"observed": False})


async def database() -> Database:
    """Return the application's database; a coroutine, since a plain function would cost a thread."""
    found: Database = current().app.state.database
    return found


CurrentDatabase = Annotated[Database, Depends(database)]


def session(database: CurrentDatabase, user: CurrentUser) -> Iterator[Session]:
    """Give a session of the request's user, who sees only own rows; it is committed before the answer is sent.

    It is for endpoints written as in FastAPI's tutorial: three round trips where a store needs one, and two more thread
    hops.
    """
    with database.transaction(user) as opened:
        yield opened


CurrentSession = Annotated[Session, Depends(session, scope="function")]
