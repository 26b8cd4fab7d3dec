"""Where an endpoint runs: what blocks in a thread with a connection of its own, what does not on the event loop."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from functools import partial, wraps
from threading import Event, current_thread
from time import monotonic

import pytest
from fastapi import APIRouter

from app.auth import CurrentUser
from app.main import create_app
from app.settings import Settings
from app.web.route import ApiRoute
from tests.support import SECRET, UNLIMITED, Api, run_api


def where() -> str:
    return current_thread().name.partition("_")[0]


class Blocking:
    def __call__(self, user: CurrentUser) -> str:
        return f"{where()} {user.user_id}"


class Coroutine:
    async def __call__(self, user: CurrentUser) -> str:
        return f"{where()} {user.user_id}"


def endpoint(user: CurrentUser, greeting: str = "") -> str:
    return f"{greeting}{where()} {user.user_id}"


async def coroutine(user: CurrentUser) -> str:
    return f"{where()} {user.user_id}"


def decorated(call: Callable[..., object]) -> Callable[..., object]:
    @wraps(call)
    async def wrapper(**arguments: object) -> object:
        return call(**arguments)

    return wrapper


ENDPOINTS: dict[str, tuple[Callable[..., object], bool]] = {
    "function": (endpoint, True),
    "partial": (partial(endpoint, greeting=""), True),
    "object": (Blocking(), True),
    "method": (Blocking().__call__, True),
    "coroutine": (coroutine, False),
    "decorated": (decorated(endpoint), False),
    "coroutine-object": (Coroutine(), False),
}


@pytest.fixture
def api(database_url: str) -> AbstractContextManager[Api]:
    child, router = APIRouter(route_class=ApiRoute), APIRouter(prefix="/api/where", route_class=ApiRoute)
    for name, (call, _) in ENDPOINTS.items():
        router.add_api_route(f"/{name}", call, name=name)
        router.add_api_route("/stop", lambda: next(iter(())))
        child.add_api_route(f"/{name}", call, name=name)
    router.include_router(child, prefix="/nested")
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, **UNLIMITED)
    return run_api(settings, lambda chosen, draining: create_app(chosen, draining, entities=[router]))


def test_what_blocks_runs_in_a_worker_thread(api: AbstractContextManager[Api]) -> None:
    """Whatever kind of callable it is, and however deep its router is nested."""
    with api as served, served.client("alice") as client:
        for name, (_, blocks) in ENDPOINTS.items():
            for prefix in ("", "/nested"):
                thread, user = client.get(f"/api/where{prefix}/{name}").json().rsplit(None, 1)
                assert (thread == "worker", user) == (blocks, "alice"), name


def test_who_gets_no_thread_waits_for_none_beyond_the_deadline(database_url: str) -> None:
    """What a team's `def` code does for long holds nobody else up: who got no thread in time is refused."""
    router, may_end = APIRouter(prefix="/api", route_class=ApiRoute), Event()
    router.add_api_route("/long", lambda: may_end.wait(30))
    settings = Settings(
        database_url=database_url, better_auth_secret=SECRET, database_pool_size=2, request_deadline_ms=500, **UNLIMITED
    )
    with (
        run_api(settings, lambda chosen, draining: create_app(chosen, draining, entities=[router])) as api,
        api.client() as alice,
        ThreadPoolExecutor(3) as users,
    ):
        asked = [users.submit(alice.get, "/api/long") for _ in range(3)]
        started = monotonic()
        refused = next(as_completed(asked))
        assert monotonic() - started < 5
        may_end.set()
        answers = [answer.result() for answer in asked]
        assert alice.get("/api/long").json() is True
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503]
    assert (refused.result().json()["code"], refused.result().headers["retry-after"]) == ("overloaded", "1")


def test_an_endpoint_that_stops_an_iteration_hangs_nobody(api: AbstractContextManager[Api]) -> None:
    """StopIteration, which no future can hold, is an error like any other, and its thread is free again."""
    with api as served, served.client("alice") as client:
        assert [client.get("/api/where/stop").status_code for _ in range(3)] == [500, 500, 500]
        assert client.get("/api/where/function").status_code == 200
