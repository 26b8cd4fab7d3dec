"""The record of a request: the edge begins it, every layer writes down what it finds out, telemetry reads it.

The event loop and the request's worker thread share it.
"""

from collections.abc import Hashable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from operator import itemgetter
from time import monotonic, perf_counter
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanContext
from starlette.types import Scope

LATE_S = 0.11  # with less than this left a request's time counts as used up: the server gives up when 0.1 s are left
N_PLUS_ONE = 5  # runs of one statement in one request
WAIT_S = 0.005  # a wait worth a span: shorter ones are the interpreter's own switching (sys.getswitchinterval)
PROBES = {"/health", "/health/live", "/health/ready", "/metrics"}  # asked every few seconds, by nobody's user

Headers = list[tuple[bytes, bytes]]
PLACES = ("threads", "connections")


class Wait(NamedTuple):
    """A wait for one of PLACES, or a step to the database."""

    kind: str
    start: float
    end: float
    error: str | None  # why it was in vain
    holders: "Sequence[Record]"  # who held all places when it began, the longest first


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
    found: tuple[Any, Any] | None = None  # method and path, and the route that app.web.gate.Routes found for them
    route: str | None = None  # the template of the route that was chosen, such as /api/tasks/{id}
    headers: dict[str, str] = field(default_factory=dict)  # to be sent, whatever the answer will be
    code: str | None = None  # of the problem that was answered

    request_bytes: int = 0  # of the body, as far as it was read
    response_bytes: int = 0  # of the answer's body, as far as it was sent
    sending: float = 0.0  # seconds that sending it took: most of a long one is a client that does not read

    status: int = 0  # 0 until the answer begins
    ended: float | None = None  # when the last byte of the answer was sent
    broken: bool = False  # the answer had begun when something was raised that nobody caught
    is_event_stream: bool = False  # the answer has no end of its own
    is_over: bool = False  # an event stream was ended from outside: nothing more is sent
    goes_on: bool = False  # a background task follows the answer
    counted: bool = False  # by the metrics, with its route

    in_flight: "set[Record] | None" = None  # the requests in flight, which hold it until its answer begins
    thread_wait: float = 0.0  # seconds until a worker thread began the endpoint
    connection_wait: float | None = None  # seconds until there was a place for the first connection
    waits: list[Wait] = field(default_factory=list)  # long ones and those in vain, until they are spans
    unanswered: str | None = None  # what the database did not answer first: look-up, connect, ping or statement

    queries: int = 0
    query_seconds: float = 0.0
    repeats: dict[str, int] = field(default_factory=dict)  # runs of each statement
    shapes: dict[str, Any] = field(default_factory=dict)  # app.telemetry.shapes.Shape of each
    longest_seconds: float = 0.0  # of a statement
    longest_query: str | None = None  # that one's operation and table
    calls: tuple[tuple[int, int], ...] = ()  # of other services, if traced: start and end in ns
    spent: dict[str, int] | None = None  # of a 503 whose time was used up: see `account`

    is_traced: bool = False  # the edge decided that the request is recorded
    context: Context | None = None  # to serve it in, where it is not
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
    def client_wait(self) -> float:
        """For how many seconds the answer waited for a client that did not read it; 0 if it was hardly any time."""
        return self.sending if self.sending >= WAIT_S else 0.0

    @property
    def is_late(self) -> bool:
        """Whether the request's time is used up, and its answer has not begun."""
        return self.deadline is not None and not self.status and self.deadline - monotonic() < LATE_S

    @property
    def database_seconds(self) -> float:
        """How long statements took, the steps to the server, and the waits for a place in the pool."""
        return self.query_seconds + self._waited() - self._waited("threads")

    def account(self) -> dict[str, int]:
        """Return what used the time since the deadline began, in ms: `other` is what none of the rest explains.

        Without a trace nobody knows of calls: then there is no `calls`, and they are in `other`.
        """
        waiting = self._waited(*PLACES)
        parts = {"waiting": waiting, "database": self.query_seconds + self._waited() - waiting}
        if self.span.is_recording():
            parts["calls"] = covered(self.calls) / 1e9
        parts["other"] = max(0.0, self.timeout_s - self.remaining() - sum(parts.values()))
        return {f"{name}_ms": round(seconds * 1000) for name, seconds in parts.items()}

    def _waited(self, *kinds: str) -> float:
        """Return the seconds of the waits of these kinds; of all without any."""
        return sum(wait.end - wait.start for wait in self.waits if not kinds or wait.kind in kinds)

    def note_wait(self, kind: str, start: float, error: str | None = None, holders: "Sequence[Record]" = ()) -> None:
        """Note that a wait for one of PLACES, all of which `holders` had, or a step to the database is over."""
        end = perf_counter()
        if kind == "threads":
            self.thread_wait = end - start
        elif kind == "connections" and error is None and self.connection_wait is None:
            self.connection_wait = end - start
        if end - start >= WAIT_S or error:
            self.waits.append(Wait(kind, start, end, error, holders))

    def note_silence(self, step: str) -> None:
        """Note what the database did not answer until the time was up: what follows has no time to be answered in."""
        self.unanswered = self.unanswered or step

    def count_statement(self, statement: str, seconds: float, shape: Any) -> None:
        """Count one statement that took `seconds`; the name of its shape is its operation and table."""
        self.queries += 1
        if seconds > self.longest_seconds:
            self.longest_seconds, self.longest_query = seconds, shape.name
        self.query_seconds += seconds
        self.repeats[statement] = self.repeats.get(statement, 0) + 1
        self.shapes[statement] = shape

    def find_repeat(self) -> tuple[Any, int] | None:
        """Return the shape of the statement that ran most, and how often, if that was N_PLUS_ONE times or more."""
        if self.queries < N_PLUS_ONE:
            return None
        statement, times = max(self.repeats.items(), key=itemgetter(1))
        return (self.shapes[statement], times) if times >= N_PLUS_ONE else None


class Holders:
    """Which requests hold one of a pool, and since when; thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: dict[Hashable, tuple[float, Record | None]] = {}

    def begin(self, one: Hashable, record: Record | None) -> None:
        """Note that a request, or whatever is none, holds this `one`."""
        self._held[one] = perf_counter(), record

    def end(self, one: Hashable) -> None:
        """Note that nobody holds it any more."""
        self._held.pop(one, None)

    def of_all(self) -> "Sequence[Record]":
        """Return who holds them, the longest first, if none is left; looked at only then, so it costs little."""
        if len(self._held) < self._size:
            return ()
        return [record for _, record in sorted([*self._held.values()], key=itemgetter(0)) if record]


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
