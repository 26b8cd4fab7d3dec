"""Cross-origin requests, for the origins of CORS_ORIGINS only."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from app.errors import AppError
from app.settings import Settings
from app.web.problems import problem

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
TRACING_HEADERS = ("b3", "baggage", "sentry-trace", "traceparent", "tracestate")  # what tracing in browsers sends
REQUEST_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", *TRACING_HEADERS)
LIMIT_HEADERS = ("RateLimit", "RateLimit-Policy", "Retry-After")
ANSWER_HEADERS = ("ETag", "Idempotency-Replayed", "Link", "Location", "Server-Timing", "X-Trace-Id", *LIMIT_HEADERS)


class CorsRefused(AppError):
    """A preflight for what no script may do here; the browser refuses it as well."""

    status, code, detail = 400, "cors_refused", "This origin is not in CORS_ORIGINS."


class Cors(CORSMiddleware):
    """Starlette's, refusing as everything else here does; an origin that is not listed gets no header of it."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight request (https://fetch.spec.whatwg.org/#cors-preflight-fetch)."""
        response = super().preflight_response(request_headers)
        origin = request_headers["origin"]
        if response.status_code != CorsRefused.status:
            return response
        if not self.is_allowed_origin(origin):
            return problem(CorsRefused())
        refused = problem(CorsRefused("A method or header is not allowed across origins; CORS_HEADERS allows more."))
        CORSMiddleware.allow_explicit_origin(refused.headers, origin)  # or the browser's message blames the origin
        return refused

    @staticmethod
    def allow_explicit_origin(headers: MutableHeaders, origin: str) -> None:
        """Let scripts of `origin` read an answer and its timing (https://www.w3.org/TR/resource-timing/)."""
        CORSMiddleware.allow_explicit_origin(headers, origin)
        headers["Access-Control-Expose-Headers"] = ", ".join(ANSWER_HEADERS)
        headers.append("Timing-Allow-Origin", origin)


def allow_origins(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Return `app` for the origins of CORS_ORIGINS as well; without any, as it is."""
    if not settings.cors_origins:
        return app
    allowed = (*REQUEST_HEADERS, *settings.cors_headers)
    return Cors(app, allow_origins=settings.cors_origins, allow_methods=METHODS, allow_headers=allowed)
