"""What Prometheus learns about one application. Names and labels are a contract: see CHANGELOG.md.

Whatever a client sends, the label values are those that the code knows. A team's own metrics are those of the client
library's default registry (app.telemetry.exposition).

One process a container: the client library's multiprocess mode has neither exemplars nor metrics of the process, and of
several workers without it a scrape would meet a random one. Replicas are found by Prometheus.
"""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry, Histogram, Info, disable_created_metrics
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_fastapi_instrumentator.middleware import PrometheusInstrumentatorMiddleware
from starlette.routing import Mount

from app.settings import Settings
from app.telemetry.database_metrics import DatabaseMetrics
from app.telemetry.exposition import Exposition
from app.telemetry.readings import Reading
from app.telemetry.request_metrics import RequestMetrics
from app.telemetry.tracing import Find

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

    def measure_requests(self, api: FastAPI, find: Find) -> None:
        """Measure each request to `api`, whose route `find` gives. To be called before it serves."""

        class Measure(PrometheusInstrumentatorMiddleware):
            def _get_handler(self, request: Request) -> tuple[str, bool]:
                """Ask `find`: the instrumentator tries one route after the other again."""
                route, _ = find(request.scope)
                if route and isinstance(route.original_route, Mount):
                    return super()._get_handler(request)  # which looks into what is mounted
                return (route.path, True) if route and route.path else (request.url.path, False)

        Instrumentator(should_group_status_codes=False).add(self.requests).instrument(api)
        layers: list[Any] = api.user_middleware
        next(layer for layer in layers if layer.cls is PrometheusInstrumentatorMiddleware).cls = Measure
