"""Tokens for development: signed with the application's secret, or one that is made for this checkout."""

import json
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
from pydantic import SecretStr

from app.auth.claims import WrongClaim, claim_names, read_claims
from app.auth.tokens import SUBJECT
from app.settings import Settings, SettingsError

SECRET_FILE = Path(__file__).parents[2] / ".dev" / "secret"
RESERVED = {"sub", "exp", "iat", "nbf", "iss", "aud"}  # the command and the settings say these


def token(settings: Settings, user_id: str, minutes: int, claims: Sequence[str] = ()) -> str:
    """Return a token of `user_id` that this application accepts for `minutes`, with `claims` such as `role=admin`.

    Raises:
        SettingsError: `user_id` or a claim is wrong, BETTER_AUTH_URL signs the tokens, or ENVIRONMENT is production.
    """
    if url := settings.better_auth_url:
        raise SettingsError(f"BETTER_AUTH_URL is set: sign in there, then GET {url}/api/auth/token.")
    check_user_id(user_id)
    chosen = parse_claims(claims)
    secret = with_secret(settings).better_auth_secret
    assert secret
    now = int(time.time())
    fixed = {"sub": user_id, "iat": now, "exp": now + 60 * minutes}
    optional = {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}
    payload = chosen | fixed | {name: value for name, value in optional.items() if value}
    return jwt.encode(payload, secret.get_secret_value(), "HS256")


def parse_claims(texts: Sequence[str]) -> dict[str, Any]:
    """Return the claims of texts such as `role=admin`: a value that is JSON is read as JSON.

    Raises:
        SettingsError: a text is none, or the application would not read the claim, or refuse it.
    """
    claims: dict[str, Any] = {}
    for name, is_given, value in (text.partition("=") for text in texts):
        if not is_given or name in claims:
            raise SettingsError("--claim is NAME=VALUE, once for each name, such as --claim role=admin.")
        if name in RESERVED or name not in claim_names():
            raise SettingsError(f"--claim may name {', '.join(claim_names())}: app/auth/claims.py has others read.")
        try:
            claims[name] = json.loads(value)
        except (ValueError, RecursionError):
            claims[name] = value
    try:
        read_claims(claims)
    except WrongClaim as error:
        raise SettingsError(f"--claim: {error}.") from None
    return claims


def check_user_id(user_id: str) -> None:
    """Raise SettingsError if no token can name `user_id`."""
    if not SUBJECT.fullmatch(user_id):
        raise SettingsError("A user's id is 1 to 64 of the characters A-Z a-z 0-9 _ and -.")


def with_secret(settings: Settings) -> Settings:
    """Return the settings with a secret: if they need one and name none, that in `.dev/secret`, which is made once.

    Raises:
        SettingsError: ENVIRONMENT is production, or the file cannot be used.
    """
    if settings.environment == "production":
        raise SettingsError("This is a development command, and ENVIRONMENT says production.")
    if settings.better_auth_secret is not None or settings.better_auth_url is not None:
        return settings
    try:
        secret = _read_or_make(SECRET_FILE)
    except OSError as error:
        reason = f"{SECRET_FILE} cannot be used ({error.strerror}); BETTER_AUTH_SECRET replaces it."
        raise SettingsError(reason) from None
    return settings.model_copy(update={"better_auth_secret": SecretStr(secret)})


def _read_or_make(path: Path) -> str:
    path.parent.mkdir(exist_ok=True)
    with suppress(FileExistsError), os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32))
    return path.read_text()
