"""Every environment variable the application reads: its type, its default, and what is refused."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from app.settings.limits import MEMORY
from app.settings.otel import OtelSettings
from app.settings.types import (
    BaseUrl,
    FieldNames,
    Limits,
    Networks,
    Origins,
    Port,
    PostgresUrl,
    RootPath,
    StorageUri,
    UrlPath,
    parse_network,
)

MIN_SECRET_BYTES = 32  # RFC 7518, 3.2: an HS256 key is at least as long as the hash
PUBLIC_SECRETS = {
    "change-me-to-at-least-32-random-bytes",  # the example of our own documents
    "better-auth-secret-12345678901234567890",  # what Better Auth takes where it is given none
}
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")  # RFC 6750, 2.1


class SettingsError(Exception):
    """Settings the application can't run with; the message names each variable, one a line, and never its value."""


class Settings(OtelSettings):
    """The application's configuration; `.env.example` describes each variable."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    environment: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: Port = 8000
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"
    trust_traceparent: Annotated[Networks, NoDecode] = ()
    trust_browser_traceparent: bool = False
    cors_origins: Annotated[Origins, NoDecode] = ()
    cors_headers: Annotated[FieldNames, NoDecode] = ()
    database_url: PostgresUrl | None = None
    database_migration_url: PostgresUrl | None = None
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 8
    database_timeout_ms: Annotated[int, Field(ge=200, le=60_000)] = 2000
    slow_query_ms: Annotated[int, Field(ge=1, le=60_000)] = 100
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 32
    shutdown_delay_s: Annotated[int, Field(ge=0, le=5)] = 0
    better_auth_url: BaseUrl | None = None
    better_auth_jwks_path: UrlPath = "/api/auth/jwks"
    better_auth_secret: SecretStr | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    metrics_enabled: bool = True
    metrics_token: SecretStr | None = None
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "unknown"
    rate_limit: Limits = "100/minute"
    rate_limit_unauthenticated: Limits = "20/minute"
    rate_limit_storage_uri: StorageUri = SecretStr(MEMORY)
    forwarded_allow_ips: Annotated[tuple[str, ...], NoDecode] = ()
    root_path: RootPath | None = None

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read the environment, and `.env` as well unless the environment says production; what is `given` wins.

        Raises:
            SettingsError: a variable is malformed or unsafe.

        """
        env_file = None if os.environ.get("ENVIRONMENT") == "production" else Path(".env")
        try:
            settings = cls(_env_file=env_file, **given)
        except ValidationError as error:
            raise refusal(error) from None
        except (UnicodeDecodeError, OSError) as error:
            raise SettingsError(f".env cannot be read: {type(error).__name__}") from None
        if env_file and env_file.exists() and settings.environment == "production":
            raise SettingsError("ENVIRONMENT: production is for the environment to say; .env is for development alone")
        return settings

    @classmethod
    def complete(cls) -> Self:
        """Read the environment, which has all that is needed to serve.

        Raises:
            SettingsError: a variable is malformed, unsafe or missing.

        """
        settings = cls.load()
        if missing := settings.missing():
            raise SettingsError("\n".join(missing))
        return settings

    def missing(self) -> list[str]:
        """Return what stands in the way of serving with these settings, a line for each variable."""
        where = "in production" if self.environment == "production" else "here; `make dev` brings its own."
        database = [] if self.database_url else ["DATABASE_URL"]
        auth = [] if self.better_auth_url or self.better_auth_secret else ["BETTER_AUTH_URL or BETTER_AUTH_SECRET"]
        return [f"{name} is required {where}" for name in database + auth]

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("cors_origins", "cors_headers", "forwarded_allow_ips", "trust_traceparent", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            _ = network == "*" or parse_network(network)
        if "*" in networks and len(networks) > 1:
            raise ValueError("`*` trusts everyone and stands alone")
        return networks

    @model_validator(mode="after")
    def _trusts_known_origins(self) -> Self:
        if self.trust_browser_traceparent and not self.cors_origins:
            raise ValueError("TRUST_BROWSER_TRACEPARENT trusts the origins of CORS_ORIGINS, which names none")
        return self

    @field_validator("better_auth_secret")
    @classmethod
    def _is_strong(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must be at least {MIN_SECRET_BYTES} bytes; `openssl rand -base64 32` makes one")
        return secret

    @field_validator("metrics_token")
    @classmethod
    def _is_a_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not _BEARER_TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError("must be at least 16 letters, digits or -._~+/; `openssl rand -hex 32` makes one")
        return token

    @model_validator(mode="after")
    def _is_safe_in_production(self) -> Self:
        if self.environment != "production":
            return self
        if self.better_auth_url is not None and not _is_private(self.better_auth_url):
            raise ValueError("BETTER_AUTH_URL must be https in production, or name a host of this machine or network")
        if self.better_auth_secret is not None and self.better_auth_secret.get_secret_value() in PUBLIC_SECRETS:
            raise ValueError("BETTER_AUTH_SECRET is a public one; `openssl rand -base64 32` makes a real one")
        return self


def _is_private(url: str) -> bool:
    """Tell whether nobody between here and `url` can swap the keys it serves, and so sign for any user.

    A host without a dot (`http://auth:3000` in Compose) is resolved inside the deployment's own network alone.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_near = "." not in host and ":" not in host
    return parts.scheme == "https" or is_near or host in {"127.0.0.1", "::1"}


def refusal(error: ValidationError) -> SettingsError:
    """Return the error with a line for each variable that is wrong."""
    lines = [(line["loc"], line["msg"].removeprefix("Value error, ")) for line in error.errors(include_input=False)]
    named = [f"{str(location[0]).upper()}: {message}" if location else message for location, message in lines]
    return SettingsError("\n".join(named))
