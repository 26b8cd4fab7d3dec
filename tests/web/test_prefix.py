"""Behind a proxy that serves the application under a path prefix, and takes the prefix away or leaves it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request

from app.main import create_app
from app.settings import Settings
from tests.support import SECRET, UNLIMITED, Api, run_api

PREFIX = "/task-service"
PROXY = {"forwarded_allow_ips": ("127.0.0.1",)}
FORWARDED = {"X-Forwarded-Prefix": PREFIX}
KNOWN: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"root_path": PREFIX}, {}),
    (PROXY, FORWARDED),
    (PROXY | {"root_path": PREFIX}, {"X-Forwarded-Prefix": "/another"}),
    (PROXY, FORWARDED | {"X-Forwarded-For": "203.0.113.7"}),
]
IDS = ["ROOT_PATH", "X-Forwarded-Prefix", "both", "a client of the proxy's"]
STRANGE = [
    "//evil.example",
    "/x//evil.example",
    "/\\evil.example",
    "https://evil.example",
    "/x/../..",
    "/./x",
    "/x/",
    "/",
    "",
    "x",
    "/x y",
    "/x?y",
    "/x%2fy",
    "/x, /y",
    "/api",
    f"/{'x' * 256}",
]
Serve = Callable[..., AbstractContextManager[Api]]

team = APIRouter()


@team.get("/hello")
async def hello(request: Request) -> list[str]:
    return [request.url.path, str(request.base_url)]


@pytest.fixture(scope="module", params=KNOWN, ids=IDS)
def behind(request: pytest.FixtureRequest, new_database: Callable[[], str]) -> Iterator[httpx.Client]:
    """A client of an API that is served under PREFIX."""
    own, headers = request.param
    settings = Settings(database_url=new_database(), better_auth_secret=SECRET, **UNLIMITED, **own)

    def create(*given: Any) -> FastAPI:
        app: FastAPI = create_app(*given)
        app.include_router(team)
        return app

    with run_api(settings, create) as api, api.client(**headers) as client:
        yield client


@pytest.fixture(params=["", PREFIX], ids=["taken away", "left"])
def left(request: pytest.FixtureRequest) -> str:
    """What the proxy leaves of the prefix."""
    return str(request.param)


def test_links_begin_with_the_prefix(behind: httpx.Client, left: str) -> None:
    """Location, Link, and what a team makes of the request's URL; each is what the client asks for next."""
    made = [behind.post(f"{left}/api/examples", json={"title": "an example"}) for _ in range(2)]
    assert [answer.headers["Location"] for answer in made] == [
        f"{PREFIX}/api/examples/{example.json()['id']}" for example in made
    ]
    page = behind.get(f"{left}/api/examples?limit=1&q=example")
    assert page.headers["Link"].startswith(f"<{PREFIX}/api/examples?limit=1&q=example&cursor=")
    assert behind.get(page.links["next"]["url"]).status_code == 200
    assert behind.get(f"{left}/hello").json() == [f"{PREFIX}/hello", f"{behind.base_url}{PREFIX}/"]


def test_the_documentation_finds_its_document(behind: httpx.Client, left: str) -> None:
    """And the document says where the API is."""
    assert f"'{PREFIX}/openapi.json'" in behind.get(f"{left}/docs").text
    assert behind.get(f"{left}/openapi.json").json()["servers"] == [{"url": PREFIX}]


def test_the_gate_is_as_closed(behind: httpx.Client, left: str) -> None:
    """Without a token it is a 401 that no cache keeps; and a prefix is taken away once only."""
    for method in ("GET", "POST"):
        answer = behind.request(method, f"{left}/api/examples", headers={"Authorization": ""})
        assert (answer.status_code, answer.headers["Cache-Control"]) == (401, "private, no-cache")
    assert behind.get(f"{PREFIX}{PREFIX}/api/examples").status_code == 404


@pytest.mark.parametrize("left", ["", "/api/inner"], ids=["taken away", "left"])
def test_a_prefix_that_looks_like_the_api_closes_and_opens_nothing(serve: Serve, left: str) -> None:
    """What is public stays public; what asks for a token does so."""
    with serve(root_path="/api/inner") as api, api.client(None) as stranger:
        document = stranger.get(f"{left}/openapi.json")
        assert (document.status_code, document.headers.get("Cache-Control")) == (200, None)
        assert stranger.get(f"{left}/api/examples").status_code == 401


@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8",)])
def test_a_stranger_has_no_prefix(serve: Serve, trusted: tuple[str, ...]) -> None:
    """Whatever address it claims for itself: who is believed is at the other end of the socket."""
    with serve(forwarded_allow_ips=trusted) as api, api.client(**FORWARDED) as client:
        client.headers["X-Forwarded-For"] = "10.0.0.1"
        created = client.post("/api/examples", json={"title": "an example"})
        assert created.headers["Location"] == f"/api/examples/{created.json()['id']}"
        assert client.get(f"{PREFIX}/api/examples").status_code == 404
        assert "servers" not in client.get("/openapi.json").json()


def test_what_is_no_prefix_is_ignored(serve: Serve) -> None:
    """However much the proxy is trusted: nobody is led to another host. A final slash is forgiven."""
    with serve(**PROXY) as api, api.client() as client:
        for strange in [*(text for text in STRANGE if text != "/x/"), PREFIX, f"{PREFIX}/"]:
            headers = {"X-Forwarded-Prefix": strange}
            location = client.post("/api/examples", json={"title": "an example"}, headers=headers).headers["Location"]
            is_prefix = strange.removesuffix("/") == PREFIX
            assert location.startswith("/task-service/" if is_prefix else "/api/examples/"), strange
        twice = [(name, value) for name, value in client.headers.items()] + [("X-Forwarded-Prefix", PREFIX)] * 2
        assert client.post("/api/examples", json={"title": "a"}, headers=twice).headers["Location"].startswith("/api")
