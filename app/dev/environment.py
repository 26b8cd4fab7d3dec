"""What development needs and production must bring itself: a database, a secret, a token."""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jwt
import typer
from pydantic import SecretStr

from app.dev.postgres import postgres
from app.settings import Settings, SettingsError
from app.tokens import SUBJECT

HOME = Path(__file__).parents[2] / ".dev"


@contextmanager
def completed(settings: Settings) -> Iterator[Settings]:
    """Give the settings with a secret of this checkout and a running database, where they name none.

    Raises:
        SettingsError: these are the settings of a production.
        PostgresFailed: the embedded database does not start.

    """
    settings = with_secret(settings)
    if settings.database_url is not None:
        yield settings
        return
    with postgres(HOME / "postgres", say=typer.echo, slow_query_ms=settings.slow_query_ms) as server:
        yield settings.model_copy(update={"database_url": SecretStr(server.url())})


def with_secret(settings: Settings) -> Settings:
    """Return the settings with a secret: made up once a checkout, so that no public one ever signs a token.

    Where BETTER_AUTH_URL is set they need none.

    Raises:
        SettingsError: these are the settings of a production, or the secret cannot be kept.

    """
    if settings.environment == "production":
        raise SettingsError("This is a development command, and ENVIRONMENT says production.")
    if settings.better_auth_secret is not None or settings.better_auth_url is not None:
        return settings
    path = HOME / "secret"
    try:
        secret = _kept_secret(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be used ({error.strerror}); BETTER_AUTH_SECRET replaces it.") from None
    return settings.model_copy(update={"better_auth_secret": SecretStr(secret)})


def _kept_secret(path: Path) -> str:
    path.parent.mkdir(exist_ok=True)
    with suppress(FileExistsError), os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32))
    return path.read_text()


def token(settings: Settings, user_id: str, minutes: int, role: str | None = None) -> str:
    """Return a token that this application takes for `user_id`'s during `minutes`, with a claim `role` if there is one.

    Raises:
        SettingsError: no such user can be, BETTER_AUTH_URL signs tokens, or these are the settings of a production.

    """
    if settings.better_auth_url is not None:
        raise SettingsError(
            f"BETTER_AUTH_URL is set: sign in there, then GET {settings.better_auth_url}/api/auth/token."
        )
    checked_user(user_id)
    secret = with_secret(settings).better_auth_secret
    assert secret
    now = int(time.time())
    claims = {"sub": user_id, "iat": now, "exp": now + 60 * minutes}
    named = {"iss": settings.jwt_issuer, "aud": settings.jwt_audience, "role": role}
    return jwt.encode(claims | {k: v for k, v in named.items() if v}, secret.get_secret_value(), "HS256")


def checked_user(user_id: str) -> str:
    """Return `user_id`, which a token could name.

    Raises:
        SettingsError: no token could.

    """
    if not SUBJECT.fullmatch(user_id):
        raise SettingsError("A user's id is 1 to 64 of the characters A-Z a-z 0-9 _ and -.")
    return user_id
