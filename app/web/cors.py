"""Cross-origin requests, for the origins of CORS_ORIGINS alone."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from app.errors import AppError, problem


class CorsRefused(AppError):
    """A preflight for what no script may do here; the browser, which asked, refuses it as well."""

    status, code, detail = 400, "cors_refused", "This origin, method or header is not allowed across origins."


class Cors(CORSMiddleware):
    """Starlette's, refusing as everything else here does."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight request (https://fetch.spec.whatwg.org/#cors-preflight-fetch)."""
        response = super().preflight_response(request_headers)
        return problem(CorsRefused()) if response.status_code == CorsRefused.status else response
