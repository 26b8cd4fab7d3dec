"""The applications that are compared, each started when first asked for, once for all tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from threading import Event
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from app.main import create_app
from app.settings import Settings
from app.web.route import ApiRoute
from tests.fastapi import application, apps
from tests.fastapi.apps import Recorder, Served
from tests.fastapi.table import THEMES
from tests.support import SECRET, UNLIMITED, run_api

Ask = Callable[[str, str], Served]


def routers(kind: str, route_class: type[APIRoute]) -> list[APIRouter]:
    """Return what the applications of this kind serve."""
    themes = [application] if kind == "application" else THEMES
    return [theme.router(route_class) for theme in themes]


def fastapi_of(kind: str, make: Callable[..., Any]) -> ASGIApp:
    """Return the routers in an application without the template."""
    app = make(lifespan=application.lifespan) if kind == "application" else make()
    for router in routers(kind, APIRoute):
        app.include_router(router)
    if kind == "application":
        application.furnish(app, APIRoute)
    served: ASGIApp = app
    return served


def template_of(kind: str, settings: Settings, draining: Event) -> Any:
    """Return the routers in the template."""
    if kind == "routes":
        return create_app(settings, draining, entities=routers(kind, ApiRoute))
    create: Any = create_app
    app = create(settings, draining, entities=routers(kind, ApiRoute), lifespan=application.lifespan)
    application.furnish(app, ApiRoute)
    return app


@pytest.fixture(scope="session")
def diff_settings(new_database: Callable[[], str]) -> Settings:
    return Settings(database_url=new_database(), better_auth_secret=SECRET, **UNLIMITED)


@pytest.fixture(scope="session")
def served(diff_settings: Settings) -> Iterator[Ask]:
    """Give the application by its maker (`plain`, `twin`, `template`) and its kind (`routes`, `application`)."""
    with ExitStack() as stack:

        @cache
        def start(maker: str, kind: str) -> Served:
            if maker != "template":
                recorder = Recorder(fastapi_of(kind, getattr(apps, maker)))
                return stack.enter_context(apps.asked(recorder, stack.enter_context(apps.uvicorn_running(recorder))))
            made: list[Recorder] = []

            def create(settings: Settings, draining: Event) -> Recorder:
                made.append(Recorder(template_of(kind, settings, draining)))
                return made[0]

            api = stack.enter_context(run_api(diff_settings, create))
            return stack.enter_context(apps.asked(made[0], api.port))

        yield start
