"""What Prometheus learns about one application. Names and labels are a contract: see CHANGELOG.md.

Whatever a client sends, the label values are those that the code knows. A team's own metrics are those of the client
library's default registry (app.telemetry.exposition).

One process a container: the client library's multiprocess mode has neither exemplars nor metrics of the process, and of
several workers without it a scrape would meet a random one. Replicas are found by Prometheus.
"""

from collections.abc import Iterable

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Histogram, Info, disable_created_metrics
from prometheus_fastapi_instrumentator import Instrumentator

from app.settings import Settings
from app.telemetry.database_metrics import DatabaseMetrics
from app.telemetry.exposition import Exposition
from app.telemetry.readings import Reading
from app.telemetry.request_metrics import RequestMetrics

LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self, settings: Settings, version: str, readings: Iterable[Reading]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one series more for each counter, which Prometheus makes nothing of
        self.registry = CollectorRegistry()
        build = Info("task_api_build", "What runs here.", registry=self.registry)
        build.info({"version": version, "revision": settings.revision})
        self.requests = RequestMetrics(self.registry)
        self.database = DatabaseMetrics(self.registry, settings.slow_query_ms)
        self.loop_lag = Histogram(
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
