"""A client that does not read its answer: that is no slowness of the API, and the log and the span say so."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from io import StringIO

from fastapi.responses import StreamingResponse

from tests.otlp_receiver import Receiver
from tests.support import Api, make_token, wait_until
from tests.telemetry.scrapes import scrape
from tests.web.raw import TOKEN, connect, request, send
from tests.web.team import api_router

UNREAD_S = 0.4
SIZE, PIECES = 2**20, 16  # far more than what the system keeps for a client

router = api_router()


@router.get("/large")
def large() -> StreamingResponse:
    def pieces() -> Iterator[bytes]:
        for _ in range(PIECES):
            yield b"x" * SIZE

    return StreamingResponse(pieces())


def test_the_time_that_a_client_does_not_read_is_told_apart(
    traced: Callable[..., AbstractContextManager[Api]], receiver: Receiver, log: StringIO
) -> None:
    """It is on the line and the span, and in no latency: no objective is missed by it."""
    with traced([router]) as api, connect(api.port) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        send(connection, request("GET", "/api/large", b"Authorization: Bearer " + TOKEN), token=make_token())
        received = len(connection.recv(1))
        time.sleep(UNREAD_S)  # the fault
        while received < PIECES * SIZE:  # its head and the lengths of its pieces aside
            received += len(connection.recv(SIZE))
        wait_until(lambda: "/api/large 200" in log.getvalue())
        (line,) = [json.loads(each) for each in log.getvalue().splitlines() if '"client_ms"' in each]
        assert line["duration_ms"] >= line["client_ms"] >= UNREAD_S * 1000 / 2
        assert line["response_bytes"] == PIECES * SIZE
        (span,) = receiver.wait_for(lambda spans: [each for each in spans if each["kind"] == "SERVER"])
        assert span["attributes"]["app.client.wait_ms"] == line["client_ms"]
        with api.client() as client:
            seen = scrape(client).value("http_request_duration_seconds_sum", handler="/api/large")
            assert seen < line["duration_ms"] / 1000 - UNREAD_S / 2
