"""What the application's parts count for Prometheus, and GET /metrics: METRICS_PORT and METRICS_TOKEN say for whom."""

import hmac
from functools import partial

from fastapi import Request, Response
from pydantic import SecretStr
from starlette.datastructures import State
from starlette.types import Scope

from app.auth.fetches import OUTCOMES
from app.auth.key_set import KeySet
from app.auth.tokens import InvalidToken, Unauthenticated
from app.db.addresses import RESOLVER
from app.errors import NotFound
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.readings import Reading, counter, gauge
from app.telemetry.request_metrics import NO_ROUTE
from app.web.api import Api
from app.web.guard import Guard

PATH = "/metrics"
VERDICTS = ("allowed", "limited", "fallback")
FAILURES = ("token_missing", "token_invalid", "token_expired", "token_early")


def measure(api: Api, guard: Guard) -> Metrics:
    """Return the metrics of the application, which read what its parts count, and serve them."""
    state = api.state
    readings = *read_load(state, guard), *read_database(state), *read_outcomes(state), *read_keys(state)
    metrics = Metrics(state.settings, api.version, readings)
    metrics.measure_requests(api, api.effective_routes.find)
    serve_metrics(api, metrics)
    guard.on_refusal = metrics.requests.count_refusal
    return metrics


def read_load(state: State, guard: Guard) -> tuple[Reading, ...]:
    """Return the metrics of what goes on right now."""
    open_streams = partial(gauge, "http_streams_open", "Event streams that are open.")
    return (
        gauge("http_requests_in_progress", "Requests under way, probes aside.", lambda: guard.in_flight),
        open_streams(lambda: state.event_streams.counts, "handler", (NO_ROUTE,)),
        gauge("worker_threads", "Threads that serve requests.", state.workers.states, "state"),
    )


def read_database(state: State) -> tuple[Reading, ...]:
    """Return the metrics of the connections to the database."""
    checks = partial(counter, "db_client_connection_checks", "Look-ups, connects and pings by how they ended.")
    lookups = partial(counter, "db_host_lookup_failures", "Look-ups of the database's host without an answer.")
    return (
        gauge("db_client_connections", "Pooled connections.", state.database.connections, "state"),
        gauge("db_client_connections_max", "Connections the pool may open.", lambda: state.settings.database_pool_size),
        checks(state.database.checks, ("step", "outcome")),
        lookups(lambda: RESOLVER.failed),
    )


def read_outcomes(state: State) -> tuple[Reading, ...]:
    """Return the metrics of who was let in, and of the telemetry that was sent."""
    return (
        counter("rate_limit_requests", "Requests by verdict.", lambda: state.limits.outcomes, "outcome", VERDICTS),
        counter("auth_failures", "Requests without a good token.", lambda: state.limits.failures, "reason", FAILURES),
        counter("otel_spans_dropped", "Spans the collector did not take.", lambda: state.tracing.dropped),
        counter("otel_logs_dropped", "Log lines the collector did not take.", lambda: state.log_export.dropped),
        counter("otel_export_batches", "Batches sent to collectors.", lambda: exports(state, 0), "signal"),
        counter("otel_export_seconds", "Time that collectors took for batches.", lambda: exports(state, 1), "signal"),
    )


def read_keys(state: State) -> tuple[Reading, ...]:
    """Return the metrics of the keys at BETTER_AUTH_URL; a secret has none."""
    keys = state.authenticator.keys
    if not isinstance(keys, KeySet):
        return ()
    return (
        counter("auth_key_fetches", "Fetches of the keys by outcome.", lambda: keys.fetches, "outcome", OUTCOMES),
        gauge("auth_keys_age_seconds", "Since the keys were read, or the start.", lambda: keys.age_s),
        gauge("auth_clock_offset_seconds", "The key server's clock less ours.", lambda: keys.clock_offset_s),
    )


def exports(state: State, part: int) -> dict[str, float]:
    """Return the batches that were sent of each signal, or the seconds that took."""
    return {"traces": state.tracing.sent[part], "logs": state.log_export.sent[part]}


def serve_metrics(api: Api, metrics: Metrics) -> None:
    """Answer at /metrics, in the form that the Accept header asks for; on METRICS_PORT alone if that is set."""
    settings: Settings = api.state.settings
    token: SecretStr | None = settings.metrics_token

    async def answer(request: Request) -> Response:
        if settings.metrics_port and not is_on(settings.metrics_port, request.scope):
            raise NotFound
        if token:
            check(request.headers.get("authorization", ""), token.get_secret_value())
        body, content_type = await metrics.encode(request.headers.get("accept", ""))
        return Response(body, media_type=content_type)

    api.add_route(PATH, answer, methods=["GET"], include_in_schema=False)


def is_on(port: int, scope: Scope) -> bool:
    """Tell whether a request came by this port of the process, whatever its Host header says."""
    server = scope.get("server")
    return server is not None and server[1] == port


def check(authorization: str, secret: str) -> None:
    """Raise Unauthenticated or InvalidToken if the header of whoever scrapes does not hold METRICS_TOKEN."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    if not hmac.compare_digest(token.strip().encode(), secret.encode()):
        raise InvalidToken
