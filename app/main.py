"""create_app: the one place where everything is wired."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from threading import Event

from anyio import to_thread
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from app import health, migrations
from app.auth import Authenticator, verifier_for
from app.db import Database
from app.errors import HANDLERS
from app.health import Readiness
from app.settings import Settings
from app.tasks.routes import router as tasks
from app.telemetry.metrics import Metrics
from app.web.docs import Api
from app.web.guard import Guard
from app.web.headers import SafeHeaders
from app.web.route import ApiRoute

VERSION = "0.1.0"
ENTITIES = (tasks,)
EXPOSED = ("ETag", "Idempotency-Replayed", "Link", "Location", "Retry-After")
ASKED = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def create_app(settings: Settings, draining: Event | None = None) -> ASGIApp:
    """Return the whole application, independent of any other in the process.

    Once `draining` is set, readiness fails and answers close their connections.
    """
    draining = draining or Event()
    database = Database.of(settings)
    api = Api(
        title="Task API",
        version=VERSION,
        routes=[route for router in (health.router, *ENTITIES) for route in router.routes],
        exception_handlers=HANDLERS,
        lifespan=_lifespan,
        redirect_slashes=False,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "auto_configure": False},
    )
    refuse_open_routes(api)
    api.state.settings = settings
    api.state.database = database
    api.state.authenticator = Authenticator(verifier_for(settings))
    api.state.readiness = Readiness(database, migrations.head(), draining)
    guard = Guard(api, settings.max_in_flight, draining)
    api.state.metrics = measure(api, guard) if settings.metrics_enabled else None
    return outside(guard, settings)


def measure(api: FastAPI, guard: Guard) -> Metrics:
    """Connect what Prometheus is to learn of with whoever knows it."""
    metrics = Metrics(api.state.settings, VERSION)
    metrics.watch(api, guard, api.state.database)
    metrics.failures = lambda: api.state.authenticator.failures
    return metrics


def outside(guarded: ASGIApp, settings: Settings) -> ASGIApp:
    """Wrap the application in what must hold for every answer, refusals of the guard included."""
    safe = SafeHeaders(guarded)
    cors = CORSMiddleware(
        safe,
        allow_origins=settings.cors_origins,
        allow_methods=METHODS,
        allow_headers=ASKED,
        expose_headers=EXPOSED,
    )
    return cors if settings.cors_origins else safe


def refuse_open_routes(api: FastAPI) -> None:
    """Raise TypeError for a route under /api that would answer without a token, so that none can be forgotten."""
    for route in api.routes:
        path = getattr(route, "path", "")
        if path.startswith("/api") and not isinstance(route, ApiRoute):
            raise TypeError(f"{path} must be an ApiRoute: give its router route_class=ApiRoute")


@asynccontextmanager
async def _lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Size the threads as the pool, since each holds one connection; let go of both at the end."""
    to_thread.current_default_thread_limiter().total_tokens = api.state.settings.database_pool_size
    async with api.state.metrics.running() if api.state.metrics else nullcontext():
        yield
    api.state.readiness.close()
    api.state.database.close()
