"""GET /metrics: for anyone, or only with METRICS_TOKEN where that is set."""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from pydantic import SecretStr

from app.auth.tokens import InvalidToken, Unauthenticated

PATH = "/metrics"

Encode = Callable[[str], Awaitable[tuple[bytes, str]]]


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
