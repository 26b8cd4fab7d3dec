"""What the application's parts count for Prometheus, and GET /metrics: for anyone, or only with METRICS_TOKEN."""

import hmac

from fastapi import Request, Response
from pydantic import SecretStr

from app.auth.tokens import InvalidToken, Unauthenticated
from app.telemetry.metrics import NO_ROUTE, Metrics, counter, gauge
from app.web.api import Api
from app.web.guard import Guard

PATH = "/metrics"
OUTCOMES = ("allowed", "limited", "fallback")
FAILURES = ("token_missing", "token_invalid", "token_expired")


def measure(api: Api, guard: Guard) -> Metrics:
    """Return the metrics of the application, which read what its parts count, and serve them."""
    state = api.state
    readings = (
        gauge("http_requests_in_progress", "Requests under way, probes aside.", lambda: guard.in_flight),
        gauge(
            "http_streams_open",
            "Event streams that are open.",
            lambda: state.event_streams.counts,
            "handler",
            (NO_ROUTE,),
        ),
        gauge("worker_threads", "Threads that serve requests.", state.workers.states, "state"),
        gauge("db_client_connections", "Pooled connections.", state.database.connections, "state"),
        gauge("db_client_connections_max", "Connections the pool may open.", lambda: state.settings.database_pool_size),
        counter("rate_limit_requests", "Requests by verdict.", lambda: state.limits.outcomes, "outcome", OUTCOMES),
        counter("auth_failures", "Requests without a good token.", lambda: state.limits.failures, "reason", FAILURES),
        counter("otel_spans_dropped", "Spans the collector did not take.", lambda: state.tracing.dropped),
    )
    metrics = Metrics(state.settings, api.version, readings)
    metrics.measure_requests(api)
    serve_metrics(api, metrics)
    guard.on_refusal = metrics.requests.count_refusal
    return metrics


def serve_metrics(api: Api, metrics: Metrics) -> None:
    """Answer at /metrics, in the form that the Accept header asks for."""
    token: SecretStr | None = api.state.settings.metrics_token

    async def answer(request: Request) -> Response:
        if token:
            check(request.headers.get("authorization", ""), token.get_secret_value())
        body, content_type = await metrics.encode(request.headers.get("accept", ""))
        return Response(body, media_type=content_type)

    api.add_route(PATH, answer, methods=["GET"], include_in_schema=False)


def check(authorization: str, secret: str) -> None:
    """Raise Unauthenticated or InvalidToken if the header of whoever scrapes does not hold METRICS_TOKEN."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    if not hmac.compare_digest(token.strip().encode(), secret.encode()):
        raise InvalidToken
