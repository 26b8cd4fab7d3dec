"""What the application's parts count for Prometheus, and GET /metrics: for anyone, or only with METRICS_TOKEN."""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from pydantic import SecretStr

from app.auth.tokens import InvalidToken, Unauthenticated
from app.telemetry.metrics import Metrics, counter, gauge
from app.web.api import Api
from app.web.guard import Guard

PATH = "/metrics"
OUTCOMES = ("allowed", "limited", "fallback")
FAILURES = ("token_missing", "token_invalid", "token_expired")

Encode = Callable[[str], Awaitable[tuple[bytes, str]]]


def measure(api: Api, guard: Guard) -> Metrics:
    """Return the metrics of the application, which read what its parts count, and serve them."""
    state, workers = api.state, api.state.workers
    readings = (
        gauge("http_requests_in_progress", "Requests under way, probes aside.", lambda: guard.in_flight),
        gauge(
            "worker_threads",
            "Threads that serve requests.",
            lambda: {"busy": workers.busy, "idle": workers.size - workers.busy},
            "state",
        ),
        gauge("db_client_connections", "Pooled connections.", state.database.connections, "state"),
        gauge("db_client_connections_max", "Connections the pool may open.", lambda: state.settings.database_pool_size),
        counter("rate_limit_requests", "Requests by verdict.", lambda: state.limits.outcomes, "outcome", OUTCOMES),
        counter("auth_failures", "Requests without a good token.", lambda: state.limits.failures, "reason", FAILURES),
        counter("otel_spans_dropped", "Spans the collector did not take.", lambda: state.tracing.dropped),
    )
    metrics = Metrics(state.settings, api.version, readings)
    metrics.measure_requests(api)
    serve_metrics(api, metrics.encode, state.settings.metrics_token)
    guard.on_refusal = metrics.requests.count_refusal
    return metrics


def serve_metrics(api: FastAPI, encode: Encode, token: SecretStr | None) -> None:
    """Answer at /metrics with what `encode` makes of an Accept header: the body and its content type."""
    secret = token.get_secret_value().encode() if token else None

    async def answer(request: Request) -> Response:
        if secret:
            check(request.headers.get("authorization", ""), secret)
        body, content_type = await encode(request.headers.get("accept", ""))
        return Response(body, media_type=content_type)

    api.add_route(PATH, answer, methods=["GET"], include_in_schema=False)


def check(authorization: str, secret: bytes) -> None:
    """Check the header of whoever scrapes.

    Raises:
        Unauthenticated, InvalidToken: the token was not sent, or is not METRICS_TOKEN.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    if not hmac.compare_digest(token.strip().encode(), secret):
        raise InvalidToken
