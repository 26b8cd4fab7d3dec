"""One request, one message: counted on the wire between the application and PostgreSQL."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url

from app.db.roles import ROLE
from devtools.postgres import Server
from tests.proxy import Proxy, run_proxy
from tests.support import Api, make_token, run_sql


@pytest.fixture
def tapped(cluster: Server) -> Iterator[Proxy]:
    with run_proxy(cluster.socket) as listening:
        yield listening


@pytest.fixture
def api_on_wire(tapped: Proxy, database_url: str, serve: Callable[..., AbstractContextManager[Api]]) -> Iterator[Api]:
    name = database_url.partition("?")[0].rpartition("/")[2]
    with serve(database_url=tapped.url(name)) as api:
        yield api


def test_a_call_that_hits_is_one_round_trip(tapped: Proxy, api_on_wire: Api) -> None:
    """Each call of the API sends one message, preamble and all; only a miss asks a second time."""
    with api_on_wire.client("alice") as alice:
        url = alice.post("/api/examples", json={"title": "warm"}).headers["Location"]
        tapped.queries()
        whole = {"title": "new", "description": None, "completed": True}
        keyed = {"Idempotency-Key": "key"}
        hits: list[tuple[str, str, Any, dict[str, str], int]] = [
            ("GET", "/api/examples?q=a&limit=1&order=oldest&completed=false", None, {}, 200),
            ("GET", url, None, {}, 200),
            ("GET", url, None, {"If-None-Match": '"1"'}, 304),
            ("POST", "/api/examples", {"title": "example"}, keyed, 201),
            ("PUT", url, whole, {"If-Match": '"1"'}, 200),
            ("PATCH", url, {"title": "newer"}, {}, 200),
            ("PATCH", f"{url}/complete", None, {}, 200),
            ("DELETE", url, None, {"If-Match": '"3"'}, 204),
        ]
        misses: list[tuple[str, str, Any, dict[str, str], int]] = [
            ("POST", "/api/examples", {"title": "example"}, keyed, 201),
            ("PATCH", url, {"title": "gone"}, {}, 404),
            ("DELETE", url, None, {}, 404),
        ]
        for expected, calls in ((1, hits), (2, misses)):
            for method, path, body, headers, status in calls:
                assert alice.request(method, path, json=body, headers=headers).status_code == status
                assert len(tapped.queries()) == expected, (method, path)


def test_a_message_carries_its_users_settings(tapped: Proxy, api_on_wire: Api) -> None:
    """Role, user and both deadlines come before the statement, local to its transaction; refusals send nothing."""
    with api_on_wire.client("alice") as alice:
        alice.get("/api/examples")
        tapped.queries()
        alice.get("/api/examples")
        (message,) = tapped.queries()
        comment, _, rest = message.partition("*/ ")
        assert comment.startswith("/*traceparent='00-")
        preamble, _, statement = rest.partition("; ")
        assert preamble.startswith(
            f"SELECT set_config('role', '{ROLE}', true), set_config('app.user_id', 'alice', true)"
        )
        assert statement.startswith("SELECT example.id")
        assert "app.org_id" not in preamble
        member = {"Authorization": f"Bearer {make_token('alice', org_id='acme')}"}
        alice.get("/api/examples", headers=member)
        (message,) = tapped.queries()
        assert "set_config('app.org_id', 'acme', true); SELECT example.id" in message
        alice.get("/api/examples?limit=0")
        alice.post("/api/examples", json={})
        httpx.get(f"{api_on_wire.url}/api/examples")
    assert tapped.queries() == []


def test_many_users_on_one_connection_stay_apart(serve: Callable[..., AbstractContextManager[Api]]) -> None:
    """With a pool of one connection, interleaved requests of ten users see their own examples alone."""
    users = [f"user_{number}" for number in range(10)]
    with serve(database_pool_size=1) as api:

        def work(user: str) -> set[str]:
            with api.client(user) as client:
                for number in range(10):
                    client.post("/api/examples", json={"title": f"{number}"})
                return {example["user_id"] for example in client.get("/api/examples").json()}

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(work, users)) == [{user} for user in users]


def test_times_are_utc_whatever_the_servers_zone(
    serve: Callable[..., AbstractContextManager[Api]], database_url: str
) -> None:
    """A login or database with a time zone of its own changes no answer."""
    name = make_url(database_url).database
    run_sql(database_url, f"ALTER ROLE tasks IN DATABASE {name} SET timezone = 'Europe/Berlin'")
    with serve() as api, api.client() as alice:
        example = alice.post("/api/examples", json={"title": "an example"}).json()
    assert example["created_at"].endswith("Z")
