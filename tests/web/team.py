"""An application with a team's routers. It needs no server, since the routes use no database."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI

from app.main import create_app
from app.settings import Settings
from app.web.route import ApiRoute
from tests.support import SECRET, make_token

NO_DATABASE = Settings(database_url="postgresql://nowhere/d", better_auth_secret=SECRET, otel_sdk_disabled=True)
TOKEN = {"Authorization": f"Bearer {make_token()}"}

Client = httpx.AsyncClient


def call_routers(
    *routers: APIRouter, act: Callable[[Client], Awaitable[Any]], prepare: Callable[[FastAPI], object] = id
) -> Any:
    app = create_app(NO_DATABASE, entities=routers)
    prepare(app)

    async def run() -> Any:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with Client(transport=transport, base_url="http://api", headers=TOKEN) as client:
            return await act(client)

    try:
        return asyncio.run(run())
    finally:
        for resource in (app.state.workers, app.state.database):
            resource.close()


def api_router() -> APIRouter:
    return APIRouter(prefix="/api", route_class=ApiRoute)
