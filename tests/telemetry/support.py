"""What the tests of traces look for."""

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import httpx
from fastapi import APIRouter

from tests.otlp_receiver import Receiver, Span
from tests.process import Process
from tests.web.team import api_router

WAITS = {"look-up", "connect", "pool ping", "pool wait"}  # spans of what took long, on a busy machine at least
FAULTS = ["dead", "hanging", "500", "429", "slow"]


def router_of(endpoint: Callable[..., object]) -> APIRouter:
    """An entity of one route, `/api/own`."""
    router = api_router()
    router.add_api_route("/own", endpoint)
    return router


def server_span(receiver: Receiver, answer: httpx.Response) -> Span:
    return next(span for span in trace_of(receiver, answer) if span["kind"] == "SERVER")


def statements(receiver: Receiver, answer: httpx.Response) -> list[Span]:
    """The database spans of an answer, in their order."""
    found = [span for span in trace_of(receiver, answer) if span["kind"] == "CLIENT"]
    return sorted(found, key=lambda span: int(span["start"]))


def statement(receiver: Receiver, answer: httpx.Response) -> Span:
    """The one database span of an answer."""
    (found,) = statements(receiver, answer)
    return found


def trace_of(receiver: Receiver, answer: httpx.Response) -> list[Span]:
    return receiver.trace(answer.headers["x-trace-id"])


def stop(process: Process) -> float:
    """Ask it to end; the seconds that took."""
    started = monotonic()
    process.popen.send_signal(signal.SIGTERM)
    process.popen.wait(40)
    return monotonic() - started


def entries(process: Process) -> list[dict[str, Any]]:
    """Its log's lines, each of which is JSON."""
    return [json.loads(line) for line in process.output().splitlines()]


@contextmanager
def in_trouble(kind: str, receiver: Receiver) -> Iterator[str]:
    """The URL of a collector with some fault."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == "hanging":
            listener.listen(128)
        if kind in {"dead", "hanging"}:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            return
    receiver.delay_s, receiver.status = {"500": (0, 500), "429": (0, 429), "slow": (1.5, 200)}[kind]
    yield receiver.url
