"""METRICS_PORT: metrics and probes have a port of their own, which no user reaches, in the same process."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from app.errors import NotFound
from app.record import PROBES
from app.settings import Settings
from app.web.problems import problem
from app.web.protocol import BoundedProtocol

PUBLIC = "everybody may read /metrics: set METRICS_PORT to give it a port of its own, or METRICS_TOKEN"

logger = logging.getLogger(__name__)


class PortTaken(RuntimeError):
    """METRICS_PORT cannot be listened on. The message is one line."""


class ProbesAlone:
    """Hands on requests for metrics and probes. Nothing else is there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in PROBES:
            await self._app(scope, receive, send)
        else:
            await problem(NotFound())(scope, receive, send)


@asynccontextmanager
async def listen(app: ASGIApp, settings: Settings) -> AsyncIterator[None]:
    """Answer on METRICS_PORT until the block ends, so that readiness can be asked during a shutdown.

    Without one, warn if everybody may read the metrics of a production.

    Raises:
        PortTaken: see its class.
    """
    if settings.metrics_port is None:
        if settings.environment == "production" and settings.metrics_enabled and not settings.metrics_token:
            logger.warning(PUBLIC)
        yield
        return
    config = uvicorn.Config(ProbesAlone(app), lifespan="off", log_config=None, access_log=False, proxy_headers=False)
    config.load()
    state = ServerState()

    def protocol() -> BoundedProtocol:
        return BoundedProtocol(config=config, server_state=state, app_state={})

    try:
        server = await asyncio.get_running_loop().create_server(protocol, settings.host, settings.metrics_port)
    except OSError as error:
        reason = f"{settings.host}:{settings.metrics_port} cannot be listened on: {error.strerror}."
        raise PortTaken(f"METRICS_PORT: {reason}") from None
    try:
        yield
    finally:
        server.close()
        for connection in [*state.connections]:
            connection.shutdown()
