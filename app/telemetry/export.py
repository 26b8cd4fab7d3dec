"""Where spans and log lines go: in batches, from a thread of each, to an OTLP/HTTP receiver.

It may be slow, full or gone: no request waits for it. What it does not take, or for which the queue has no room, is
dropped and counted.
"""

import logging
from collections.abc import Sequence
from functools import partial
from threading import Lock, Thread, get_ident
from time import monotonic
from typing import Any

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from app.settings import Settings
from app.settings.types import parse_headers
from app.telemetry.otlp_http import JsonExporter
from app.telemetry.signals import Signal

SHUTDOWN_S = 2.0
WARN_EVERY_S = 60.0
SLOW_S = 0.5  # for a batch, which a collector takes in milliseconds
PATH = "/v1/"  # https://opentelemetry.io/docs/specs/otel/protocol/exporter/#endpoint-urls-for-otlphttp
TAKEN = {SpanExportResult.SUCCESS, LogRecordExportResult.SUCCESS}

logger = logging.getLogger(__name__)


def make_exporter(settings: Settings, signal: Signal) -> Any:
    """Return the exporter that the settings choose, or None if they name no receiver."""
    given, base = partial(settings.for_signal, signal.name), settings.otel_exporter_otlp_endpoint
    own = getattr(settings, f"otel_exporter_otlp_{signal.name}_endpoint")
    endpoint = own or (base and str(base).removesuffix("/") + PATH + signal.name)
    if settings.otel_sdk_disabled or getattr(settings, f"otel_{signal.name}_exporter") == "none" or not endpoint:
        return None
    if given("protocol") == "http/json":
        return JsonExporter(str(endpoint), settings, signal)
    files = [given(name) for name in ("certificate", "client_certificate", "client_key")]
    authority, certificate, key = [str(file) if file else None for file in files]
    return signal.in_protobuf(
        str(endpoint),
        certificate_file=authority,
        client_certificate_file=certificate,
        client_key_file=key,
        headers=parse_headers(given("headers")),
        timeout=given("timeout"),
        compression=Compression(given("compression")),
    )


class Queue(BatchSpanProcessor):
    """Queues ended spans for the exporter, or log lines: the SDK has one machine for both, behind two interfaces."""

    def __init__(self, exporter: Any, settings: Settings, signal: Signal) -> None:
        bound = {name.removeprefix(f"otel_{signal.queue}_"): value for name, value in settings}
        self._exporter, self._item = exporter, signal.item
        self._counts = CountingExporter(exporter, signal)
        self._size = bound["max_queue_size"]
        self._lock = Lock()
        self._queued = self._refused = 0
        self._warned_at, self._warned_of = -WARN_EVERY_S, 0
        super().__init__(
            self._counts,
            max_queue_size=self._size,
            schedule_delay_millis=bound["schedule_delay"],
            max_export_batch_size=bound["max_export_batch_size"],
        )

    @property
    def dropped(self) -> int:
        """How many a full queue refused or the receiver did not take, so far."""
        return self._refused + self._counts.failed

    @property
    def sent(self) -> tuple[int, float]:
        """How many batches were sent, taken or not, and how many seconds that took in all."""
        return self._counts.batches, self._counts.seconds

    def is_sending(self) -> bool:
        """Tell whether the thread that asks is the one that sends."""
        return self._counts.thread == get_ident()

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span."""
        if span.context and span.context.trace_flags.sampled:
            self.put(span)

    def refuse(self) -> None:
        """Count what cannot be queued."""
        with self._lock:
            self._refused += 1

    def put(self, item: Any) -> None:
        """Queue what is to be sent, unless the queue is full: the SDK's own would drop its oldest without a count."""
        with self._lock:
            is_full = self._queued - self._counts.taken >= self._size
            self._refused += is_full
            self._queued += not is_full
        if not is_full:
            self._batch_processor.emit(item)
        if self.dropped > self._warned_of and monotonic() - self._warned_at >= WARN_EVERY_S:
            self._warned_at, self._warned_of = monotonic(), self.dropped
            logger.warning("%d %ss dropped so far: %s", self._warned_of, self._item, self._counts.verdict)

    def shutdown(self) -> None:
        """Send what is queued, within SHUTDOWN_S. What is left then is lost, and the log says how much."""
        flush = Thread(target=super().shutdown, name=f"{self._item} flush", daemon=True)
        flush.start()
        flush.join(SHUTDOWN_S)
        self._exporter.shutdown()
        lost = self._refused + self._queued - self._counts.delivered
        if lost:
            logger.warning("%d %ss were dropped since the start: the collector did not take them", lost, self._item)


class CountingExporter(SpanExporter):
    """Redacts and counts what goes through `exporter`. The SDK's shutdown does not close it: `Queue` does."""

    def __init__(self, exporter: Any, signal: Signal) -> None:
        self._exporter, self._signal = exporter, signal
        self._logged: set[type[Exception]] = set()
        self.taken = self.delivered = self.failed = self.batches = 0
        self.seconds = 0.0
        self._last = 0.0  # seconds that the last batch took, if the receiver took it
        self.thread: int | None = None  # the one that sends

    def export(self, items: Sequence[Any]) -> SpanExportResult:
        """Send one batch."""
        self.thread = get_ident()
        self.taken += len(items)
        began, failed = monotonic(), self.failed
        self._send(items)
        self._last = monotonic() - began if self.failed == failed else 0.0
        self.seconds, self.batches = self.seconds + monotonic() - began, self.batches + 1
        return SpanExportResult.SUCCESS  # the SDK does not look at it

    @property
    def verdict(self) -> str:
        """Why items are dropped."""
        is_slow = self._last >= SLOW_S
        return f"the collector takes {self._last:.1f} s" if is_slow else "the collector does not take them"

    def _send(self, items: Sequence[Any]) -> None:
        """Send items. If they cannot be encoded, send each half: one bad item costs no other of its batch."""
        result: Any = None
        try:
            result = self._exporter.export([self._signal.redact(item) for item in items])
        except Exception as error:
            if len(items) > 1:
                middle = len(items) // 2
                self._send(items[:middle])
                self._send(items[middle:])
                return
            if type(error) not in self._logged:  # without its message, which may hold a value
                self._logged.add(type(error))
                kind = type(error).__qualname__
                logger.warning("a %s cannot be encoded: %s", self._signal.item, kind, exc_info=error)
        if result in TAKEN:
            self.delivered += len(items)
        else:
            self.failed += len(items)
