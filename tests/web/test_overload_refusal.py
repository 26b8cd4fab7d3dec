"""One request too many is refused at its head, with all that any other refusal has."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from io import StringIO
from threading import Event
from typing import Any

import pytest
from fastapi import APIRouter

from app.main import create_app
from app.settings import Settings
from app.telemetry.logs import JsonFormatter
from app.web.route import ApiRoute
from tests.support import ORIGIN, SECRET, Api, make_token, run_api, wait_until

BODY = b'{"title": "an example"}'


@contextmanager
def full_api() -> Iterator[Api]:
    """Serve an application whose only place is taken until the block ends."""
    arrived, released = Event(), Event()
    router = APIRouter(prefix="/api", route_class=ApiRoute)

    @router.get("/held")
    def held() -> None:
        arrived.set()
        released.wait(20)

    settings = Settings(
        database_url="postgresql://no/d", better_auth_secret=SECRET, cors_origins=ORIGIN, max_in_flight=1
    )
    create = partial(create_app, entities=[router])
    with run_api(settings, create) as api, api.client() as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.get, "/api/held")
        assert arrived.wait(10)
        try:
            yield api
        finally:
            released.set()
            assert first.result().status_code == 200


def ask(connection: HTTPConnection, method: str, path: str, body: bytes | None = None) -> tuple[HTTPResponse, bytes]:
    headers = {"Authorization": f"Bearer {make_token()}"} | ({"Content-Type": "application/json"} if body else {})
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer, answer.read()


@pytest.fixture(scope="module")
def full() -> Iterator[Api]:
    with full_api() as api:
        yield api


@pytest.fixture
def connection(full: Api) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", full.port, timeout=10)
    yield connection
    connection.close()


def test_the_refusal_is_whole(connection: HTTPConnection) -> None:
    """It has the headers and the document of every 503, and a trace id of its own."""
    ids = set()
    for _ in range(2):
        answer, body = ask(connection, "GET", "/api/held?q=1")
        document = json.loads(body)
        ids.add(document.pop("trace_id"))
        assert answer.headers["x-trace-id"] in ids
        assert document == {
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "The service has more to do than it can for the moment.",
            "code": "overloaded",
        }
        assert answer.status == 503
        headers = {name.lower(): value for name, value in answer.getheaders()}
        assert headers.pop("date")
        assert headers.pop("x-trace-id")
        assert headers == {
            "content-length": str(len(body)),
            "content-type": "application/problem+json",
            "retry-after": "1",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "private, no-cache",
            "vary": "Authorization",
            "server-timing": "db;dur=0.0, total;dur=0.0",
        }
    assert len(ids) == 2


def test_a_script_can_read_it(full: Api) -> None:
    """With the time to wait."""
    with full.client(Origin=ORIGIN) as client:
        refused = client.get("/api/held")
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert refused.headers["access-control-allow-origin"] == refused.headers["timing-allow-origin"] == ORIGIN
    assert "Retry-After" in refused.headers["access-control-expose-headers"].split(", ")


def test_the_connection_goes_on(connection: HTTPConnection) -> None:
    """Whatever was refused, the next request on the connection gets its own answer."""
    for _ in range(3):
        assert ask(connection, "GET", "/api/held")[0].status == 503
        answer, body = ask(connection, "HEAD", "/api/held")
        assert (answer.status, body) == (503, b"")
        assert ask(connection, "POST", "/api/held", BODY)[0].status == 503
        assert ask(connection, "GET", "/health/live")[0].status == 200


@pytest.mark.parametrize("path", ["/health/live", "/health/live?a=b", "/metrics"])
def test_probes_and_preflights_are_answered(connection: HTTPConnection, path: str) -> None:
    """Probes are asked when it matters, and a preflight is no work."""
    assert ask(connection, "GET", path)[0].status != 503
    connection.request("OPTIONS", "/api/held", headers={"Origin": ORIGIN, "Access-Control-Request-Method": "GET"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Connection": "close"},
        {"Expect": "100-continue", "Content-Length": "5"},
        {"Transfer-Encoding": "chunked"},
        {"Upgrade": "h2c", "Connection": "upgrade"},
    ],
    ids=str,
)
def test_an_odd_request_is_refused_too(full: Api, headers: dict[str, str]) -> None:
    """What the short way does not take goes the long one, to the same answer."""
    connection = HTTPConnection("127.0.0.1", full.port, timeout=10)
    connection.putrequest("POST", "/api/held")
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    if "Content-Length" in headers:
        connection.send(b"hello")
    elif "Transfer-Encoding" in headers:
        connection.send(b"0\r\n\r\n")
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (503, "overloaded")
    connection.close()


def test_one_line_a_second_tells_of_all(full: Api) -> None:
    """A line for each would cost as much as an answer, when there is least of it."""
    written = StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("app.web.overload")
    logger.addHandler(handler)
    try:
        with full.client() as client:
            for _ in range(50):
                assert client.get("/api/held").status_code == 503
        wait_until(lambda: sum(line["refused"] for line in lines_of(written)) >= 50)
    finally:
        logger.removeHandler(handler)
    lines = lines_of(written)
    assert len(lines) < 10
    assert all((line["level"], line["code"]) == ("WARNING", "overloaded") for line in lines)
    assert all("trace_id" not in line for line in lines)


def lines_of(written: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]
