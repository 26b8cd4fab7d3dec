"""How large requests and answers are: on the span, in the log and in the metrics."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from io import StringIO

import httpx
import pytest
from fastapi import Body
from fastapi.responses import StreamingResponse

from tests.otlp_receiver import Receiver
from tests.support import Api, wait_until
from tests.telemetry.scrapes import scrape, until
from tests.telemetry.support import server_span
from tests.web.team import api_router

PIECES = (b"a" * 1000, b"b" * 234)

router = api_router()


@router.get("/plain")
def plain() -> str:
    return "x" * 98


@router.get("/stream")
def stream() -> StreamingResponse:
    return StreamingResponse(iter(PIECES))


@router.post("/body")
def take(_: bytes = Body()) -> None:
    return None


def pieces() -> Iterator[bytes]:
    yield from PIECES


@pytest.fixture
def client(traced: Callable[..., AbstractContextManager[Api]]) -> Iterator[httpx.Client]:
    with traced([router]) as api, api.client(**{"Content-Type": "application/octet-stream"}) as running:
        yield running


CALLS = {
    "of a known length": (lambda client: client.get("/api/plain"), 0, 100),
    "of a stream, as it was sent": (lambda client: client.get("/api/stream"), 0, 1234),
    "of a HEAD, which has no body": (lambda client: client.head("/api/plain"), 0, 0),
    "of a body": (lambda client: client.post("/api/body", content=b"x" * 777), 777, 4),
    "of a body whose length was not given": (lambda client: client.post("/api/body", content=pieces()), 1234, 4),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_span_and_the_line_have_the_size(
    client: httpx.Client,
    receiver: Receiver,
    log: StringIO,
    call: tuple[Callable[[httpx.Client], httpx.Response], int, int],
) -> None:
    """Of the bodies, without the headers."""
    ask, request_bytes, response_bytes = call
    answer = ask(client)
    facts = server_span(receiver, answer)["attributes"]
    assert (facts["http.request.body.size"], facts["http.response.body.size"]) == (request_bytes, response_bytes)
    wait_until(lambda: '"response_bytes"' in log.getvalue())
    (line,) = [json.loads(line) for line in log.getvalue().splitlines() if '"response_bytes"' in line]
    assert (line["request_bytes"], line["response_bytes"]) == (request_bytes, response_bytes)


def test_the_metric_counts_what_a_stream_sent(client: httpx.Client) -> None:
    """It has no length of its own to go by, and is counted a moment after its end."""
    client.get("/api/stream")
    name = "http_response_size_bytes_sum"
    until(lambda: scrape(client).value(name, method="GET", handler="/api/stream"), lambda size: size == 1234)
