"""What the tests of traces look for."""

import httpx

from tests.otlp_receiver import Receiver, Span


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
