"""What Prometheus learns about one application, at /metrics. Names and labels are a contract: see CHANGELOG.md.

A team's own metrics are those of the client library's default registry (app.telemetry.exposition).

One process a container: the client library's multiprocess mode has neither exemplars nor metrics of the process, and of
several workers without it a scrape would meet a random one. Replicas are found by Prometheus.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from time import perf_counter

from fastapi import FastAPI, Request, Response
from fastapi.routing import RouteContext
from prometheus_client import CollectorRegistry, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator

from app.auth.tokens import InvalidToken, Unauthenticated
from app.db.database import Database
from app.settings import Settings
from app.telemetry.database_metrics import DatabaseMetrics
from app.telemetry.exposition import OPENMETRICS, Exposition
from app.telemetry.request_metrics import RequestMetrics
from app.web.guard import Guard
from app.web.threads import Workers

PATH = "/metrics"
LAG_EVERY_S = 0.25
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
OUTCOMES = ("allowed", "limited", "fallback")
FAILURES = ("token_missing", "token_invalid", "token_expired")

Counts = Mapping[str, float]


class Metrics:
    """The metrics of one application, in a registry of their own.

    `outcomes` of the limiter, `failures` of authentication and spans `dropped` are counted by those who know; they are
    read from there when Prometheus asks, so that counting costs a request no lock.
    """

    def __init__(self, settings: Settings, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one series more for each counter, which Prometheus makes nothing of
        token = settings.metrics_token
        self._token = token.get_secret_value().encode() if token else None
        self.registry = CollectorRegistry()
        self.outcomes: Callable[[], Counts] = dict
        self.failures: Callable[[], Counts] = dict
        self.dropped: Callable[[], float] = lambda: 0
        build = Info("task_api_build", "What runs here.", registry=self.registry)
        build.info({"version": version, "revision": settings.revision})
        self._requests = RequestMetrics(self.registry)
        self.database = DatabaseMetrics(self.registry, settings.slow_query_ms)
        self._threads = Gauge("worker_threads", "Threads that serve requests.", ("state",), registry=self.registry)
        self._lag = Histogram(
            "event_loop_lag_seconds",
            "How late the event loop ran what was due.",
            registry=self.registry,
            buckets=LAG_SECONDS,
        )
        self.registry.register(Elsewhere(self))
        self._exposition = Exposition(self.registry)

    def watch(self, api: FastAPI, guard: Guard, database: Database, workers: Workers) -> None:
        """Measure these, and answer at /metrics. To be called before they serve.

        Raises:
            NameTaken: a metric of the default registry has a name of one of these.

        """
        api.add_route(PATH, self.answer, methods=["GET"], include_in_schema=False)
        Instrumentator(should_group_status_codes=False).add(self._requests).instrument(api)
        guard.on_refusal = self._requests.refused
        in_progress = Gauge("http_requests_in_progress", "Requests under way, probes aside.", registry=self.registry)
        in_progress.set_function(lambda: guard.in_flight)
        self._threads.labels("busy").set_function(lambda: workers.busy)
        self._threads.labels("idle").set_function(lambda: workers.size - workers.busy)
        database.listen(self.database.watch)
        self._exposition.refuse_taken()

    def expect(self, routes: Iterable[RouteContext]) -> None:
        """Let the series of these routes begin at 0."""
        self._requests.expect(routes)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Measure the running event loop, until this is left."""
        watching = asyncio.create_task(self._watch_loop())
        try:
            yield
        finally:
            watching.cancel()
            self._exposition.close()

    async def _watch_loop(self) -> None:
        while True:
            due = perf_counter() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self._lag.observe(max(0.0, perf_counter() - due))

    async def answer(self, request: Request) -> Response:
        """Return all metrics: as OpenMetrics, with exemplars, where that is asked for.

        Raises:
            Unauthenticated, InvalidToken: METRICS_TOKEN is set and was not sent.

        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if self._token and scheme.lower() != "bearer":
            raise Unauthenticated
        if self._token and not hmac.compare_digest(token.strip().encode(), self._token):
            raise InvalidToken
        # Only the type's name counts: the library raises TypeError for some versions, and echoes others.
        form = OPENMETRICS if "application/openmetrics-text" in request.headers.get("accept", "") else ""
        _, content_type = choose_encoder(form)
        return Response(await self._exposition.encode(form), media_type=content_type.partition("; escaping=")[0])


class Elsewhere(Collector):
    """Counters that others keep."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Read them."""
        metrics = self._metrics
        yield family("rate_limit_requests", "Requests by verdict.", "outcome", OUTCOMES, metrics.outcomes())
        yield family("auth_failures", "Requests without a good token.", "reason", FAILURES, metrics.failures())
        yield CounterMetricFamily("otel_spans_dropped", "Spans the collector did not take.", metrics.dropped())


def family(name: str, documentation: str, label: str, known: tuple[str, ...], counts: Counts) -> CounterMetricFamily:
    """Return a counter with one label, whose `known` values are there from the start."""
    counter = CounterMetricFamily(name, documentation, labels=[label])
    for value, count in (dict.fromkeys(known, 0.0) | dict(counts)).items():
        counter.add_metric([value], count)
    return counter
