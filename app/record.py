"""The record of a request: the edge begins it, every layer writes down what it finds out, telemetry reads it.

The event loop and the request's worker thread share it.
"""

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any

from opentelemetry.trace import INVALID_SPAN, Span, SpanContext
from starlette.types import Scope

LATE_S = 0.11  # with less than this left a request's time counts as used up: the server gives up when 0.1 s are left
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
    is_event_stream: bool = False  # the answer has no end of its own
    is_over: bool = False  # an event stream was ended from outside: nothing more is sent
    goes_on: bool = False  # a background task follows the answer
    counted: bool = False  # by the metrics, with its route

    in_flight: "set[Record] | None" = None  # the requests in flight, which hold it until its answer begins
    thread_wait: float = 0.0  # seconds until a worker thread began the endpoint
    connection_wait: float | None = None  # seconds until the first connection was had
    waits: list[Wait] = field(default_factory=list)  # long ones and those in vain, until they are spans

    queries: int = 0
    query_seconds: float = 0.0
    repeats: dict[str, int] = field(default_factory=dict)  # runs of each statement
    longest_seconds: float = 0.0  # of a statement
    longest_query: str | None = None  # that one's operation and table
    calls: tuple[tuple[int, int], ...] = ()  # of other services, if traced: start and end in ns
    spent: dict[str, int] | None = None  # of a 503 whose time was used up: see `account`

    span: Span = INVALID_SPAN
    peer: str | None = None  # at the other end of the socket, whatever a proxy says of its client
    caller: SpanContext | None = None  # named by a traceparent of somebody whose sampling does not count
    hidden: tuple[Headers, bytes] | None = None  # headers and query string, while the span must not see them

    def start_deadline(self) -> None:
        """Count the request's time from now on: its body is here."""
        self.deadline = monotonic() + self.timeout_s

    def extend(self, seconds: float) -> None:
        """Let the request have `seconds` in all, in place of those that it began with; fewer as well."""
        if self.deadline is not None:
            self.deadline += seconds - self.timeout_s
        self.timeout_s = seconds

    def remaining(self) -> float:
        """Return for how many seconds a wait that begins now may last; below 0 once they are spent.

        While the body arrives, and once the answer has begun, each statement has the whole time for itself.
        """
        return self.timeout_s if self.status or self.deadline is None else self.deadline - monotonic()

    @property
    def is_late(self) -> bool:
        """Whether the request's time is used up, and its answer has not begun."""
        return self.deadline is not None and not self.status and self.deadline - monotonic() < LATE_S

    @property
    def database_seconds(self) -> float:
        """How long statements took, and the waits for a connection."""
        return self.query_seconds + sum(end - start for pool, start, end, _ in self.waits if pool == "connections")

    def account(self) -> dict[str, int]:
        """Return what used the time since the deadline began, in ms: `other` is what none of the rest explains.

        Without a trace nobody knows of calls: then there is no `calls`, and they are in `other`.
        """
        parts = {"waiting": sum(end - start for _, start, end, _ in self.waits), "database": self.query_seconds}
        if self.span.is_recording():
            parts["calls"] = covered(self.calls) / 1e9
        parts["other"] = max(0.0, self.timeout_s - self.remaining() - sum(parts.values()))
        return {f"{name}_ms": round(seconds * 1000) for name, seconds in parts.items()}

    def note_wait(self, pool: str, start: float, error: str | None = None) -> None:
        """Note that a wait for one of `pool`, which began at `start`, is over."""
        end = perf_counter()
        if pool == "threads":
            self.thread_wait = end - start
        elif error is None and self.connection_wait is None:
            self.connection_wait = end - start
        if end - start >= WAIT_S or error:
            self.waits.append((pool, start, end, error))

    def count_statement(self, statement: str, seconds: float, name: str) -> None:
        """Count one statement that took `seconds`; its `name` is its operation and table."""
        self.queries += 1
        if seconds > self.longest_seconds:
            self.longest_seconds, self.longest_query = seconds, name
        self.query_seconds += seconds
        self.repeats[statement] = self.repeats.get(statement, 0) + 1


def covered(intervals: Iterable[tuple[int, int]]) -> int:
    """Return how much the intervals cover: what lies within another, or at the same time, counts once."""
    total = until = 0
    for start, end in sorted(intervals):
        total += max(0, end - max(start, until))
        until = max(until, end)
    return total


CURRENT: ContextVar[Record | None] = ContextVar("record", default=None)


def current() -> Record:
    """Return the record of the request at hand."""
    record = CURRENT.get()
    if record is None:
        raise RuntimeError("There is no request here, or not one to an application that app.main.create_app made.")
    return record
