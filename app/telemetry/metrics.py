"""What Prometheus learns about one application. Names and labels are a contract: see CHANGELOG.md.

A team's own metrics are those of the client library's default registry (app.telemetry.exposition).

One process a container: the client library's multiprocess mode has neither exemplars nor metrics of the process, and of
several workers without it a scrape would meet a random one. Replicas are found by Prometheus.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Histogram, Info, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator

from app.settings import Settings
from app.telemetry.database_metrics import DatabaseMetrics
from app.telemetry.exposition import OPENMETRICS, Exposition
from app.telemetry.request_metrics import RequestMetrics

LAG_EVERY_S = 0.25
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

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
        self._exposition = Exposition(self.registry)
        self._exposition.refuse_taken()

    def measure_requests(self, api: FastAPI) -> None:
        """Measure each request to `api`. To be called before it serves."""
        Instrumentator(should_group_status_codes=False).add(self.requests).instrument(api)

    async def encode(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics and their content type: OpenMetrics, with exemplars, if the Accept header asks for it."""
        # Only the type's name counts: the library raises TypeError for some versions, and echoes others.
        form = OPENMETRICS if "application/openmetrics-text" in accept else ""
        _, content_type = choose_encoder(form)
        return await self._exposition.encode(form), content_type.partition("; escaping=")[0]

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
