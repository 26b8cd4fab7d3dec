"""Every environment variable the application reads: its type, its default, and what is refused."""

import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

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


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("must be a URL such as http://localhost:4318")
    return url


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Protocol = Literal["http/json", "http/protobuf"]
Network = IPv4Network | IPv6Network
ANYWHERE: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def parse_headers(headers: str) -> dict[str, str]:
    """Return the headers of `name=value,name=value`, values percent-encoded (OTEL_EXPORTER_OTLP_HEADERS)."""
    pairs = [part.partition("=") for part in headers.split(",") if part.strip()]
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}


def _otlp_headers(headers: SecretStr) -> SecretStr:
    parsed = parse_headers(headers.get_secret_value())
    if not all(name.replace("-", "").isalnum() and value.isprintable() and value for name, value in parsed.items()):
        raise ValueError("must be name=value pairs, separated by commas")
    return headers


OtlpHeaders = Annotated[SecretStr, AfterValidator(_otlp_headers)]


class Settings(BaseSettings):
    """The application's configuration; `.env.example` describes each variable."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    environment: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"
    slow_query_ms: Annotated[int, Field(ge=1, le=60_000)] = 100
    trust_traceparent: Annotated[tuple[Network, ...], NoDecode] = ()
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    database_url: PostgresUrl | None = None
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 8
    better_auth_secret: SecretStr | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None

    # The standard's own, as far as this application reads them; the OpenTelemetry packages read more of them.
    otel_sdk_disabled: bool = False
    otel_service_name: str | None = None
    otel_traces_exporter: Literal["otlp", "none"] = "otlp"
    otel_traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = "parentbased_traceidratio"
    otel_traces_sampler_arg: Annotated[float, Field(ge=0, le=1)] = 1.0
    otel_exporter_otlp_endpoint: HttpUrl | None = None
    otel_exporter_otlp_traces_endpoint: HttpUrl | None = None
    otel_exporter_otlp_protocol: Protocol = "http/json"
    otel_exporter_otlp_traces_protocol: Protocol | None = None
    otel_exporter_otlp_headers: OtlpHeaders = SecretStr("")
    otel_exporter_otlp_traces_headers: OtlpHeaders | None = None
    otel_exporter_otlp_timeout: Annotated[float, Field(gt=0, le=60)] = 10.0
    otel_exporter_otlp_compression: Literal["none", "gzip"] = "none"
    otel_exporter_otlp_certificate: Path | None = None
    otel_bsp_schedule_delay: Annotated[int, Field(ge=1)] = 5000
    otel_bsp_max_queue_size: Annotated[int, Field(ge=1)] = 2048
    otel_bsp_max_export_batch_size: Annotated[int, Field(ge=1)] = 512

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

    @field_validator("trust_traceparent", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        return ANYWHERE if parts == ["*"] else parts

    @field_validator("otel_exporter_otlp_certificate")
    @classmethod
    def _is_there(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError("there is no such file")
        return path

    @model_validator(mode="after")
    def _batches_fit_the_queue(self) -> Self:
        if self.otel_bsp_max_export_batch_size > self.otel_bsp_max_queue_size:
            raise ValueError("OTEL_BSP_MAX_EXPORT_BATCH_SIZE must not be over OTEL_BSP_MAX_QUEUE_SIZE")
        return self

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
