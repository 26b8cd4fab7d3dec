"""A route's own deadline: what ends at it, in every way to write an endpoint, and what is refused at the start."""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from math import nan
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, UploadFile
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import text

from app.auth import CurrentUser
from app.db import CurrentDatabase, CurrentSession
from app.main import create_app
from app.settings import Settings
from app.web.deadline import Deadline
from app.web.gate import RefusedRoute
from app.web.route import ApiRoute
from tests.docs.pages import blocks
from tests.support import SECRET, UNLIMITED, run_api, wait_until
from tests.web.team import NO_DATABASE

USUAL_MS = 300
LONG, SHORT = Depends(Deadline(seconds=20)), Depends(Deadline(seconds=0.2))
GIVEN = text("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'")

inner = APIRouter(route_class=ApiRoute)
router = APIRouter(prefix="/api/own", route_class=ApiRoute)
later: list[int] = []


@router.get("/usual")
@router.get("/sync", dependencies=[LONG])
@inner.get("/inherited")
@inner.get("/nearest", dependencies=[Depends(Deadline(seconds=10))])
def given_ms(database: CurrentDatabase, user: CurrentUser) -> int:
    """How long the server may take for a statement."""
    return int(database.execute(user, GIVEN, {})[0][0])


@router.get("/async", dependencies=[LONG])
async def given_in_thread(database: CurrentDatabase, user: CurrentUser) -> int:
    return await run_in_threadpool(given_ms, database, user)


@router.get("/transaction", dependencies=[LONG])
def given_in_transaction(database: CurrentDatabase, user: CurrentUser) -> int:
    with database.transaction(user) as session:
        return int(session.connection().execute(GIVEN).scalar_one())


@router.get("/session", dependencies=[LONG])
def given_in_session(session: CurrentSession) -> int:
    return int(session.connection().execute(GIVEN).scalar_one())


@router.post("/upload", dependencies=[LONG], max_body_size=1024 * 1024)
def given_after_upload(file: UploadFile, database: CurrentDatabase, user: CurrentUser) -> int:
    return given_ms(database, user) if file.size else 0


@router.post("/afterwards", dependencies=[LONG])
def given_afterwards(tasks: BackgroundTasks, database: CurrentDatabase, user: CurrentUser) -> None:
    tasks.add_task(lambda: later.append(given_ms(database, user)))


@router.get("/patient", dependencies=[LONG])
def patient(database: CurrentDatabase, user: CurrentUser) -> int:
    time.sleep(USUAL_MS / 1000)
    return given_ms(database, user)


@router.get("/cut", dependencies=[SHORT])
def cut(database: CurrentDatabase, user: CurrentUser) -> None:
    database.execute(user, text("SELECT pg_sleep(20)"), {})


async def call_slowly() -> None:
    await asyncio.sleep(0.25)


@router.get("/late", dependencies=[SHORT, Depends(call_slowly)])
def answer_late() -> str:
    return "late"


@router.get("/crowded", dependencies=[Depends(Deadline(seconds=0.6))])
def crowded(database: CurrentDatabase, user: CurrentUser) -> None:
    """Hold the only connection, and ask for another one."""
    with database.transaction(user) as session:
        session.connection()
        database.execute(user, GIVEN, {})


(REPORT,) = blocks("docs/fastapi.md", __file__)
exec(REPORT)  # noqa: S102  our own page
router.include_router(inner, dependencies=[LONG])


@pytest.fixture(scope="module")
def alice(new_database: Callable[[], str]) -> Iterator[httpx.Client]:
    settings = Settings(
        database_url=new_database(),
        better_auth_secret=SECRET,
        request_deadline_ms=USUAL_MS,
        database_pool_size=1,
        **UNLIMITED,
    )
    with run_api(settings, partial(create_app, entities=[router])) as api, api.client() as client:
        yield client


@pytest.mark.parametrize("path", ["sync", "async", "transaction", "session", "inherited", "patient"])
def test_statements_follow_the_routes_deadline(alice: httpx.Client, path: str) -> None:
    """However the endpoint is written, and whether the deadline is the route's or its router's."""
    answer = alice.get(f"/api/own/{path}")
    assert answer.status_code == 200, answer.text
    assert 10_000 < answer.json() < 20_000


def test_the_nearest_deadline_counts(alice: httpx.Client) -> None:
    """A route's before its router's; a route without one has that of the setting."""
    assert 5_000 < alice.get("/api/own/nearest").json() < 10_000
    assert 0 < alice.get("/api/own/usual").json() < USUAL_MS


def test_an_upload_has_it_once_the_body_is_here(alice: httpx.Client) -> None:
    """A body that is not read beforehand."""
    answer = alice.post("/api/own/upload", files={"file": bytes(200_000)})
    assert 10_000 < answer.json() < 20_000


def test_work_after_the_answer_has_as_much(alice: httpx.Client) -> None:
    """For each statement."""
    later.clear()
    assert alice.post("/api/own/afterwards").status_code == 200
    wait_until(lambda: later)
    assert 10_000 < later[0] < 20_000


def test_a_shorter_one_ends_the_wait(alice: httpx.Client) -> None:
    """It is the same 503 as for the usual one."""
    started = time.monotonic()
    answer = alice.get("/api/own/cut")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert time.monotonic() - started < 5


def test_what_needs_no_database_answers_late(alice: httpx.Client) -> None:
    """A call of another service took all of the time: a thread that is free is had all the same."""
    assert {alice.get("/api/own/late").text for _ in range(5)} == {'"late"'}


def test_a_wait_for_a_connection_ends_at_it(alice: httpx.Client) -> None:
    """Not at the usual deadline, nor later."""
    answer = alice.get("/api/own/crowded")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert 500 <= answer.json()["spent"]["waiting_ms"] < 2000


def test_the_report_of_the_page_is_made(alice: httpx.Client) -> None:
    """As it stands there."""
    assert alice.get("/api/own/report").json() == 1_000_000


@pytest.mark.parametrize("seconds", [0, -1, 0.1, 60.1, nan, "10"])
def test_a_deadline_that_is_none_is_refused_at_the_start(seconds: Any) -> None:
    """By the route's path, in one line."""
    wrong = APIRouter(prefix="/api", route_class=ApiRoute)
    wrong.add_api_route("/report", lambda: None, dependencies=[Depends(Deadline(seconds=seconds))])
    with pytest.raises(RefusedRoute, match=r"^/api/report has a deadline that is none: seconds must be 0\.2 to 60\.$"):
        create_app(NO_DATABASE, entities=[wrong])


def test_a_routers_deadline_is_looked_at_as_well() -> None:
    """By the path of each of its routes, outside of /api too."""
    plain, outer = APIRouter(), APIRouter()
    plain.add_api_route("/a", lambda: None)
    plain.add_api_route("/b", lambda: None, dependencies=[Depends(Deadline(seconds=2))])
    outer.include_router(plain, prefix="/public", dependencies=[Depends(Deadline(seconds=0))])
    with pytest.raises(RefusedRoute, match=r"^/public/a has .+\. /public/b has .+\.$"):
        create_app(NO_DATABASE, entities=[outer])


def test_every_refused_route_is_named() -> None:
    """Up to ten of them."""
    wrong, outer = APIRouter(), APIRouter(prefix="/api")
    for number in range(12):
        wrong.add_api_route(f"/open-{number}", lambda: None)
    outer.include_router(wrong)
    with pytest.raises(RefusedRoute) as refusal:
        create_app(NO_DATABASE, entities=[outer])
    assert str(refusal.value).count("would answer without a token") == 10
    assert str(refusal.value).endswith(" And 2 more.")
