"""What Prometheus learns about one application. Names and labels are a contract: see CHANGELOG.md.

Whatever a client sends, the label values are those that the code knows. A team's own metrics are those of the client
library's default registry (app.telemetry.exposition).

One process a container: the client library's multiprocess mode has neither exemplars nor metrics of the process, and of
several workers without it a scrape would meet a random one. Replicas are found by Prometheus.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from time import perf_counter
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.routing import RouteContext
from opentelemetry.trace import format_trace_id, get_current_span
from prometheus_client import CollectorRegistry, Counter, Histogram, Info, Summary, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_fastapi_instrumentator.metrics import Info as Answered
from sqlmodel import SQLModel

from app.record import current
from app.settings import Settings
from app.telemetry.exposition import Exposition

LAG_EVERY_S = 0.25
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
# A bucket at each objective's threshold (250 ms), the last one beyond a request's deadline.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
STREAM_SECONDS = (1, 10, 60, 600, 3600)
METHODS = {"DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"}
OTHER = "other"
NO_ROUTE = "none"
AT_THE_DOOR = {408, 413, 414, 431}  # documented of a route, answered before one is looked for
BEFORE_ROUTES = {500: "(failure)", 503: "(overload)"} | dict.fromkeys(AT_THE_DOOR, "(door)")
STATEMENT_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5)
WAIT_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
OPERATIONS = ("SELECT", "INSERT", "UPDATE", "DELETE")
# Errors that alerts watch begin at 0: of a counter that begins at 1 Prometheus sees no increase.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
WATCHED = ("40P01", "55P03", "57014")  # deadlock, lock_timeout, statement_timeout

Family = CounterMetricFamily | GaugeMetricFamily


@dataclass(frozen=True)
class Reading(Collector):
    """A metric that somebody else counts: `read` gives its number, or one for each value of its label.

    It is read when Prometheus asks: so counting costs a request no lock.
    """

    family: type[Family]
    name: str
    documentation: str
    read: Callable[[], float | Mapping[str, float]]
    label: str | None = None
    values: tuple[str, ...] = ()  # of the label, which are there from the start

    def collect(self) -> Iterator[Family]:
        """Read it."""
        family = self.family(self.name, self.documentation, labels=[self.label] if self.label else [])
        found = self.read()
        numbers = {**dict.fromkeys(self.values, 0.0), **found} if isinstance(found, Mapping) else {"": found}
        for value, number in numbers.items():
            family.add_metric([value] if self.label else [], number)
        yield family


counter, gauge = partial(Reading, CounterMetricFamily), partial(Reading, GaugeMetricFamily)


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self, settings: Settings, version: str, readings: Iterable[Reading]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one series more for each counter, which Prometheus makes nothing of
        self.registry = CollectorRegistry()
        build = Info("task_api_build", "What runs here.", registry=self.registry)
        build.info({"version": version, "revision": settings.revision})
        self.requests = RequestMetrics(self.registry)
        self.database = DatabaseMetrics(self.registry, settings.slow_query_ms)
        self._lag = Histogram(
            "event_loop_lag_seconds",
            "How late the event loop ran what was due.",
            registry=self.registry,
            buckets=LAG_SECONDS,
        )
        for reading in readings:
            self.registry.register(reading)
        self.encode = Exposition(self.registry).encode

    def measure_requests(self, api: FastAPI) -> None:
        """Measure each request to `api`. To be called before it serves."""
        Instrumentator(should_group_status_codes=False).add(self.requests).instrument(api)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Measure the running event loop, until this is left."""
        watching = asyncio.create_task(self._watch_loop())
        try:
            yield
        finally:
            watching.cancel()

    async def _watch_loop(self) -> None:
        while True:
            due = perf_counter() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self._lag.observe(max(0.0, perf_counter() - due))


class RequestMetrics:
    """Counts and times requests; the instrumentator calls it when one is answered.

    What no route takes, by its path or by its method, is counted under the handler `none` and not timed: it says
    nothing of any route. How long an event stream was open is no latency, and has a histogram of its own.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        route = ("method", "handler")
        requests = Counter("http_requests", "Requests answered.", (*route, "status"), registry=registry)
        duration = Histogram(
            "http_request_duration_seconds",
            "From the body's arrival to the answer's end.",
            route,
            registry=registry,
            buckets=SECONDS,
        )
        size = Summary("http_response_size_bytes", "Bodies of answers.", route, registry=registry)
        streams = Histogram(
            "http_stream_duration_seconds",
            "How long event streams were open.",
            ("handler",),
            registry=registry,
            buckets=STREAM_SECONDS,
        )
        self._requests, self._duration, self._size = cache(requests.labels), cache(duration.labels), cache(size.labels)
        self._streams = streams.labels

    def expect(self, routes: Iterable[RouteContext]) -> None:
        """Let the series of every documented answer of `routes` begin at 0.

        Of a counter that begins at 1 Prometheus sees no increase, so each route's first failure would go unseen.
        """
        for method, status in product(METHODS, BEFORE_ROUTES):
            self.count_refusal(method, status, 0)
        for route in routes:
            path, success, others = (getattr(route, name, None) for name in ("path", "status_code", "responses"))
            for method in METHODS.intersection(getattr(route, "methods", None) or ()):
                self._duration(method, path), self._size(method, path)
                for status in {success or 200, 500, *(others or ())} - AT_THE_DOOR:
                    self._requests(method, path, str(status))

    def __call__(self, info: Answered) -> None:
        """Count an answered request, timed up to its last byte; an answer that broke off is a 500."""
        record = current()
        record.counted = True
        status = "500" if record.broken else info.modified_status
        handler = NO_ROUTE if status == "405" else info.modified_handler
        method = label_of(info.method)
        self._requests(method, handler, status).inc()
        if record.is_event_stream:
            self._streams(handler).observe(info.modified_duration)
        elif handler != NO_ROUTE:
            after = perf_counter() - record.ended if record.ended else 0.0
            self._duration(method, handler).observe(max(0.0, info.modified_duration - after), exemplar())
            length: Any = info.response and info.response.headers.get("content-length")
            self._size(method, handler).observe(int(length or 0))

    def count_refusal(self, method: str, status: int, times: int = 1) -> None:
        """Count a request that ended before a route was found: too large, too slow, one too many, or by our fault."""
        self._requests(label_of(method), BEFORE_ROUTES.get(status, NO_ROUTE), str(status)).inc(times)


def label_of(method: str) -> str:
    """Return the label of a method: one that is known, HEAD as the GET it stands for."""
    method = "GET" if method == "HEAD" else method
    return method if method in METHODS else OTHER


class Series(NamedTuple):
    """The series of the statements of one operation and table."""

    duration: Histogram
    slow: Counter
    by_administrators: Counter


class DatabaseMetrics:
    """Counts and times statements, their failures and the waits for a connection."""

    def __init__(self, registry: CollectorRegistry, slow_query_ms: int) -> None:
        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        labels = ("operation", "table")
        self._slow_s = slow_query_ms / 1000
        self._duration = histogram(
            "db_client_operation_duration_seconds", "Statements, answer included.", labels, buckets=STATEMENT_SECONDS
        )
        self._slow = counter("db_slow_queries", f"Statements of {slow_query_ms} ms or more.", labels)
        self._looks = counter("admin_statements", "Statements of administrators, who see all rows.", labels)
        self._errors = counter("db_errors", "Failures by SQLSTATE, or the driver's class.", ("code",))
        self._wait = histogram(
            "db_client_connection_wait_seconds",
            "What a request waited for a worker thread and a connection.",
            buckets=WAIT_SECONDS,
        )
        for code in WATCHED:
            self._errors.labels(code)
        for operation, table in product(OPERATIONS, SQLModel.metadata.tables):
            self.series_of(operation, (table,))

    def series_of(self, operation: str, tables: Sequence[str]) -> Series:
        """Return the series of an operation and its tables, which begin at 0 now."""
        names = operation, " ".join(tables) or "none"
        return Series(self._duration.labels(*names), self._slow.labels(*names), self._looks.labels(*names))

    def observe(self, series: Series, seconds: float) -> None:
        """Count a statement that had its answer after `seconds`."""
        series.duration.observe(seconds, exemplar())
        if seconds >= self._slow_s:
            series.slow.inc(exemplar=exemplar())

    def count_failure(self, cause: BaseException) -> None:
        """Count a failure of a statement or a connection."""
        self._errors.labels(getattr(cause, "pgcode", None) or type(cause).__name__).inc()

    def observe_wait(self, seconds: float) -> None:
        """Count a request's wait for a thread and its first connection."""
        self._wait.observe(seconds, exemplar())


def exemplar() -> dict[str, str] | None:
    """Return the label that leads from a number to the current trace (OpenMetrics 1.0, "Exemplars"), if it is kept."""
    context = get_current_span().get_span_context()
    return {"trace_id": format_trace_id(context.trace_id)} if context.trace_flags.sampled else None
