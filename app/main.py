"""create_app: the one place where everything is wired."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from app import health, migrations
from app.auth import Authenticator, verifier_for
from app.db import Database
from app.errors import HANDLERS
from app.health import Readiness
from app.settings import Settings
from app.tasks.routes import router as tasks
from app.telemetry import logs
from app.telemetry.queries import WatchedPool
from app.telemetry.requests import Observed, Unveiled, Veil
from app.telemetry.tracing import Tracing
from app.web.docs import Api
from app.web.guard import Guard
from app.web.headers import SafeHeaders
from app.web.route import ApiRoute

ENTITIES = (tasks,)
EXPOSED = ("Link", "Location", "Server-Timing", "X-Trace-Id")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
VERSION = "0.1.0"


def create_app(settings: Settings, entities: Sequence[APIRouter] = ENTITIES) -> ASGIApp:
    """Return the whole application, independent of any other in the process."""
    assert settings.database_url  # Settings or the development defaults saw to it
    database = Database(settings.database_url.get_secret_value(), settings.database_pool_size, WatchedPool)
    tracing = Tracing(settings, VERSION, trees=logs.in_terminal(settings))
    tracing.trace_statements(database)
    api = Api(
        title="Task API",
        version=VERSION,
        routes=[route for router in (health.router, *entities) for route in router.routes],
        exception_handlers=HANDLERS,
        lifespan=_lifespan,
        redirect_slashes=False,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "auto_configure": False},
    )
    refuse_open_routes(api)
    api.add_middleware(Unveiled)
    tracing.trace_requests(api)
    api.state.settings = settings
    api.state.database = database
    api.state.tracing = tracing
    api.state.authenticator = Authenticator(verifier_for(settings))
    api.state.readiness = Readiness(database, migrations.head())
    served = outside(Veil(api, settings.trust_traceparent), settings)
    return Observed(served, tracing.tracer, logs.RequestLog(settings, tracing.trees))


def outside(api: ASGIApp, settings: Settings) -> ASGIApp:
    """Wrap `api` in what must also hold for the answers that it never gives."""
    cors = CORSMiddleware(
        SafeHeaders(Guard(api)),
        allow_origins=settings.cors_origins,
        allow_methods=METHODS,
        allow_headers=("Authorization", "Content-Type"),
        expose_headers=EXPOSED,
    )
    return cors if settings.cors_origins else cors.app


def refuse_open_routes(api: FastAPI) -> None:
    """Raise TypeError for a route under /api that would answer without a token, so that none can be forgotten."""
    for route in api.routes:
        path = getattr(route, "path", "")
        if path.startswith("/api") and not isinstance(route, ApiRoute):
            raise TypeError(f"{path} must be an ApiRoute: give its router route_class=ApiRoute")


@asynccontextmanager
async def _lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Size the threads as the pool, since each holds one connection; let go of all at the end."""
    to_thread.current_default_thread_limiter().total_tokens = api.state.settings.database_pool_size
    yield
    api.state.readiness.close()
    api.state.database.close()
    await api.state.tracing.close()
