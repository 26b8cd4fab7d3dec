"""Where spans go: in batches, from a thread of their own, to an OTLP/HTTP receiver that may be slow, full or gone.

No request waits for it. A span that the receiver does not take, or for which the queue has no room, is dropped and
counted.
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
from app.telemetry.otlp_http import JsonExporter
from app.telemetry.redaction import redact

SHUTDOWN_S = 2.0
WARN_EVERY_S = 60.0
PATH = "/v1/traces"  # https://opentelemetry.io/docs/specs/otel/protocol/exporter/#endpoint-urls-for-otlphttp

logger = logging.getLogger(__name__)


def make_exporter(settings: Settings) -> SpanExporter | None:
    """Return the exporter that the settings choose, or None if they name no receiver."""
    base = settings.otel_exporter_otlp_endpoint
    endpoint = settings.otel_exporter_otlp_traces_endpoint or (base and str(base).removesuffix("/") + PATH)
    if settings.otel_sdk_disabled or settings.otel_traces_exporter == "none" or not endpoint:
        return None
    if settings.for_traces("protocol") == "http/json":
        return JsonExporter(str(endpoint), settings)
    files = [settings.for_traces(name) for name in ("certificate", "client_certificate", "client_key")]
    authority, certificate, key = [str(file) if file else None for file in files]
    return OTLPSpanExporter(
        str(endpoint),
        certificate_file=authority,
        client_certificate_file=certificate,
        client_key_file=key,
        headers=parse_headers(settings.for_traces("headers")),
        timeout=settings.for_traces("timeout"),
        compression=Compression(settings.for_traces("compression")),
    )


class SpanQueue(BatchSpanProcessor):
    """Queues ended spans for the exporter."""

    def __init__(self, exporter: SpanExporter, settings: Settings) -> None:
        self._exporter = exporter
        self._counts = CountingExporter(exporter)
        self._size = settings.otel_bsp_max_queue_size
        self._lock = Lock()
        self._queued = self._refused = 0
        self._warned_at, self._warned_of = -WARN_EVERY_S, 0
        super().__init__(
            self._counts,
            max_queue_size=self._size,
            schedule_delay_millis=settings.otel_bsp_schedule_delay,
            max_export_batch_size=settings.otel_bsp_max_export_batch_size,
        )

    @property
    def dropped(self) -> int:
        """How many spans a full queue refused or the receiver did not take, so far."""
        return self._refused + self._counts.failed

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span, unless the queue is full: the SDK's own would drop its oldest without a count."""
        if not (span.context and span.context.trace_flags.sampled):
            return
        with self._lock:
            is_full = self._queued - self._counts.taken >= self._size
            self._refused += is_full
            self._queued += not is_full
        if not is_full:
            super().on_end(span)
        if self.dropped > self._warned_of and monotonic() - self._warned_at >= WARN_EVERY_S:
            self._warned_at, self._warned_of = monotonic(), self.dropped
            logger.warning("%d spans dropped so far: the collector does not take them", self._warned_of)

    def shutdown(self) -> None:
        """Send what is queued, within SHUTDOWN_S. What is left then is lost, and the log says how much."""
        flush = Thread(target=super().shutdown, name="span flush", daemon=True)
        flush.start()
        flush.join(SHUTDOWN_S)
        self._exporter.shutdown()
        lost = self._refused + self._queued - self._counts.delivered
        if lost:
            logger.warning("%d spans were dropped since the start: the collector did not take them", lost)


class CountingExporter(SpanExporter):
    """Redacts and counts what goes through `exporter`. The SDK's shutdown does not close it: `SpanQueue` does."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._logged: set[type[Exception]] = set()
        self.taken = self.delivered = self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one batch."""
        self.taken += len(spans)
        self._send(spans)
        return SpanExportResult.SUCCESS  # the SDK does not look at it

    def _send(self, spans: Sequence[ReadableSpan]) -> None:
        """Send spans. If they cannot be encoded, send each half: one bad span costs no other of its batch."""
        try:
            result = self._exporter.export([redact(span) for span in spans])
        except Exception as error:
            if len(spans) > 1:
                middle = len(spans) // 2
                self._send(spans[:middle])
                self._send(spans[middle:])
                return
            result = SpanExportResult.FAILURE
            if type(error) not in self._logged:  # without its message, which may hold a value
                self._logged.add(type(error))
                logger.warning("a span cannot be encoded: %s", type(error).__qualname__, exc_info=error)
        if result is SpanExportResult.SUCCESS:
            self.delivered += len(spans)
        else:
            self.failed += len(spans)
