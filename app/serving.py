"""Serve the application: uvicorn, configured once for development and production."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from socket import socket

import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp

from app import migrations
from app.db import Database
from app.main import create_app
from app.settings import Settings

KEEP_ALIVE_S = 65  # longer than the idle time-out of common load balancers (60 s), or they meet a closed connection


class NotServing(RuntimeError):
    """The application cannot start; the message is one line for whoever started it."""


def serve(settings: Settings, on_start: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM; call `on_start` once connections are accepted.

    Raises:
        NotServing: the database cannot be reached, or its schema is not the one this code was written for.

    """
    verify_database(settings)
    signal.signal(signal.SIGTERM, _leave)  # uvicorn raises the signal once more when it is done
    with suppress(KeyboardInterrupt):
        Server(configuration(create_app(settings), settings), on_start).run()


def configuration(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Return uvicorn's configuration for `app`."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        date_header=True,
        http="httptools",
        log_config=None,  # app.telemetry.logs has configured every logger
        log_level=settings.log_level.lower(),
        loop="uvloop",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        ws="none",
    )


def _leave(_signal: int, _frame: object) -> None:
    sys.exit(0)


class Server(uvicorn.Server):
    """Uvicorn, saying when it has begun."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start as uvicorn does, then tell."""
        await super().startup(sockets)
        if self.started:
            self._on_start()


def verify_database(settings: Settings) -> None:
    """Check that the database answers with the schema of this code.

    Raises:
        NotServing: it does not; the message says what to do.

    """
    assert settings.database_url
    database = Database(settings.database_url.get_secret_value(), 1)
    try:
        revision = database.revision()
    except SQLAlchemyError as error:
        raise NotServing(f"The database cannot be used: {reason(error)}") from None
    finally:
        database.close()
    if revision != migrations.head():
        raise NotServing(
            f"The schema is at {revision}, the code wants {migrations.head()}: run `python -m app migrate`."
        )


def reason(error: SQLAlchemyError) -> str:
    """Return the driver's own first line, which names host and port and no password."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
