"""Endpoints written with a session, while the server is away."""

from functools import partial

import pytest
from fastapi import APIRouter
from sqlmodel import col, select

from app.db import CurrentSession
from app.main import create_app
from app.settings import Settings
from app.web.route import ApiRoute
from devtools.examples.models import Example
from tests.support import SECRET, UNLIMITED, run_api

router = APIRouter(prefix="/api/notes", route_class=ApiRoute)


@router.get("")
def read_all(session: CurrentSession) -> list[str]:
    return list(session.exec(select(Example.title).order_by(col(Example.id))).all())


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-name.invalid"])
def test_a_server_that_is_not_there_is_a_503(host: str) -> None:
    """Whether nobody listens, or nobody knows its name: the client is told to come again."""
    settings = Settings(
        database_url=f"postgresql+psycopg2://tasks@{host}/tasks", better_auth_secret=SECRET, **UNLIMITED
    )
    with run_api(settings, partial(create_app, entities=[router])) as api, api.client("alice") as alice:
        answer = alice.get("/api/notes")
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert "Retry-After" in answer.headers
