"""Every environment variable the application reads: its type, its default, and what is refused."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIN_SECRET_BYTES = 32  # RFC 7518, 3.2: an HS256 key is at least as long as the hash
EXAMPLE_SECRETS = {"change-me-to-at-least-32-random-bytes"}


class SettingsError(Exception):
    """Settings the application can't run with; the message names each variable, one a line, and never its value."""


def _postgres_url(url: SecretStr) -> SecretStr:
    scheme, _, rest = url.get_secret_value().partition("://")
    if scheme not in {"postgres", "postgresql", "postgresql+psycopg2"} or not rest:
        raise ValueError("must be a PostgreSQL URL such as postgresql://user:password@host/database")
    return SecretStr(f"postgresql+psycopg2://{rest}")


PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]


class Settings(BaseSettings):
    """The application's configuration; `.env.example` describes each variable."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    environment: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    database_url: PostgresUrl | None = None
    database_migration_url: PostgresUrl | None = None
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 8
    database_timeout_ms: Annotated[int, Field(ge=200, le=60_000)] = 2000
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 32
    shutdown_delay_s: Annotated[int, Field(ge=0, le=5)] = 0
    better_auth_secret: SecretStr | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None

    @classmethod
    def load(cls) -> Self:
        """Read the environment, and `.env` as well unless the environment says production.

        Raises:
            SettingsError: a variable is missing, malformed or unsafe.

        """
        env_file = None if os.environ.get("ENVIRONMENT") == "production" else Path(".env")
        try:
            return cls(_env_file=env_file)
        except ValidationError as error:
            raise SettingsError("\n".join(_readable(error))) from None
        except (UnicodeDecodeError, OSError) as error:
            raise SettingsError(f".env cannot be read: {type(error).__name__}") from None

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            scheme, separator, host = origin.partition("://")
            if scheme not in {"http", "https"} or not separator or not host or "/" in host or "*" in host:
                raise ValueError("each must be an origin such as https://app.example.com: no path, no wildcard")
        return origins

    @field_validator("better_auth_secret")
    @classmethod
    def _is_strong(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must be at least {MIN_SECRET_BYTES} bytes; `openssl rand -base64 32` makes one")
        return secret

    @model_validator(mode="after")
    def _is_safe_in_production(self) -> Self:
        if self.environment != "production":
            return self
        if self.database_url is None:
            raise ValueError("DATABASE_URL is required in production")
        if self.better_auth_secret is None:
            raise ValueError("BETTER_AUTH_SECRET is required in production")
        if self.better_auth_secret.get_secret_value() in EXAMPLE_SECRETS:
            raise ValueError("BETTER_AUTH_SECRET is the example's; `openssl rand -base64 32` makes a real one")
        return self


def _readable(error: ValidationError) -> list[str]:
    return [
        f"{str(line['loc'][0]).upper()}: {line['msg']}" if line["loc"] else line["msg"].removeprefix("Value error, ")
        for line in error.errors(include_url=False, include_input=False)
    ]
