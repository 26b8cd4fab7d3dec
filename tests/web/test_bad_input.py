"""No input yields a 500, hangs, or is echoed: each gets the one status that fits, and the next request is served."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from app.settings import Settings
from tests.support import SECRET, UNLIMITED, Api, make_token, run_api
from tests.telemetry.scrapes import scrape
from tests.web.cases import AUTH, CANARY, JSON, Case, bodies, messages, targets
from tests.web.raw import Answer, connect, exchange, receive, request, send

GOOD = request("GET", "/api/examples?limit=1", AUTH)
CASES = [*bodies.CASES, *targets.CASES, *messages.CASES]


@pytest.fixture(scope="module")
def api(new_database: Callable[[], str]) -> Iterator[Api]:
    """One API for the whole table, with the example 1 in it."""
    settings = Settings(database_url=new_database(), better_auth_secret=SECRET, **UNLIMITED)
    with run_api(settings) as api, api.client() as client:
        assert client.post("/api/examples", json={"title": "first"}).json()["id"] == 1
        yield api


@pytest.fixture(scope="module")
def document(api: Api) -> Any:
    with api.client(None) as client:
        return client.get("/openapi.json").json()


@pytest.fixture(scope="module", autouse=True)
def dripped(api: Api) -> Iterator[Future[tuple[Answer, float]]]:
    """The answer to a body that comes a byte a second, and how long it took: asked beside all the other requests."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(drip, api.port)


def drip(port: int) -> tuple[Answer, float]:
    started = monotonic()
    with connect(port, timeout=1) as connection:
        send(connection, request("POST", "/api/examples", AUTH, JSON, "Content-Length: 60"), token=make_token())
        while monotonic() - started < 60:
            send(connection, b" ")
            try:
                return receive(connection), monotonic() - started
            except TimeoutError:
                continue
    raise AssertionError("no answer")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_request_gets_its_status(api: Api, document: Any, case: Case) -> None:
    """The exact status, within 5 s, in a documented form that echoes no value; and the next request succeeds."""
    started = monotonic()
    answer = exchange(api.port, case.raw, *case.more)
    assert answer.status == case.status, answer
    assert monotonic() - started < 5
    assert CANARY.encode() not in answer.body or answer.status < 400
    if case.parser:
        assert answer.media_type == "text/plain"
    else:
        assert_described(answer, case, document)
    assert exchange(api.port, GOOD).status == 200


def assert_described(answer: Answer, case: Case, document: Any) -> None:
    if answer.status >= 400 and not case.raw.startswith(b"HEAD"):
        assert answer.media_type == "application/problem+json"
        problem = answer.json()
        assert {"type", "title", "status", "detail", "code"} <= problem.keys()
        assert problem["status"] == answer.status
        assert re.fullmatch("[a-z_]+", problem["code"])
        assert ("errors" in problem) == (answer.status == 422)
    assert ("www-authenticate" in answer.headers) == (answer.status == 401)
    assert ("allow" in answer.headers) == (answer.status == 405)
    method, target = case.raw.decode("latin-1").split(" ", 2)[:2]
    documented = responses(document, "GET" if method == "HEAD" else method, target.partition("?")[0])
    assert documented is None or str(answer.status) in documented


def responses(document: Any, method: str, path: str) -> Any:
    """Return the documented responses of a call, None where there is no such call."""
    for template, operations in document["paths"].items():
        if re.fullmatch(re.sub("{.*?}", "[^/]+", template), path):
            return operations.get(method.lower(), {}).get("responses")
    return None


def test_a_body_that_does_not_arrive_is_given_up(api: Api, dripped: Future[tuple[Answer, float]]) -> None:
    """A byte a second gets 408 after 10 s, and counts; the connection ends: the rest may still be on its way."""
    answer, seconds = dripped.result(30)
    assert (answer.status, answer.json()["code"], answer.headers["connection"]) == (408, "body_timeout", "close")
    assert 9 < seconds < 15
    with api.client(None) as nobody:
        counted = scrape(nobody).value("http_requests_total", method="POST", handler="(door)", status="408")
    assert counted == 1


def test_a_refused_body_leaves_its_connection_usable(api: Api) -> None:
    """What is left of a body over the limit is read and thrown away: the next request on the connection is served."""
    with connect(api.port) as connection:
        send(connection, request("POST", "/api/examples", JSON, messages.LENGTH), *messages.SENT)
        assert receive(connection).status == 413
        send(connection, GOOD, token=make_token())
        assert receive(connection).status == 200


def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    """Good and bad ones, sent at once on one connection."""
    wanted = {
        "/api/examples": 200,
        "/api/examples/1.0": 404,
        "/api/examples?limit=0": 422,
        "/nowhere": 404,
        "/health/live": 200,
    }
    found: list[bytes] = []
    answers = b""
    with connect(api.port) as connection:
        send(connection, b"".join(request("GET", target, AUTH) for target in wanted), token=make_token())
        while len(found) < len(wanted) and (data := connection.recv(65536)):
            answers += data
            found = re.findall(rb"HTTP/1.1 (\d+)", answers)
    assert [int(status) for status in found] == list(wanted.values())


@pytest.mark.parametrize(("length", "first"), [("14", b"HTTP/1.1 100 "), ("20000000", b"HTTP/1.1 413 ")])
def test_a_client_that_asks_first_is_told_whether_to_go_on(api: Api, length: str, first: bytes) -> None:
    """`Expect: 100-continue` gets 100 for a body that would be read and the refusal for one that would not."""
    headers = [JSON, f"Content-Length: {length}", "Expect: 100-continue"]
    with connect(api.port) as connection:
        send(connection, request("POST", "/api/examples", AUTH, *headers), token=make_token())
        assert connection.recv(13) == first
