"""create_app: the one place where everything is wired."""

from asyncio import gather
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from threading import Event
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.types import Lifespan

from app import health, migrations
from app.auth.authenticator import authenticator_for
from app.db.database import Database
from app.db.pool import watch_event_loop
from app.health import Readiness
from app.ratelimit.limiter import RateLimits
from app.settings import Settings
from app.tasks.routes import router as tasks
from app.telemetry import logs
from app.telemetry.event_loop import EventLoopWatch
from app.telemetry.log_export import LogExport
from app.telemetry.server_span import BeforeSpan, RequestObserver, WithinSpan
from app.telemetry.statements import SlowStatements, StatementObserver
from app.telemetry.tracing import Processor, Tracing
from app.web.api import Api, Edge
from app.web.cors import allow_origins
from app.web.event_streams import EventStreams
from app.web.guard import Guard
from app.web.metrics import measure
from app.web.metrics_port import listen
from app.web.overload import OVERLOAD, Overload
from app.web.problems import HANDLERS, answer_unexpected
from app.web.proxy import Proxy
from app.web.threads import Workers

VERSION = "0.1.0"
ENTITIES: tuple[APIRouter, ...] = (tasks,)


def create_app(
    settings: Settings | None = None,
    draining: Event | None = None,
    *,
    entities: Sequence[APIRouter] | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
    span_processors: Sequence[Processor] = (),
) -> Api:
    """Return the application, independent of any other in the process: FastAPI, to which more can be added.

    Without `settings` it reads them from the environment; without `entities` it has ENTITIES. `lifespan` is run as
    FastAPI would. `span_processors` see each span that ends. Once `draining` is set, readiness fails and answers close
    their connections.

    Raises:
        SettingsError: the environment's settings are wrong, or not enough to serve with.
        BrokenMigrations: the files in `app/migrations/versions` are not one line of revisions.
        NameTaken: a metric of prometheus_client's default registry has the name of one of the application's.
        RefusedRoute: a route of `entities` would answer under /api without a token, is a WebSocket's, or has
            a deadline that is none.
    """
    settings = settings or Settings.complete()
    draining = draining or Event()
    api = Api(
        title="Task API",
        version=VERSION,
        exception_handlers=HANDLERS,
        lifespan=_lifespan,
        redirect_slashes=False,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    provide(api, settings, draining)
    observe(api, settings, draining, span_processors)
    api.include_router(health.router)
    api.add_entities(ENTITIES if entities is None else entities)
    if lifespan:
        api.include_router(APIRouter(lifespan=lifespan))
    api.effective_routes.verify()
    return api


def provide(api: Api, settings: Settings, draining: Event) -> None:
    """Give the application what its requests are served with."""
    api.state.settings = settings
    api.state.database = database = Database.from_settings(settings)
    database.listen(partial(watch_event_loop, refuse=settings.environment == "development"))
    api.state.workers = Workers(settings.database_pool_size)
    api.state.authenticator = authenticator_for(settings)
    api.state.limits = RateLimits(settings)
    api.state.event_streams = EventStreams(draining)
    api.state.readiness = Readiness(database, migrations.revisions(), draining)


def observe(api: Api, settings: Settings, draining: Event, span_processors: Sequence[Processor]) -> None:
    """Put guards and observers around the application, from the inside out."""
    api.state.tracing = tracing = Tracing(settings, VERSION, span_processors, trees=logs.in_terminal(settings))
    api.state.log_export = LogExport(settings, VERSION)
    tracer, database = tracing.tracer, api.state.database
    guard = Guard(BeforeSpan(api.inner, settings, tracing.sampling), api.effective_routes, settings.max_in_flight)
    api.state.overload = Overload(guard, settings, draining)
    api.state.metrics = metrics = measure(api, guard) if settings.metrics_enabled else None
    api.keep_outside(Middleware(WithinSpan, tracer, answer_unexpected))
    measured = metrics.database if metrics else None
    slow = SlowStatements(settings.slow_query_ms, database.explain)
    database.listen(partial(StatementObserver, tracer, measured, slow))
    tracing.trace_requests(api, api.effective_routes.find)
    api.state.event_loop = EventLoopWatch(metrics.loop_lag.observe) if metrics else EventLoopWatch()
    observer = RequestObserver(settings, tracing, measured, api.state.event_loop)
    app = allow_origins(guard, settings)
    if settings.root_path or settings.forwarded_allow_ips:
        app = Proxy(app, settings.root_path, settings.forwarded_allow_ips)
    api.outer = Edge(app, api, settings.request_deadline_ms / 1000, observer, draining)


@asynccontextmanager
async def _lifespan(api: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Open what the application serves with, run its own handlers of startup and shutdown, and close it again."""
    state = api.state
    async with state.event_loop.running():
        try:
            await state.limits.open()
            await api.router._startup()  # those of `on_event`, which FastAPI leaves to its default lifespan
            async with listen(api, state.settings):
                yield {OVERLOAD: state.overload}
            await api.router._shutdown()
        finally:
            state.limits.close()
            state.workers.close()
            state.database.close()
            await gather(state.tracing.close(), state.log_export.close())
