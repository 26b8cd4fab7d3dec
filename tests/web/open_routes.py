"""Applications with routes that nobody asks for a token, and what strangers get of them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from app.main import create_app
from app.settings import Settings
from tests.support import SECRET, make_token

NOWHERE = Settings(database_url="postgresql://nowhere/nothing", better_auth_secret=SECRET, otel_sdk_disabled=True)
GOOD = {"Authorization": f"Bearer {make_token()}"}


def leaf(path: str, route_class: type[APIRoute], done: list[str]) -> APIRouter:
    """A router of one route, which notes that it was reached."""
    router = APIRouter(route_class=route_class)
    router.add_api_route(path, lambda: done.append(path), methods=["GET"])
    return router


def catch_all(done: list[str]) -> APIRouter:
    return leaf("/{rest:path}", APIRoute, done)


@contextmanager
def running(*routers: APIRouter) -> Iterator[FastAPI]:
    app = create_app(NOWHERE, entities=routers)
    yield app
    for resource in (app.state.workers, app.state.database):
        resource.close()


def ask(app: FastAPI, *paths: str, headers: dict[str, str] | None = None) -> list[httpx.Response]:
    async def get() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            return [await client.get(path, headers=headers) for path in paths]

    return asyncio.run(get())
