"""create_app: the one place where everything is wired."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Event

from anyio import to_thread
from fastapi import FastAPI
from starlette.types import ASGIApp

from app import health, migrations
from app.auth import Authenticator, SecretVerifier, Verifier
from app.db import Database
from app.errors import HANDLERS
from app.health import Readiness
from app.jwks import JwksVerifier, KeyCache
from app.ratelimit.limiter import RateLimits
from app.settings import Settings
from app.tasks.routes import router as tasks
from app.web.cors import Cors
from app.web.docs import Api
from app.web.guard import Guard
from app.web.headers import SafeHeaders
from app.web.route import ApiRoute

ENTITIES = (tasks,)
EXPOSED = (
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
)
ASKED = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

logger = logging.getLogger(__name__)


def create_app(settings: Settings, draining: Event | None = None) -> ASGIApp:
    """Return the whole application, independent of any other in the process.

    Once `draining` is set, readiness fails and answers close their connections.
    """
    draining = draining or Event()
    database = Database.of(settings)
    api = Api(
        title="Task API",
        version="0.1.0",
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
    api.state.limits = RateLimits(settings)
    api.state.readiness = Readiness(database, migrations.head(), draining)
    return outside(Guard(api, settings.max_in_flight, draining), settings)


def verifier_for(settings: Settings) -> Verifier:
    """Return the verifier of the mode that `settings` choose: the keys at BETTER_AUTH_URL, else BETTER_AUTH_SECRET."""
    issuer, audience = settings.jwt_issuer, settings.jwt_audience
    if url := settings.better_auth_url:
        if settings.better_auth_secret:
            logger.info("BETTER_AUTH_URL is set: BETTER_AUTH_SECRET is not used for tokens")
        return JwksVerifier(KeyCache(f"{url}/api/auth/jwks"), issuer or url, audience or url)
    assert settings.better_auth_secret  # Settings or the development defaults saw to it
    return SecretVerifier(settings.better_auth_secret.get_secret_value(), issuer, audience)


def outside(guarded: ASGIApp, settings: Settings) -> ASGIApp:
    """Wrap the application in what must hold for every answer, refusals of the guard included."""
    cors = Cors(
        guarded,
        allow_origins=settings.cors_origins,
        allow_methods=METHODS,
        allow_headers=ASKED,
        expose_headers=EXPOSED,
    )
    return SafeHeaders(cors if settings.cors_origins else guarded)


def refuse_open_routes(api: FastAPI) -> None:
    """Raise TypeError for a route under /api that would answer without a token, so that none can be forgotten."""
    for route in api.routes:
        path = getattr(route, "path", "")
        if path.startswith("/api") and not isinstance(route, ApiRoute):
            raise TypeError(f"{path} must be an ApiRoute: give its router route_class=ApiRoute")


@asynccontextmanager
async def _lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Size the threads as the pool, since each holds one connection; let go of what was opened at the end."""
    to_thread.current_default_thread_limiter().total_tokens = api.state.settings.database_pool_size
    await api.state.limits.open()
    yield
    await api.state.limits.close()
    api.state.readiness.close()
    api.state.database.close()
