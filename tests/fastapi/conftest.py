"""The applications to compare. Each starts when a test needs it, once for all tests."""

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
from tests.fastapi.apps import Recorder, RunningApp
from tests.fastapi.table import THEMES
from tests.support import SECRET, UNLIMITED, run_api

GetApp = Callable[[str, str], RunningApp]


def routers(kind: str, route_class: type[APIRoute]) -> list[APIRouter]:
    """Return the routers of an application of this kind."""
    themes = [application] if kind == "application" else THEMES
    return [theme.router(route_class) for theme in themes]


def fastapi_app(kind: str, make: Callable[..., Any]) -> ASGIApp:
    """Return FastAPI without the template, with the routers of this kind."""
    app = make(lifespan=application.lifespan) if kind == "application" else make()
    for router in routers(kind, APIRoute):
        app.include_router(router)
    if kind == "application":
        application.customise(app, APIRoute)
    asgi: ASGIApp = app
    return asgi


def template_app(kind: str, settings: Settings, draining: Event) -> Any:
    """Return the template with the routers of this kind."""
    if kind == "routes":
        return create_app(settings, draining, entities=routers(kind, ApiRoute))
    create: Any = create_app
    app = create(settings, draining, entities=routers(kind, ApiRoute), lifespan=application.lifespan)
    application.customise(app, ApiRoute)
    return app


@pytest.fixture(scope="session")
def diff_settings(new_database: Callable[[], str]) -> Settings:
    return Settings(database_url=new_database(), better_auth_secret=SECRET, **UNLIMITED)


@pytest.fixture(scope="session")
def served(diff_settings: Settings) -> Iterator[GetApp]:
    """Return a running app by its maker (`plain`, `twin`, `template`) and its kind (`routes`, `application`)."""
    with ExitStack() as stack:

        @cache
        def start(maker: str, kind: str) -> RunningApp:
            if maker != "template":
                recorder = Recorder(fastapi_app(kind, getattr(apps, maker)))
                return stack.enter_context(apps.open_client(recorder, stack.enter_context(apps.run_uvicorn(recorder))))
            recorders: list[Recorder] = []

            def create(settings: Settings, draining: Event) -> Recorder:
                recorders.append(Recorder(template_app(kind, settings, draining)))
                return recorders[0]

            api = stack.enter_context(run_api(diff_settings, create))
            return stack.enter_context(apps.open_client(recorders[0], api.port))

        yield start
