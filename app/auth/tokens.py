"""Where a token is checked (RFC 6750, RFC 7515, RFC 7519): whose it is, or why it is refused."""

import logging
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jwt

from app.auth.claims import Claims, WrongClaim, read_claims
from app.errors import AppError

LEEWAY_S = 30
SUBJECT = re.compile(r"[A-Za-z0-9_-]{1,64}")  # an opaque id: no e-mail address, no kilobytes
TYPES = {"jwt", "at+jwt"}  # RFC 7519, 5.1 and RFC 9068, 2.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified user: `user_id` is the token's `sub`, `claims` are what else the token says.

    The user sees only own rows, and of tables with protect(…, by="org_id") those of the organization.
    """

    database_role: ClassVar[str] = "tasks_api"
    user_id: str
    claims: Claims = field(default_factory=Claims)

    @property
    def is_administrator(self) -> bool:
        """Tell whether the user may ask as an `Administrator`; the principal itself sees no more rows by it."""
        return "admin" in self.claims.role


@dataclass(frozen=True, slots=True)
class Administrator(Principal):
    """A verified administrator, who sees every user's rows, changes none, and is logged."""

    database_role: ClassVar[str] = "tasks_admin"


class Unauthenticated(AppError):
    """No bearer token was sent (RFC 6750, 3.1: then the challenge names no error)."""

    status, code, detail = 401, "token_missing", "Send an access token: `Authorization: Bearer <token>`."
    challenge: ClassVar[str] = "Bearer"
    reason: ClassVar[str | None] = None  # for the metrics, where it is not the code

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


class EarlyToken(InvalidToken):
    """The token was signed by its issuer, and is not valid yet: its clock and ours differ."""

    reason = "token_early"


def verify_token(token: str, key: jwt.PyJWK, issuer: str | None, audience: str | None) -> dict[str, Any]:
    """Return the claims of `token`, or raise ExpiredToken, EarlyToken or InvalidToken.

    The signature is checked by the key's own algorithm; the one that the token names is not used.
    """
    options: Any = {"require": ["exp", "sub"], "verify_aud": audience is not None}
    try:
        verified = jwt.decode_complete(
            token, key, [key.algorithm_name], options, issuer=issuer, audience=audience, leeway=LEEWAY_S
        )
    except jwt.ExpiredSignatureError:
        raise ExpiredToken from None
    except jwt.ImmatureSignatureError:
        logger.warning("a token is refused: by our clock it is not valid yet")
        raise EarlyToken from None
    except Exception:  # noqa: BLE001  InvalidKeyError is no InvalidTokenError; hostile input raises RecursionError too
        raise InvalidToken from None
    header: dict[str, Any] = verified["header"]
    claims: dict[str, Any] = verified["payload"]
    dates = [claims[name] for name in ("exp", "nbf", "iat") if name in claims]
    are_numbers = all(type(date) in {int, float} for date in dates)  # RFC 7519, 2; PyJWT also takes "123" and true
    if "crit" in header or str(header.get("typ", "JWT")).lower() not in TYPES or not are_numbers:
        raise InvalidToken
    return claims


def principal_of(payload: dict[str, Any]) -> Principal:
    """Return the user of a verified token; or raise InvalidToken, and log which claim is wrong."""
    sub = payload["sub"]
    if not isinstance(sub, str) or not SUBJECT.fullmatch(sub):
        raise InvalidToken
    try:
        return Principal(sub, read_claims(payload))
    except WrongClaim as error:
        logger.warning("a token is refused: %s", error)
        raise InvalidToken from None
