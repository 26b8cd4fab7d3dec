"""The record of a request: the edge begins it, every layer writes down what it finds out, telemetry reads it.

The event loop and the request's worker thread share it.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any

from opentelemetry.trace import INVALID_SPAN, Span, SpanContext
from starlette.types import Scope

WAIT_S = 0.005  # a wait worth a span: shorter ones are the interpreter's own switching (sys.getswitchinterval)
PROBES = {"/health", "/health/live", "/health/ready", "/metrics"}  # asked every few seconds, by nobody's user

Headers = list[tuple[bytes, bytes]]
Wait = tuple[str, float, float, str | None]  # for "threads" or "connections", start, end, why it was in vain


@dataclass(slots=True, eq=False)
class Record:
    """One request. Times are by `perf_counter`, but for the deadline, which is by `monotonic`."""

    timeout_s: float
    app: Any = None  # the application whose database, limits and threads serve the request
    scope: Scope = field(default_factory=dict)
    is_api: bool = False  # whether its path is under /api
    started: float = field(default_factory=perf_counter)
    deadline: float | None = None  # none before the body is here, and after the answer

    principal: Any = None  # app.auth.Principal, once the token is verified
    route: str | None = None  # the template of the route that was chosen, such as /api/tasks/{id}
    headers: dict[str, str] = field(default_factory=dict)  # to be sent, whatever the answer will be
    code: str | None = None  # of the problem that was answered

    status: int = 0  # 0 until the answer begins
    ended: float | None = None  # when the last byte of the answer was sent
    broken: bool = False  # the answer had begun when something was raised that nobody caught
    goes_on: bool = False  # a background task follows the answer
    counted: bool = False  # by the metrics, with its route

    in_flight: "set[Record] | None" = None  # the requests in flight, which hold it until its answer begins
    thread_wait: float = 0.0  # seconds until a worker thread began the endpoint
    connection_wait: float | None = None  # seconds until the first connection was had
    waits: list[Wait] = field(default_factory=list)  # long ones and those in vain, until they are spans

    queries: int = 0
    query_seconds: float = 0.0
    repeats: dict[str, int] = field(default_factory=dict)  # runs of each statement

    span: Span = INVALID_SPAN
    peer: str | None = None  # at the other end of the socket, whatever a proxy says of its client
    caller: SpanContext | None = None  # named by a traceparent of somebody whose sampling does not count
    hidden: tuple[Headers, bytes] | None = None  # headers and query string, while the span must not see them

    def start_deadline(self) -> None:
        """Count the request's time from now on: its body is here."""
        self.deadline = monotonic() + self.timeout_s

    def remaining(self) -> float:
        """Return for how many seconds a wait that begins now may last; below 0 once they are spent.

        While the body arrives, and once the answer has begun, each statement has the whole time for itself.
        """
        return self.timeout_s if self.status or self.deadline is None else self.deadline - monotonic()

    def note_wait(self, pool: str, start: float, error: str | None = None) -> None:
        """Note that a wait for one of `pool`, which began at `start`, is over."""
        end = perf_counter()
        if pool == "threads":
            self.thread_wait = end - start
        elif error is None and self.connection_wait is None:
            self.connection_wait = end - start
        if end - start >= WAIT_S or error:
            self.waits.append((pool, start, end, error))

    def count_statement(self, statement: str, seconds: float) -> None:
        """Count one statement that took `seconds`."""
        self.queries += 1
        self.query_seconds += seconds
        self.repeats[statement] = self.repeats.get(statement, 0) + 1


CURRENT: ContextVar[Record | None] = ContextVar("record", default=None)


def current() -> Record:
    """Return the record of the request at hand."""
    record = CURRENT.get()
    if record is None:
        raise RuntimeError("There is no request here, or not one to an application that app.main.create_app made.")
    return record
