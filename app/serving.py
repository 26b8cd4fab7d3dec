"""uvicorn, configured once for development and production: what is checked before it starts, and how it stops."""

import asyncio
import gc
import logging
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from errno import EADDRNOTAVAIL
from socket import AI_PASSIVE, SOCK_STREAM, create_server, gaierror, getaddrinfo, socket
from threading import Event
from time import monotonic
from types import FrameType

import uvicorn
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp

from app import migrations
from app.db.database import Database
from app.db.roles import ROLE
from app.main import create_app
from app.migrations.locks import sqlstate_of
from app.settings import Settings
from app.telemetry import logs
from app.telemetry.memory import MemoryTrace
from app.telemetry.shapes import POSTGRES_PORT, server_attributes
from app.web import listeners
from app.web.api import Api
from app.web.event_streams import OVER
from app.web.protocol import BoundedProtocol

KEEP_ALIVE_S = 65  # longer than the idle time-out of common load balancers (60 s), or they meet a closed connection
LINGER_S = 1.0  # a request that was on its way when the listener closed is still answered within this
POLL_S = 0.02
UNDEFINED_TABLE = "42P01"
MAX_FILES = 65_536  # connections and files; with more open, the system closes new connections without an answer
SHUTDOWN_S = 7.5  # for all of it but the flush of telemetry (2 s); what is slower is cut

Create = Callable[[Settings, Event], Api]

logger = logging.getLogger(__name__)


class NotServing(RuntimeError):
    """The application cannot start; the message is one line for whoever started it."""


def serve(settings: Settings, on_start: Callable[[], None] = lambda: None, create: Create = create_app) -> None:
    """Serve the only application of this process, which `create` makes, until SIGINT or SIGTERM.

    Raises:
        NotServing: HOST and PORT, or the database, cannot be used.
        BrokenMigrations: see its class.
    """
    logs.configure(settings)
    MemoryTrace().await_signal()
    verify_address(settings)
    verify_database(settings)
    raise_file_limit()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises the signal once more when it is done
    with suppress(KeyboardInterrupt):
        draining = Event()
        api = create(settings, draining)
        api.state.tracing.trace_process()
        api.state.log_export.take_lines()
        gc.collect()
        gc.freeze()  # no later collection looks at what lives as long as the process
        Server(api, settings, draining, on_start).run()


def raise_file_limit() -> None:
    """Let the process open as many files as it may: many systems begin at 1,024 (getrlimit(2), RLIMIT_NOFILE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Server(uvicorn.Server):
    """Uvicorn, which calls `on_start` once it accepts connections.

    At the first signal `draining` is set: readiness fails and answers close their connections. `shutdown_delay_s`
    later, when the balancer has noticed, no more connections are accepted, and requests in flight finish.
    """

    def __init__(self, app: ASGIApp, settings: Settings, draining: Event, on_start: Callable[[], None]) -> None:
        self._draining, self._on_start, self._delay_s = draining, on_start, settings.shutdown_delay_s
        super().__init__(uvicorn_config(app, settings))

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen, then call `on_start`."""
        await super().startup(sockets)
        if self.started:
            self._loop = asyncio.get_running_loop()
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at a second signal stop at once."""
        if self._draining.is_set() or not self.started:
            super().handle_exit(sig, frame)
            return
        self._draining.set()
        self._captured_signals.append(sig)
        self._loop.call_soon_threadsafe(self._loop.call_later, self._delay_s, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop listening, answer what is on its way, then drop clients that do not read."""
        self._draining.set()
        linger_until = monotonic() + LINGER_S
        await listeners.close(self.servers, linger_until)
        await asyncio.sleep(POLL_S)  # the last that was accepted is not among the connections yet
        while monotonic() < linger_until and self.server_state.connections:
            await asyncio.sleep(POLL_S)
        self._drop_deaf(lambda connection: OVER in connection.scope)  # an event stream that is not read cannot end
        await super().shutdown(sockets)
        self._drop_deaf(lambda _: True)  # the answer that says it was cut would wait without end

    def _drop_deaf(self, is_chosen: Callable[[BoundedProtocol], bool]) -> None:
        """Drop clients that do not read."""
        for connection in [*self.server_state.connections]:
            if isinstance(connection, BoundedProtocol) and connection.flow.write_paused and is_chosen(connection):
                connection.transport.abort()


def uvicorn_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves `app`."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        http=BoundedProtocol,
        log_config=None,  # app.telemetry.logs has configured every logger
        log_level=settings.log_level.lower(),
        loop="uvloop",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=int(SHUTDOWN_S - LINGER_S - settings.shutdown_delay_s) or 1,
        timeout_keep_alive=KEEP_ALIVE_S,
        ws="none",
    )


def verify_address(settings: Settings) -> None:
    """Raise NotServing if HOST and the ports cannot be listened on: uvicorn's own message names neither."""
    for name, port in (("PORT", settings.port), ("METRICS_PORT", settings.metrics_port)):
        if port:
            _verify_port(settings.host, port, name)


def _verify_port(host: str, port: int, name: str) -> None:
    try:
        for family, _, _, _, address in getaddrinfo(host, port, type=SOCK_STREAM, flags=AI_PASSIVE):
            create_server(address, family=family).close()
    except (gaierror, UnicodeError):
        raise NotServing(f"HOST: {host} does not resolve to an address.") from None
    except OSError as error:
        name = "HOST" if error.errno == EADDRNOTAVAIL else name
        reason = os.strerror(error.errno or 0)
        raise NotServing(f"{name}: {host}:{port} cannot be listened on: {reason}.") from None


def _address(settings: Settings) -> str:
    """Return the host and port of the database, without its login."""
    assert settings.database_url
    server = server_attributes(make_url(settings.database_url.get_secret_value()))
    return f"{server.get('server.address', 'localhost')}:{server.get('server.port', POSTGRES_PORT)}"


def verify_database(settings: Settings) -> None:
    """Raise NotServing if the database does not answer, its schema is too old, or the login lacks a role."""
    database = Database.from_settings(settings)
    try:
        login = database.login()
        revision = database.revision()
    except SQLAlchemyError as error:
        if sqlstate_of(error) == UNDEFINED_TABLE:
            raise NotServing("There is no schema: run `python -m app migrate`.") from None
        raise NotServing(f"DATABASE_URL: {_address(settings)} cannot be used: {migrations.first_line(error)}") from None
    finally:
        database.close()
    known = migrations.revisions()
    if not known.serve(revision):
        raise NotServing(f"The schema is at {revision}, the code wants {known.head}: run `python -m app migrate`.")
    if revision != known.head:
        logger.warning("the schema is ahead, at %s: this code was written for %s", revision, known.head)
    if login.remedy:
        raise NotServing(f"An administrator must run: {login.remedy}")
    if login.bypasses_row_security:
        logger.warning("the login %s is a superuser or has BYPASSRLS: only the role %s is bound", login.name, ROLE)
