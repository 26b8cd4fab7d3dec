"""Endpoints written with a session, as in FastAPI's tutorial on databases: bound to the user who asks all the same."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, HTTPException
from fastapi.responses import StreamingResponse
from sqlalchemy import text
from sqlmodel import Session, col, select

from app.auth import CurrentUser
from app.db import CurrentDatabase, CurrentSession
from app.main import create_app
from app.settings import Settings
from app.web.route import ApiRoute
from devtools.examples.models import Example
from tests.support import SECRET, UNLIMITED, Api, run_api
from tests.telemetry.scrapes import scrape

router = APIRouter(prefix="/api/notes", route_class=ApiRoute)


def write(session: Session, user_id: str, title: str) -> Example:
    given: dict[str, Any] = {"user_id": user_id, "title": title, "completed": False}
    note = Example(**given)
    session.add(note)
    return note


@router.post("")
def create(title: str, session: CurrentSession, user: CurrentUser) -> int:
    note = write(session, user.user_id, title)
    session.commit()
    session.refresh(note)
    return note.id


@router.get("")
def read_all(session: CurrentSession) -> list[str]:
    return list(session.exec(select(Example.title).order_by(col(Example.id))).all())


@router.get("/{id}")
def read_one(id: int, session: CurrentSession) -> str:
    note = session.get(Example, id)
    if not note:
        raise HTTPException(404, "Note not found")
    return note.title


@router.delete("/{id}")
def delete(id: int, session: CurrentSession) -> None:
    note = session.get(Example, id)
    if not note:
        raise HTTPException(404, "Note not found")
    session.delete(note)


@router.post("/refused")
def refused(title: str, session: CurrentSession, user: CurrentUser) -> None:
    write(session, user.user_id, title)
    session.flush()
    raise HTTPException(418, "on second thoughts")


@router.post("/twice")
def twice(session: CurrentSession, user: CurrentUser) -> None:
    for _ in range(2):
        write(session, user.user_id, "same key").idempotency_key = "key"


@router.post("/for/{other}")
def for_another(other: str, session: CurrentSession) -> None:
    write(session, other, "not mine")


@router.get("/stream/late")
def stream(session: CurrentSession) -> StreamingResponse:
    def lines() -> Iterator[str]:
        yield str(session.connection().exec_driver_sql("SELECT 1").scalar())

    return StreamingResponse(lines())


@router.get("/beside/one")
def one(database: CurrentDatabase, user: CurrentUser) -> int:
    return len(database.execute(user, text("SELECT 1"), {}))


@router.get("/late/transaction")
def late(database: CurrentDatabase, user: CurrentUser) -> int:
    time.sleep(0.5)
    with database.transaction(user) as session:
        return len(session.connection().exec_driver_sql("SELECT 1").all())


@router.get("/late/refusal")
def late_refusal(session: CurrentSession) -> None:
    session.connection().exec_driver_sql("SELECT 1")
    time.sleep(0.5)
    raise HTTPException(418, "the other service hangs")


@router.post("/renamed")
def rename_each(session: CurrentSession) -> None:
    new = [{"title": "before", "after": "after\0"}, {"title": "other", "after": "after"}]
    session.connection().execute(text("UPDATE example SET title = :after WHERE title = :title"), new)


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, **UNLIMITED)
    with run_api(settings, partial(create_app, entities=[router])) as served:
        yield served


def test_what_is_committed_is_there_for_its_user_alone(alice: httpx.Client, bob: httpx.Client) -> None:
    """By `exec`, `get` and `refresh`, after a commit as before it, with no filter in any query."""
    created = [alice.post("/api/notes?title=first").json(), bob.post("/api/notes?title=second").json()]
    assert [alice.get("/api/notes").json(), bob.get("/api/notes").json()] == [["first"], ["second"]]
    assert [alice.get(f"/api/notes/{note}").status_code for note in created] == [200, 404]
    assert bob.delete(f"/api/notes/{created[0]}").json()["detail"] == "Note not found"
    assert alice.get(f"/api/notes/{created[0]}").json() == "first"


def test_an_endpoint_need_not_commit(alice: httpx.Client) -> None:
    """What it left to do is committed before the answer is sent."""
    note = alice.post("/api/notes?title=short-lived").json()
    assert alice.delete(f"/api/notes/{note}").status_code == 200
    assert alice.get("/api/notes").json() == []


def test_an_exception_takes_it_all_back(alice: httpx.Client) -> None:
    """Nothing of a request that was refused is stored."""
    answer = alice.post("/api/notes/refused?title=never")
    assert (answer.status_code, answer.json()["detail"], answer.json()["code"]) == (
        418,
        "on second thoughts",
        "i_m_a_teapot",
    )
    assert alice.get("/api/notes").json() == []


def test_what_the_database_refuses_at_the_end_is_no_success(alice: httpx.Client) -> None:
    """The answer waits for the commit: a conflict is 409, and a row for another user is never stored."""
    conflict = alice.post("/api/notes/twice")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")
    assert alice.post("/api/notes/for/bob").status_code == 500
    assert alice.get("/api/notes").json() == []


def test_text_that_cannot_be_stored_is_refused_among_several(alice: httpx.Client) -> None:
    """Where a statement has several sets of parameters, as where it has one."""
    answer = alice.post("/api/notes/renamed")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_session_that_is_closed_is_of_no_use(database_url: str) -> None:
    """A stream that goes on with it breaks off; no connection is lost, however often."""
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, database_pool_size=2, **UNLIMITED)
    with run_api(settings, partial(create_app, entities=[router])) as served, served.client() as alice:
        for _ in range(5):
            with pytest.raises(httpx.RemoteProtocolError):
                alice.get("/api/notes/stream/late")
        assert alice.get("/api/notes").json() == []
        assert scrape(alice).value("db_client_connections", state="used") == 0


def test_sessions_and_statements_do_not_wait_for_each_other(database_url: str) -> None:
    """Under load, with as many threads as connections, each gets its turn."""
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, database_pool_size=2, **UNLIMITED)
    served = run_api(settings, partial(create_app, entities=[router]))
    with served as api, api.client() as alice, ThreadPoolExecutor(20) as pool:
        paths = ["/api/notes", "/api/notes/beside/one"] * 40
        answers = Counter(answer.status_code for answer in pool.map(alice.get, paths))
    assert answers == {200: 80}


def test_a_transaction_that_begins_too_late_is_refused(database_url: str) -> None:
    """Slow code used the time: the 503 says so; what failed before, for another reason, stays."""
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, request_deadline_ms=400, **UNLIMITED)
    with run_api(settings, partial(create_app, entities=[router])) as served, served.client() as alice:
        answer = alice.get("/api/notes/late/transaction")
        refused = [alice.get("/api/notes/late/refusal") for _ in range(3)]
        assert scrape(alice).value("db_client_connections", state="used") == 0
    assert (answer.status_code, answer.json()["code"]) == (503, "request_deadline")
    assert [answer.json()["detail"] for answer in refused] == ["the other service hangs"] * 3
