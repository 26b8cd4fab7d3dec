"""How many requests there are of each route, how they end, how long they take and how large their answers are."""

from collections.abc import Iterable
from functools import cache
from itertools import product
from time import perf_counter

from fastapi.routing import RouteContext
from prometheus_client import CollectorRegistry, Counter, Histogram, Summary
from prometheus_fastapi_instrumentator.metrics import Info as Answered

from app.record import N_PLUS_ONE, current
from app.telemetry.exposition import exemplar

# A bucket at each objective's threshold (250 ms), the last one beyond a request's deadline.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
STREAM_SECONDS = (1, 10, 60, 600, 3600)
METHODS = {"DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"}
OTHER = "other"
NO_ROUTE = "none"
AT_THE_DOOR = {408, 413, 414, 431}  # documented of a route, answered before one is looked for
BEFORE_ROUTES = {500: "(failure)", 503: "(overload)"} | dict.fromkeys(AT_THE_DOOR, "(door)")


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
            "From the body's arrival to the answer's end, without waits for a client that does not read it.",
            route,
            registry=registry,
            buckets=SECONDS,
        )
        size = Summary("http_response_size_bytes", "Bodies of answers.", route, registry=registry)
        statements = Counter("http_request_statements", "Statements of requests.", route, registry=registry)
        # Nobody knows before which routes repeat which statements: these do not begin at 0.
        repeats = Counter(
            "http_request_repeats",
            f"Requests that ran a statement {N_PLUS_ONE} times or more.",
            (*route, "query"),
            registry=registry,
        )
        streams = Histogram(
            "http_stream_duration_seconds",
            "How long event streams were open.",
            ("handler",),
            registry=registry,
            buckets=STREAM_SECONDS,
        )
        self._requests, self._duration, self._size = cache(requests.labels), cache(duration.labels), cache(size.labels)
        self._statements, self._repeats = cache(statements.labels), repeats.labels
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
                self._duration(method, path), self._size(method, path), self._statements(method, path)
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
            not_ours = record.client_wait + (perf_counter() - record.ended if record.ended else 0.0)
            self._duration(method, handler).observe(max(0.0, info.modified_duration - not_ours), exemplar())
            self._size(method, handler).observe(record.response_bytes)
            self._statements(method, handler).inc(record.queries)
            if found := record.find_repeat():
                self._repeats(method, handler, found[0].name).inc()

    def count_refusal(self, method: str, status: int, times: int = 1) -> None:
        """Count a request that ended before a route was found: too large, too slow, one too many, or by our fault."""
        self._requests(label_of(method), BEFORE_ROUTES.get(status, NO_ROUTE), str(status)).inc(times)


def label_of(method: str) -> str:
    """Return the label of a method: one that is known, HEAD as the GET it stands for."""
    method = "GET" if method == "HEAD" else method
    return method if method in METHODS else OTHER
