"""Incidents of what watches the API. No user notices them."""

from devtools.drill.incident import Incident, Sign, Step, series

COLLECTOR_FROZEN = Incident(
    name="collector-frozen",
    sentence="The collector takes connections, and never answers.",
    alert="TelemetryDropped",
    signs=(Sign("line", "message", "the collector at .* does not answer: TimeoutError"),),
    steps=(Step("otel_spans_dropped_total", series()), Step("collector|dropped", "does not answer: TimeoutError")),
    needs=frozenset({"freeze jaeger"}),
    inject=lambda target: target.change("freeze jaeger"),
)

LOG_STORE_FROZEN = Incident(
    name="log-store-frozen",
    sentence="The log store takes connections, and never answers.",
    alert="LogsDropped",
    signs=(Sign("line", "message", "the collector at .* does not answer: TimeoutError"),),
    steps=(Step("otel_logs_dropped_total", series()), Step("collector|dropped", "does not answer: TimeoutError")),
    needs=frozenset({"freeze loki"}),
    inject=lambda target: target.change("freeze loki"),
)

EXPORTER_FROZEN = Incident(
    name="exporter-frozen",
    sentence="The exporter of PostgreSQL's metrics does not answer Prometheus.",
    alert="TargetDown",
    signs=(Sign("label", "job", "postgres"),),
    steps=(Step("up", series("0", job="postgres")),),
    needs=frozenset({"freeze postgres-exporter"}),
    inject=lambda target: target.change("freeze postgres-exporter"),
)

ALERTMANAGER_FROZEN = Incident(
    name="alertmanager-frozen",
    sentence="Alertmanager takes no alert, so nobody is told of any.",
    alert="AlertsUndelivered",
    signs=(Sign("label", "job", "prometheus"),),
    steps=(
        Step("increase(prometheus_notifications_dropped_total", series(job="prometheus")),
        Step('up{job="alertmanager"}', series("0", job="alertmanager")),
    ),
    also=frozenset({"TargetDown"}),
    needs=frozenset({"freeze alertmanager"}),
    inject=lambda target: target.change("freeze alertmanager"),
)

INCIDENTS = (COLLECTOR_FROZEN, LOG_STORE_FROZEN, EXPORTER_FROZEN, ALERTMANAGER_FROZEN)
