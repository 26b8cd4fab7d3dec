"""Who asks: the bearer token of a request, verified, as a `Principal`."""

from app.auth.users import (
    MAX_VERIFIED,
    Administrator,
    Authenticator,
    CurrentAdministrator,
    CurrentUser,
    Principal,
    SecretVerifier,
    VerifiedTokens,
    Verifier,
    admit,
    current_user,
)

__all__ = [
    "MAX_VERIFIED",
    "Administrator",
    "Authenticator",
    "CurrentAdministrator",
    "CurrentUser",
    "Principal",
    "SecretVerifier",
    "VerifiedTokens",
    "Verifier",
    "admit",
    "current_user",
]
