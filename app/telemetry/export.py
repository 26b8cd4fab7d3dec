"""Where spans go: in batches, from a thread of its own, to an OTLP/HTTP receiver that may be slow, full or gone.

Whatever it is, a request waits for nothing here: what the receiver does not take and the queue does not hold is dropped
and counted.
"""

import logging
from collections.abc import Sequence
from threading import Lock, Thread
from time import monotonic

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from app.settings import Settings
from app.settings.types import parse_headers
from app.telemetry.once import Once
from app.telemetry.otlp_http import JsonExporter
from app.telemetry.redaction import redact

SHUTDOWN_S = 2.0
WARN_EVERY_S = 60.0
PATH = "/v1/traces"  # https://opentelemetry.io/docs/specs/otel/protocol/exporter/#endpoint-urls-for-otlphttp

logger = logging.getLogger(__name__)


def exporter(settings: Settings) -> SpanExporter | None:
    """Return the exporter that the settings choose; none where they name no receiver."""
    base = settings.otel_exporter_otlp_endpoint
    endpoint = settings.otel_exporter_otlp_traces_endpoint or (base and base.removesuffix("/") + PATH)
    if settings.otel_sdk_disabled or settings.otel_traces_exporter == "none" or not endpoint:
        return None
    secret = settings.otel_exporter_otlp_traces_headers or settings.otel_exporter_otlp_headers
    headers = parse_headers(secret.get_secret_value())
    timeout = settings.otel_exporter_otlp_traces_timeout or settings.otel_exporter_otlp_timeout
    trusted = settings.otel_exporter_otlp_traces_certificate or settings.otel_exporter_otlp_certificate
    gzip = (settings.otel_exporter_otlp_traces_compression or settings.otel_exporter_otlp_compression) == "gzip"
    if (settings.otel_exporter_otlp_traces_protocol or settings.otel_exporter_otlp_protocol) == "http/json":
        return JsonExporter(endpoint, headers, timeout, trusted, settings.client_files, gzip=gzip)
    trusted_file, certificate, key = (str(path) if path else None for path in (trusted, *settings.client_files))
    return OTLPSpanExporter(
        endpoint,
        certificate_file=trusted_file,
        client_certificate_file=certificate,
        client_key_file=key,
        headers=headers,
        timeout=timeout,
        compression=Compression.Gzip if gzip else Compression.NoCompression,
    )


class Export(BatchSpanProcessor):
    """Queues ended spans for the exporter. `dropped` is how many were lost so far."""

    def __init__(self, exporter: SpanExporter, settings: Settings) -> None:
        self._counted = _Counted(exporter)
        self._size = settings.otel_bsp_max_queue_size
        self._lock = Lock()
        self._entered = self._refused = 0
        self._warned, self._told = -WARN_EVERY_S, 0
        super().__init__(
            self._counted,
            max_queue_size=self._size,
            schedule_delay_millis=settings.otel_bsp_schedule_delay,
            max_export_batch_size=settings.otel_bsp_max_export_batch_size,
        )

    @property
    def dropped(self) -> int:
        """Spans that were refused by a full queue or not taken by the receiver."""
        return self._refused + self._counted.failed

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span, unless the queue is full: the SDK's own would drop its oldest without telling how many."""
        if not (span.context and span.context.trace_flags.sampled):
            return
        with self._lock:
            full = self._entered - self._counted.taken >= self._size
            self._refused += full
            self._entered += not full
        if not full:
            super().on_end(span)
        if self.dropped > self._told:
            self._warn()

    def shutdown(self) -> None:
        """Send what is queued, within SHUTDOWN_S; whatever is left then is lost, and said so."""
        flush = Thread(target=super().shutdown, name="span flush", daemon=True)
        flush.start()
        flush.join(SHUTDOWN_S)
        self._counted.shutdown()
        lost = self._refused + self._entered - self._counted.delivered
        if lost:
            logger.warning("%d spans were dropped since the start: the collector did not take them", lost)

    def _warn(self) -> None:
        now = monotonic()
        if now - self._warned >= WARN_EVERY_S:
            self._warned, self._told = now, self.dropped
            logger.warning("%d spans dropped so far: the collector does not take them", self._told)


class _Counted(SpanExporter):
    """Redacts and counts what goes through an exporter. A span that cannot be encoded costs no other of its batch."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._closed = False
        self._errors = Once()
        self.taken = self.delivered = self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        return self._send(spans)

    def _send(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export([redact(span) for span in spans])
        except Exception as error:
            if len(spans) > 1:
                middle = len(spans) // 2
                for half in (spans[:middle], spans[middle:]):
                    self._send(half)
                return SpanExportResult.SUCCESS  # each half is counted by itself, and nobody else asks
            if self._errors.is_new(type(error)):  # without its message, which may hold a value
                logger.warning("a span cannot be encoded: %s", type(error).__qualname__, exc_info=error)
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self.delivered += len(spans)
        else:
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()
