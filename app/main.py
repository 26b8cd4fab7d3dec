"""create_app: the one place where everything is wired."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from threading import Event
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app import health, migrations
from app.auth import Authenticator, SecretVerifier, Verifier
from app.db import Database
from app.errors import HANDLERS
from app.health import Readiness
from app.jwks import JwksVerifier, KeyCache
from app.ratelimit.limiter import RateLimits
from app.settings import Settings
from app.tasks.routes import router as tasks
from app.telemetry import logs
from app.telemetry.metrics import Metrics
from app.telemetry.queries import WatchedPool
from app.telemetry.requests import Observed, Unveiled, Veil
from app.telemetry.tracing import Tracing
from app.web.cors import Cors
from app.web.docs import Api
from app.web.guard import Guard
from app.web.headers import SafeHeaders
from app.web.route import ApiRoute
from app.web.threads import Workers

VERSION = "0.1.0"
ENTITIES = (tasks,)
EXPOSED = (
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Server-Timing",
    "X-Trace-Id",
)
ASKED = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "traceparent",
    "tracestate",
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

logger = logging.getLogger(__name__)


def create_app(
    settings: Settings, draining: Event | None = None, *, entities: Sequence[APIRouter] = ENTITIES
) -> ASGIApp:
    """Return the whole application, independent of any other in the process.

    Once `draining` is set, readiness fails and answers close their connections.
    """
    draining = draining or Event()
    database = Database.of(settings, WatchedPool)
    tracing = Tracing(settings, VERSION, trees=logs.in_terminal(settings))
    api = routed((*entities, health.router))
    api.state.settings = settings
    api.state.database = database
    api.state.workers = Workers(settings.database_pool_size)
    api.state.tracing = tracing
    api.state.authenticator = Authenticator(verifier_for(settings))
    api.state.limits = RateLimits(settings)
    api.state.readiness = Readiness(database, migrations.revisions(), draining)
    guard = Guard(Veil(api, settings.trust_traceparent), settings.max_in_flight, draining)
    api.state.metrics = measure(api, guard) if settings.metrics_enabled else None
    tracing.trace_statements(database)  # after the metrics, which do not count the time that explaining takes
    tracing.trace_requests(api)
    return Observed(outside(guard, settings), tracing.tracer, logs.RequestLog(settings, tracing.trees))


def routed(routers: Sequence[APIRouter]) -> Api:
    """Return FastAPI with the routes of all `routers`, flat: nested ones are looked up twice."""
    api = Api(
        title="Task API",
        version=VERSION,
        routes=[route for router in routers for route in router.routes],
        exception_handlers=HANDLERS,
        lifespan=_lifespan,
        redirect_slashes=False,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    refuse_open_routes(api)
    api.add_middleware(Unveiled)
    return api


def measure(api: FastAPI, guard: Guard) -> Metrics:
    """Connect what Prometheus is to learn of with whoever knows it."""
    state = api.state
    metrics = Metrics(state.settings, VERSION)
    metrics.watch(api, guard, state.database, state.workers)
    metrics.failures = lambda: state.limits.failures
    metrics.outcomes = lambda: state.limits.outcomes
    metrics.dropped = lambda: state.tracing.dropped
    return metrics


def verifier_for(settings: Settings) -> Verifier:
    """Return the verifier of the mode that `settings` choose: the keys at BETTER_AUTH_URL, else BETTER_AUTH_SECRET."""
    issuer, audience = settings.jwt_issuer, settings.jwt_audience
    if url := settings.better_auth_url:
        if settings.better_auth_secret:
            logger.info("BETTER_AUTH_URL is set: BETTER_AUTH_SECRET is not used for tokens")
        return JwksVerifier(KeyCache(f"{url}/api/auth/jwks"), issuer or url, audience or url)
    assert settings.better_auth_secret  # `serve` or the development defaults saw to it
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
    safe = SafeHeaders(cors if settings.cors_origins else guarded)
    if not settings.forwarded_allow_ips:
        return safe
    behind: Any = ProxyHeadersMiddleware  # uvicorn's types for ASGI are not Starlette's
    proxied: ASGIApp = behind(safe, list(settings.forwarded_allow_ips))
    return proxied


def refuse_open_routes(api: FastAPI) -> None:
    """Raise TypeError for a route under /api that would answer without a token, so that none can be forgotten."""
    for route in api.routes:
        path = getattr(route, "path", "")
        if path.startswith("/api") and not isinstance(route, ApiRoute):
            raise TypeError(f"{path} must be an ApiRoute: give its router route_class=ApiRoute")


@asynccontextmanager
async def _lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Let go of what was opened at the end."""
    await api.state.limits.open()
    async with api.state.metrics.running() if api.state.metrics else nullcontext():
        yield
    await api.state.limits.close()
    api.state.workers.close()
    api.state.readiness.close()
    api.state.database.close()
    await api.state.tracing.close()
