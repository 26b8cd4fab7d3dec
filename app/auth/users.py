"""Bearer token -> Principal: who asks, verified, or a refusal with its reason."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.datastructures import Headers

from app.auth.tokens import LEEWAY_S, Unauthenticated, bearer_token, decode, is_administrator, subject
from app.errors import Forbidden
from app.record import Record, current

MAX_VERIFIED = 4096  # 4 MB of usual tokens, 36 MB of the longest


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified user: whatever is bound to it sees this user's rows alone. `user_id` is the token's `sub`.

    `is_administrator` lets the user look as an `Administrator`; the principal itself sees no row more by it.
    """

    role: ClassVar[str] = "tasks_api"  # of the database
    user_id: str
    is_administrator: bool = False


@dataclass(frozen=True, slots=True)
class Administrator(Principal):
    """A verified administrator: whatever is bound to it sees every user's rows, changes none, and is logged."""

    role: ClassVar[str] = "tasks_admin"


class Verifier(Protocol):
    """Turns a token into its claims, for one kind of key."""

    def keys(self) -> object:
        """Return what tokens are verified against just now: another object once that has changed. Never waits."""

    async def claims(self, token: str) -> dict[str, Any]:
        """Return the verified claims.

        Raises:
            ExpiredToken, InvalidToken: the token is not good.
            Unavailable: there is no key to tell by.

        """


class SecretVerifier:
    """HS256 with the secret that Better Auth holds as well."""

    def __init__(self, secret: str, issuer: str | None, audience: str | None) -> None:
        self._secret, self._issuer, self._audience = secret, issuer, audience

    def keys(self) -> object:
        """Return the one secret there is."""
        return self._secret

    async def claims(self, token: str) -> dict[str, Any]:
        """Return the verified claims; `iss` and `aud` are checked where they were configured."""
        return decode(token, self._secret, "HS256", self._issuer, self._audience)


class _Verified(NamedTuple):
    principal: Principal
    keys: object
    begins: int
    ends: int


class VerifiedTokens:
    """Good tokens, so that a signature (30 to 105 us) is paid for once: a look-up costs about 1 us.

    Only what was verified enters, and the oldest of MAX_VERIFIED makes room. The times of a token are looked at on each
    use, in Unix seconds; it counts for as long as the keys are the object that it was verified against.
    """

    def __init__(self) -> None:
        self._tokens: OrderedDict[str, _Verified] = OrderedDict()

    def get(self, token: str, keys: object) -> Principal | None:
        """Return whose `token` is, or None for one to be verified: unknown, out of its time, or of other keys."""
        found = self._tokens.get(token)
        if found is None or found.keys is not keys or not found.begins <= time.time() < found.ends:
            return None
        return found.principal

    def add(self, token: str, keys: object, claims: dict[str, Any], principal: Principal) -> None:
        """Remember a `token` whose `claims` were verified against `keys`."""
        begins = int(max(claims.get("nbf", 0), claims.get("iat", 0))) - LEEWAY_S
        self._tokens[token] = _Verified(principal, keys, begins, int(claims["exp"]) + LEEWAY_S)
        if len(self._tokens) > MAX_VERIFIED:
            self._tokens.popitem(last=False)


class Authenticator:
    """Reads the Authorization header of a request and answers for the user it names.

    `failures` counts the refusals since the start by their code.
    """

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._verified = VerifiedTokens()

    async def __call__(self, headers: Headers) -> Principal:
        """Return the principal of the request with these `headers`.

        Raises:
            Unauthenticated: no bearer token.
            InvalidToken: one that is not good, or several.
            Unavailable: there is no key to tell by.

        """
        token = bearer_token(headers)
        principal = self._verified.get(token, self._verifier.keys())
        if principal is None:
            claims = await self._verifier.claims(token)
            principal = Principal(subject(claims), is_administrator(claims))
            self._verified.add(token, self._verifier.keys(), claims, principal)
        return principal


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
        state.limits.refuse(record, request, failure)
        raise
    await state.limits.admit(record)


class _Bearer(SecurityBase):
    """The user who asks: found by `ApiRoute`, or on another route by this dependency, which then may refuse as well.

    As a security scheme it also stands in the OpenAPI document.

    Raises:
        Unauthenticated, RateLimited: as `admit`.

    """

    model = HTTPBearer(bearerFormat="JWT", description="A Better Auth access token.")
    scheme_name = "betterAuth"

    async def __call__(self, request: Request) -> Principal:
        record = current()
        if record.principal is None:
            await admit(record, request)
        principal: Principal = record.principal
        return principal


current_user = _Bearer()
CurrentUser = Annotated[Principal, Depends(current_user)]


async def administrator(user: CurrentUser) -> Administrator:
    """Return the user as an administrator, who sees every user's rows.

    Raises:
        Forbidden: the token does not say that this is one.

    """
    if not user.is_administrator:
        raise Forbidden
    return Administrator(user.user_id, is_administrator=True)


CurrentAdministrator = Annotated[Administrator, Depends(administrator)]
