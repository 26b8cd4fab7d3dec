"""Tokens for development: signed with the application's secret, or one that is made for this checkout."""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

import jwt
from pydantic import SecretStr

from app.auth.tokens import SUBJECT
from app.settings import Settings, SettingsError

SECRET_FILE = Path(__file__).parents[2] / ".dev" / "secret"


def token(settings: Settings, user_id: str, minutes: int, role: str | None = None) -> str:
    """Return a token of `user_id` that this application accepts for `minutes`; `role` becomes a claim.

    Raises:
        SettingsError: `user_id` is malformed, BETTER_AUTH_URL signs the tokens, or ENVIRONMENT is production.
    """
    if url := settings.better_auth_url:
        raise SettingsError(f"BETTER_AUTH_URL is set: sign in there, then GET {url}/api/auth/token.")
    check_user_id(user_id)
    secret = with_secret(settings).better_auth_secret
    assert secret
    now = int(time.time())
    claims = {"sub": user_id, "iat": now, "exp": now + 60 * minutes}
    optional = {"iss": settings.jwt_issuer, "aud": settings.jwt_audience, "role": role}
    return jwt.encode(claims | {k: v for k, v in optional.items() if v}, secret.get_secret_value(), "HS256")


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
