"""Every environment variable the application reads: its type, its default, and what is refused."""

import os
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, AnyHttpUrl, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.settings import types

PUBLIC_SECRETS = {
    "change-me-to-at-least-32-random-bytes",  # the example of our own documents
    "better-auth-secret-12345678901234567890",  # what Better Auth takes where it is given none
}


OLD_NAMES = {"REQUEST_DEADLINE_MS": "DATABASE_TIMEOUT_MS"}
NO_REVISION = "unknown"


class SettingsError(Exception):
    """Settings the application can't run with; the message names each variable, one a line, and never its value."""


class Settings(BaseSettings):
    """The application's configuration; `.env.example` describes each variable."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    environment: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: types.Port = 8000
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"
    trust_traceparent: types.Networks = ()
    trust_browser_traceparent: bool = False
    cors_origins: types.Origins = ()
    cors_headers: types.FieldNames = ()
    database_url: types.PostgresUrl | None = None
    database_migration_url: types.PostgresUrl | None = None
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 8
    request_deadline_ms: Annotated[
        int, Field(ge=200, le=60_000, validation_alias=AliasChoices("request_deadline_ms", "database_timeout_ms"))
    ] = 2000
    migrate_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 60
    slow_query_ms: Annotated[int, Field(ge=1, le=60_000)] = 100
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 32
    shutdown_delay_s: Annotated[int, Field(ge=0, le=5)] = 0
    better_auth_url: types.BaseUrl | None = None
    better_auth_jwks_path: types.UrlPath = "/api/auth/jwks"
    better_auth_secret: types.Hs256Secret | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    metrics_enabled: bool = True
    metrics_port: types.Port | None = None
    metrics_token: types.BearerToken | None = None
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = NO_REVISION
    rate_limit: types.RateLimits = "100/minute"
    rate_limit_unauthenticated: types.RateLimits = "20/minute"
    rate_limit_storage_uri: types.StorageUri = SecretStr(types.MEMORY)
    forwarded_allow_ips: types.Proxies = ()
    root_path: types.RootPath | None = None

    # The OpenTelemetry standard's own variables. Its packages read more of them.
    otel_sdk_disabled: bool = False
    otel_service_name: str | None = None
    otel_traces_exporter: Literal["otlp", "none"] = "otlp"
    otel_logs_exporter: Literal["otlp", "none"] = "none"
    otel_traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = "parentbased_traceidratio"
    otel_traces_sampler_arg: Annotated[float, Field(ge=0, le=1)] = 1.0
    otel_exporter_otlp_endpoint: AnyHttpUrl | None = None
    otel_exporter_otlp_traces_endpoint: AnyHttpUrl | None = None
    otel_exporter_otlp_logs_endpoint: AnyHttpUrl | None = None
    otel_exporter_otlp_protocol: types.Protocol = "http/json"
    otel_exporter_otlp_traces_protocol: types.Protocol | None = None
    otel_exporter_otlp_logs_protocol: types.Protocol | None = None
    otel_exporter_otlp_headers: types.OtlpHeaders = SecretStr("")
    otel_exporter_otlp_traces_headers: types.OtlpHeaders | None = None
    otel_exporter_otlp_logs_headers: types.OtlpHeaders | None = None
    otel_exporter_otlp_timeout: types.Seconds = 10.0
    otel_exporter_otlp_traces_timeout: types.Seconds | None = None
    otel_exporter_otlp_logs_timeout: types.Seconds | None = None
    otel_exporter_otlp_compression: types.Compression = "none"
    otel_exporter_otlp_traces_compression: types.Compression | None = None
    otel_exporter_otlp_logs_compression: types.Compression | None = None
    otel_exporter_otlp_certificate: types.Authority | None = None
    otel_exporter_otlp_traces_certificate: types.Authority | None = None
    otel_exporter_otlp_logs_certificate: types.Authority | None = None
    otel_exporter_otlp_client_certificate: Path | None = None
    otel_exporter_otlp_traces_client_certificate: Path | None = None
    otel_exporter_otlp_logs_client_certificate: Path | None = None
    otel_exporter_otlp_client_key: Path | None = None
    otel_exporter_otlp_traces_client_key: Path | None = None
    otel_exporter_otlp_logs_client_key: Path | None = None
    otel_bsp_schedule_delay: Annotated[int, Field(ge=1)] = 5000
    otel_bsp_max_queue_size: Annotated[int, Field(ge=1)] = 2048
    otel_bsp_max_export_batch_size: Annotated[int, Field(ge=1)] = 512
    otel_blrp_schedule_delay: Annotated[int, Field(ge=1)] = 1000
    otel_blrp_max_queue_size: Annotated[int, Field(ge=1)] = 2048
    otel_blrp_max_export_batch_size: Annotated[int, Field(ge=1)] = 512

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
            raise SettingsError("ENVIRONMENT: set production in the environment; .env is only for development")
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

    def for_signal(self, signal: str, name: str) -> Any:
        """Return the value of OTEL_EXPORTER_OTLP_<signal>_<name>; without one, that of OTEL_EXPORTER_OTLP_<name>.

        https://opentelemetry.io/docs/specs/otel/protocol/exporter/#configuration-options
        """
        value = getattr(self, f"otel_exporter_otlp_{signal}_{name}")
        return getattr(self, f"otel_exporter_otlp_{name}") if value is None else value

    @model_validator(mode="after")
    def _verify_together(self) -> Self:
        """Refuse values that do not go with one another, or not with production; name each."""
        if faults := [*self._find_contradictions(), *self._find_unsafe()]:
            raise ValueError("\n".join(faults))
        return self

    def _find_contradictions(self) -> Iterator[str]:
        if self.metrics_port == self.port:
            yield "METRICS_PORT must not be PORT: everybody reaches that one"
        if self.trust_browser_traceparent and not self.cors_origins:
            yield "TRUST_BROWSER_TRACEPARENT trusts the origins of CORS_ORIGINS, which names none"
        if self.otel_bsp_max_export_batch_size > self.otel_bsp_max_queue_size:
            yield "OTEL_BSP_MAX_EXPORT_BATCH_SIZE must not be over OTEL_BSP_MAX_QUEUE_SIZE"
        if self.otel_blrp_max_export_batch_size > self.otel_blrp_max_queue_size:
            yield "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE must not be over OTEL_BLRP_MAX_QUEUE_SIZE"
        endpoints = self.otel_exporter_otlp_logs_endpoint, self.otel_exporter_otlp_endpoint
        if self.otel_logs_exporter == "otlp" and not any(endpoints):
            yield "OTEL_LOGS_EXPORTER=otlp needs OTEL_EXPORTER_OTLP_LOGS_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT"
        yield from self._find_bad_pairs()

    def _find_bad_pairs(self) -> Iterator[str]:
        for signal in ("traces", "logs"):
            certificate, key = self.for_signal(signal, "client_certificate"), self.for_signal(signal, "client_key")
            try:
                if certificate or key:
                    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate or "", key, password="")
            except OSError:
                names = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _KEY"
                alternative = f"OTEL_EXPORTER_OTLP_{signal.upper()}_CLIENT_…"
                yield f"{names} (or {alternative}) must be PEM files of one pair, without a password"

    def _find_unsafe(self) -> Iterator[str]:
        if self.environment != "production":
            return
        if self.better_auth_url and not is_private(self.better_auth_url):
            yield "BETTER_AUTH_URL must be https in production, or name a host of this machine or network"
        if self.better_auth_secret and self.better_auth_secret.get_secret_value() in PUBLIC_SECRETS:
            yield "BETTER_AUTH_SECRET is a public one; `openssl rand -base64 32` makes a real one"


def is_private(url: str) -> bool:
    """Tell whether nobody on the way to `url` can change the keys it serves, and so sign for any user.

    A host without a dot (`http://auth:3000` in Compose) is resolved only inside the deployment's own network.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" or host in {"127.0.0.1", "::1"} or not re.search("[.:]", host)


def refusal(error: ValidationError) -> SettingsError:
    """Return the error with a line for each variable that is wrong."""
    lines = []
    for detail in error.errors(include_input=False):
        message = detail["msg"].removeprefix("Value error, ")
        name = str(detail["loc"][0]).upper() if detail["loc"] else None
        old = f" (its old name is {OLD_NAMES[name]})" if name in OLD_NAMES else ""
        lines.append(f"{name}: {message}{old}" if name else message)
    return SettingsError("\n".join(dict.fromkeys(lines)))
