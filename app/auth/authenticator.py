"""Who asks: the Authorization header of a request -> `Principal`, and the dependencies that ask for one."""

import logging
import re
import time
from base64 import urlsafe_b64encode
from collections import OrderedDict
from typing import Annotated, NamedTuple

import jwt
from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.datastructures import Headers

from app.auth.key_set import KeySet
from app.auth.tokens import (
    LEEWAY_S,
    InvalidToken,
    Principal,
    Unauthenticated,
    principal_of,
    verify_token,
)
from app.record import Record, current
from app.settings import Settings

MAX_TOKEN_BYTES = 8192
TOKEN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}")  # RFC 7515, 7.1; PyJWT ignores what is not base64url
MAX_REMEMBERED = 4096  # 4 to 6 MB of usual tokens, 60 MB of the longest

logger = logging.getLogger(__name__)


class Secret:
    """The one key of HS256, the secret that Better Auth holds as well; in the place of a `KeySet`."""

    def __init__(self, secret: str) -> None:
        self._key = jwt.PyJWK({"kty": "oct", "k": urlsafe_b64encode(secret.encode()).decode()}, "HS256")

    def current(self) -> object:
        """Return the key."""
        return self._key

    async def find(self, _: str) -> jwt.PyJWK:
        """Return the key."""
        return self._key


class Verified(NamedTuple):
    """Whose a good token is, until when (Unix seconds), and the keys it was verified with."""

    principal: Principal
    ends: int
    keys: object


class Authenticator:
    """Finds the user of a request by its Authorization header.

    It remembers the newest MAX_REMEMBERED good tokens, so that a signature (30 to 105 us, on the event loop) is
    verified once: a token stays good while it lasts, until the keys are fetched again.
    """

    def __init__(self, keys: KeySet | Secret, issuer: str | None, audience: str | None) -> None:
        self.keys, self._issuer, self._audience = keys, issuer, audience
        self._verified: OrderedDict[str, Verified] = OrderedDict()

    async def __call__(self, headers: Headers) -> Principal:
        """Return the principal of the request with these `headers`.

        Raises:
            Unauthenticated: there is no token, or it is not good.
            Unavailable: the keys cannot be read.
        """
        token = bearer_token(headers)
        found = self._verified.get(token)
        if found is None or found.keys is not self.keys.current() or time.time() >= found.ends:
            found = await self._verify(token)
        return found.principal

    async def _verify(self, token: str) -> Verified:
        key = await self.keys.find(token)
        claims = verify_token(token, key, self._issuer, self._audience)
        ends = int(claims["exp"]) + LEEWAY_S
        verified = self._verified[token] = Verified(principal_of(claims), ends, self.keys.current())
        if len(self._verified) > MAX_REMEMBERED:
            self._verified.popitem(last=False)
        return verified


def bearer_token(headers: Headers) -> str:
    """Return the token of the one Authorization header (RFC 6750, 2.1)."""
    values = headers.getlist("authorization")
    if not values:
        raise Unauthenticated
    if len(values) > 1:
        raise InvalidToken
    scheme, _, rest = values[0].partition(" ")
    token = rest.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    if len(token) > MAX_TOKEN_BYTES:
        logger.info("a token is refused: it is larger than %d bytes", MAX_TOKEN_BYTES)
        raise InvalidToken
    if not TOKEN.fullmatch(token):
        raise InvalidToken
    return token


def authenticator_for(settings: Settings) -> Authenticator:
    """Return the authenticator by the keys at BETTER_AUTH_URL, or by BETTER_AUTH_SECRET if there is no URL."""
    issuer, audience = settings.jwt_issuer, settings.jwt_audience
    if url := settings.better_auth_url:
        if settings.better_auth_secret:
            logger.info("BETTER_AUTH_URL is set: BETTER_AUTH_SECRET is not used for tokens")
        return Authenticator(KeySet(f"{url}{settings.better_auth_jwks_path}"), issuer or url, audience or url)
    assert settings.better_auth_secret  # `serve` or the development defaults checked it
    return Authenticator(Secret(settings.better_auth_secret.get_secret_value()), issuer, audience)


async def admit(record: Record, request: Request) -> None:
    """Let in a verified user who is within the limits, as the record's principal.

    Raises:
        Unauthenticated: there is no good token.
        RateLimited: too many requests of this user, or too many without a good token from this address.
    """
    state = record.app.state
    try:
        record.principal = await state.authenticator(request.headers)
    except Unauthenticated as failure:
        state.limits.count_failure(record, request, failure)
        raise
    await state.limits.admit(record)


class Bearer(SecurityBase):
    """Gives the request's user, and a security scheme to the OpenAPI document.

    Under /api the gate has admitted the request before; on another route this does.
    """

    model = HTTPBearer(bearerFormat="JWT", description="A Better Auth access token.")
    scheme_name = "betterAuth"

    async def __call__(self, request: Request) -> Principal:
        record = current()
        if record.principal is None:
            await admit(record, request)
        principal: Principal = record.principal
        return principal


current_user = Bearer()
CurrentUser = Annotated[Principal, Depends(current_user)]
