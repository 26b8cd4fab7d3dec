"""Bearer token -> Principal (RFC 6750, RFC 7519): who asks, verified, or a refusal with its reason."""

import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

import jwt
from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.datastructures import Headers

from app.errors import AppError, Forbidden

LEEWAY_S = 30
MAX_VERIFIED = 4096  # 4 MB of usual tokens, 36 MB of the longest
MAX_TOKEN_BYTES = 8192
TOKEN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}")  # RFC 7515, 7.1; PyJWT passes over what is not base64url
ADMIN = "admin"  # Better Auth's own name for the role
SUBJECT = re.compile(r"[A-Za-z0-9_-]{1,64}")
TYPES = {"jwt", "at+jwt"}  # RFC 7519, 5.1 and RFC 9068, 2.1


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


class Unauthenticated(AppError):
    """No bearer token was sent (RFC 6750, 3.1: then the challenge names no error)."""

    status, code, detail = 401, "token_missing", "Send an access token: `Authorization: Bearer <token>`."
    challenge: ClassVar[str] = "Bearer"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": self.challenge})


class InvalidToken(Unauthenticated):
    """A token was sent and is not good; the reason goes to nobody who could use it."""

    code, detail = "token_invalid", "The access token is not valid here."
    challenge = 'Bearer error="invalid_token"'


class ExpiredToken(InvalidToken):
    """The token was good once: fetch a fresh one."""

    code, detail = "token_expired", "The access token has expired."
    challenge = 'Bearer error="invalid_token", error_description="The access token has expired"'


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
    if len(token) > MAX_TOKEN_BYTES or not TOKEN.fullmatch(token):
        raise InvalidToken
    return token


def decode(token: str, key: Any, algorithm: str, issuer: str | None, audience: str | None) -> dict[str, Any]:
    """Return the claims of `token`, its signature and times checked against `key` by `algorithm` alone.

    Raises:
        ExpiredToken, InvalidToken: whatever is wrong; PyJWT's errors have no common class (InvalidKeyError is no
            InvalidTokenError, and hostile input raises ValueError and RecursionError too), so all are caught.

    """
    options: Any = {"require": ["exp", "sub"], "verify_aud": audience is not None}
    try:
        verified = jwt.decode_complete(
            token, key, [algorithm], options, issuer=issuer, audience=audience, leeway=LEEWAY_S
        )
    except jwt.ExpiredSignatureError:
        raise ExpiredToken from None
    except Exception:  # noqa: BLE001  see Raises
        raise InvalidToken from None
    header: dict[str, Any] = verified["header"]
    claims: dict[str, Any] = verified["payload"]
    if "crit" in header or str(header.get("typ", "JWT")).lower() not in TYPES or not _has_numeric_dates(claims):
        raise InvalidToken
    return claims


def _has_numeric_dates(claims: dict[str, Any]) -> bool:
    """Tell whether the times are numbers (RFC 7519, 2): PyJWT also takes "123" and true."""
    return all(type(claims[name]) in {int, float} for name in ("exp", "nbf", "iat") if name in claims)


def subject(claims: dict[str, Any]) -> str:
    """Return the `sub` of verified `claims`: an opaque id, so neither an e-mail address nor a kilobyte of anything."""
    sub = claims["sub"]
    if not isinstance(sub, str) or not SUBJECT.fullmatch(sub):
        raise InvalidToken
    return sub


def is_administrator(claims: dict[str, Any]) -> bool:
    """Tell whether the `role` of verified `claims` holds `admin`; several roles are separated by commas.

    Better Auth's admin plugin keeps it, its jwt plugin signs it (https://better-auth.com/docs/plugins/admin#roles).
    """
    role = claims.get("role")
    return isinstance(role, str) and ADMIN in role.split(",")


class _Bearer(SecurityBase):
    """What `ApiRoute` found, handed on; as a security scheme it also stands in the OpenAPI document."""

    model = HTTPBearer(bearerFormat="JWT", description="A Better Auth access token.")
    scheme_name = "betterAuth"

    async def __call__(self, request: Request) -> Principal:
        principal: Principal = request.state.principal
        return principal


CurrentUser = Annotated[Principal, Depends(_Bearer())]


async def administrator(user: CurrentUser) -> Administrator:
    """Return the user as an administrator, who sees every user's rows.

    Raises:
        Forbidden: the token does not say that this is one.

    """
    if not user.is_administrator:
        raise Forbidden
    return Administrator(user.user_id, is_administrator=True)


CurrentAdministrator = Annotated[Administrator, Depends(administrator)]
