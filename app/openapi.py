"""The OpenAPI document as the API serves it, without a database or a port."""

import asyncio
import json

import httpx
from pydantic import SecretStr

from app.main import create_app
from app.settings import MIN_SECRET_BYTES, Settings


def document() -> str:
    """Return the OpenAPI document as JSON.

    Raises:
        SettingsError: a variable is wrong, though none of them is in the document.

    """
    return json.dumps(asyncio.run(_served()), indent=2) + "\n"


async def _served() -> object:
    nowhere, secret = SecretStr("postgresql+psycopg2://nowhere/nothing"), SecretStr("-" * MIN_SECRET_BYTES)
    app = create_app(Settings.load(environment="development", database_url=nowhere, better_auth_secret=secret))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://nowhere") as client:
        return (await client.get("/openapi.json")).raise_for_status().json()
