"""The OpenTelemetry standard's own variables, as far as this application reads them; its packages read more of them.

A variable with TRACES in its name wins over the one without
(https://opentelemetry.io/docs/specs/otel/protocol/exporter/#configuration-options).
"""

import ssl
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from app.settings.types import OtlpHeaders, Protocol, ReceiverUrl

Compression = Literal["none", "gzip"]
Seconds = Annotated[float, Field(gt=0, le=60)]


class OtelSettings(BaseSettings):
    """The part of the application's configuration that is the same in every program with OpenTelemetry."""

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
    otel_exporter_otlp_endpoint: ReceiverUrl | None = None
    otel_exporter_otlp_traces_endpoint: ReceiverUrl | None = None
    otel_exporter_otlp_protocol: Protocol = "http/json"
    otel_exporter_otlp_traces_protocol: Protocol | None = None
    otel_exporter_otlp_headers: OtlpHeaders = SecretStr("")
    otel_exporter_otlp_traces_headers: OtlpHeaders | None = None
    otel_exporter_otlp_timeout: Seconds = 10.0
    otel_exporter_otlp_traces_timeout: Seconds | None = None
    otel_exporter_otlp_compression: Compression = "none"
    otel_exporter_otlp_traces_compression: Compression | None = None
    otel_exporter_otlp_certificate: Path | None = None
    otel_exporter_otlp_traces_certificate: Path | None = None
    otel_exporter_otlp_client_certificate: Path | None = None
    otel_exporter_otlp_traces_client_certificate: Path | None = None
    otel_exporter_otlp_client_key: Path | None = None
    otel_exporter_otlp_traces_client_key: Path | None = None
    otel_bsp_schedule_delay: Annotated[int, Field(ge=1)] = 5000
    otel_bsp_max_queue_size: Annotated[int, Field(ge=1)] = 2048
    otel_bsp_max_export_batch_size: Annotated[int, Field(ge=1)] = 512

    @property
    def client_files(self) -> tuple[Path | None, Path | None]:
        """The files of the certificate and the key that a receiver asks for; one file may hold both."""
        certificate = self.otel_exporter_otlp_traces_client_certificate or self.otel_exporter_otlp_client_certificate
        return certificate, self.otel_exporter_otlp_traces_client_key or self.otel_exporter_otlp_client_key

    @field_validator("otel_exporter_otlp_certificate", "otel_exporter_otlp_traces_certificate")
    @classmethod
    def _is_there(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError("there is no such file")
        try:
            ssl.create_default_context(cafile=path)
        except OSError:
            raise ValueError("the file holds no certificate") from None
        return path

    @model_validator(mode="after")
    def _client_has_a_pair(self) -> Self:
        certificate, key = self.client_files
        try:
            if certificate or key:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate or "", key, password="")
        except OSError:
            names = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _KEY (or OTEL_EXPORTER_OTLP_TRACES_CLIENT_…)"
            raise ValueError(f"{names} must be PEM files of one pair, without a password") from None
        return self

    @model_validator(mode="after")
    def _batches_fit_the_queue(self) -> Self:
        if self.otel_bsp_max_export_batch_size > self.otel_bsp_max_queue_size:
            raise ValueError("OTEL_BSP_MAX_EXPORT_BATCH_SIZE must not be over OTEL_BSP_MAX_QUEUE_SIZE")
        return self
