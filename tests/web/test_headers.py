"""The headers of every answer, and who may read it across origins."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest

from tests.support import ORIGIN, Api, make_token, run_sql
from tests.web.cases import AUTH, JSON, messages
from tests.web.raw import exchange, request

PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "PATCH"}
WANTED = {
    "a list": (200, request("GET", "/api/examples", AUTH, f"Origin: {ORIGIN}")),
    "a new example": (201, request("POST", "/api/examples", AUTH, JSON, f"Origin: {ORIGIN}", body=b'{"title": "t"}')),
    "a stranger": (401, request("GET", "/api/examples", f"Origin: {ORIGIN}")),
    "an unknown example": (404, request("GET", "/api/examples/424242", AUTH, f"Origin: {ORIGIN}")),
    "an unknown path": (404, request("GET", "/api/nowhere", f"Origin: {ORIGIN}")),
    "a wrong method": (405, request("PUT", "/api/examples", f"Origin: {ORIGIN}")),
    "a large body": (413, request("POST", "/api/examples", f"Origin: {ORIGIN}", messages.LENGTH)),
    "a long target": (414, request("GET", "/api/" + "a" * 9000, f"Origin: {ORIGIN}")),
    "a bad query": (422, request("GET", "/api/examples?limit=0", AUTH, f"Origin: {ORIGIN}")),
    "many headers": (431, request("GET", "/api/examples", f"Origin: {ORIGIN}", *["a: b"] * 100)),
}


@pytest.mark.parametrize("name", WANTED)
def test_every_api_answer_has_its_headers(shared_api: Api, name: str) -> None:
    """Readable for the listed origin, never sniffed, never in a shared cache, errors included."""
    status, raw = WANTED[name]
    answer = exchange(shared_api.port, raw)
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == answer.headers["timing-allow-origin"] == ORIGIN
    assert {"Link", "Location"} <= set(answer.headers["access-control-expose-headers"].split(", "))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "private, no-cache"
    assert {"Authorization", "Origin"} <= set(answer.headers["vary"].split(", "))
    assert "server" not in answer.headers


@pytest.mark.parametrize("path", ["/health", "/health/live", "/docs", "/openapi.json", "/nowhere"])
def test_other_answers_are_safe_too(stranger: httpx.Client, path: str) -> None:
    """Outside the API as well nothing is sniffed and no URL leaks; a cache is nobody's concern there."""
    headers = stranger.get(path).headers
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert "cache-control" not in headers


def test_an_unexpected_error_is_readable_across_origins(
    serve: Callable[..., AbstractContextManager[Api]], database_url: str
) -> None:
    """A script sees the 500, not an opaque network error."""
    with serve(cors_origins=(ORIGIN,)) as api, api.client(Origin=ORIGIN) as client:
        run_sql(database_url, "ALTER TABLE example DROP COLUMN description")
        response = client.get("/api/examples")
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (500, ORIGIN)
        assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "origin",
    [
        *["https://evil.test", f"{ORIGIN}.evil.test", f"{ORIGIN}:444", ORIGIN.upper(), "null", "*", "", f"{ORIGIN}/"],
        *["tauri://localhost", "capacitor://localhost", "file://", f"{ORIGIN}, {ORIGIN}"],
    ],
)
def test_no_other_origin_may_read(stranger: httpx.Client, origin: str) -> None:
    """The origins are an exact list: the answer is given, and no script may read it."""
    headers = {"Origin": origin, "Authorization": f"Bearer {make_token()}"}
    response = stranger.get("/api/examples", headers=headers)
    assert response.status_code == 200
    assert names(response) == set()
    preflight = stranger.options("/api/examples", headers=PREFLIGHT | {"Origin": origin})
    assert (preflight.status_code, preflight.json()["code"]) == (400, "cors_refused")
    assert preflight.headers["content-type"] == "application/problem+json"
    assert names(preflight) == set()


def names(response: httpx.Response) -> set[str]:
    """Return the names of the headers by which other origins may read an answer."""
    return {name for name in response.headers if name.startswith("access-control") or name == "timing-allow-origin"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_a_listed_origin_may_use_every_method(stranger: httpx.Client, method: str) -> None:
    """A preflight needs no token, and allows the method and the headers that the API reads."""
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization,content-type"}
    response = stranger.options("/api/examples/1", headers=PREFLIGHT | asked)
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert method in response.headers["access-control-allow-methods"].split(", ")
    assert {"Authorization", "Content-Type"} <= set(response.headers["access-control-allow-headers"].split(", "))
    assert response.headers["x-content-type-options"] == "nosniff"
    assert not {"access-control-allow-credentials", "timing-allow-origin"} & names(response)


@pytest.mark.parametrize("header", ["baggage", "sentry-trace", "b3", "traceparent", "tracestate"])
def test_a_frontend_that_traces_passes_the_preflight(stranger: httpx.Client, header: str) -> None:
    """What the tracing libraries of browsers add to each request is allowed, beside the token."""
    asked = {"Access-Control-Request-Headers": f"authorization,{header}"}
    response = stranger.options("/api/examples", headers=PREFLIGHT | asked)
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert header in response.headers["access-control-allow-headers"].split(", ")


@pytest.mark.parametrize(
    "asked", [{"Access-Control-Request-Method": "TRACE"}, {"Access-Control-Request-Headers": "authorization, x-odd"}]
)
def test_a_preflight_for_more_is_refused(stranger: httpx.Client, asked: dict[str, str]) -> None:
    """A method that the API does not have, or a header it does not read; the browser's own message names it then."""
    response = stranger.options("/api/examples", headers=PREFLIGHT | asked)
    assert (response.status_code, response.json()["code"]) == (400, "cors_refused")
    assert response.json()["detail"] == "A method or header is not allowed across origins; CORS_HEADERS allows more."
    assert names(response) == {"access-control-allow-origin"}


def test_without_origins_nothing_crosses(api: Api) -> None:
    """By default no origin is allowed, and a preflight is a method like any other."""
    with api.client(Origin=ORIGIN) as client:
        assert names(client.get("/api/examples")) == set()
        assert client.options("/api/examples", headers=PREFLIGHT).status_code == 405
