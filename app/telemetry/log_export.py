"""Where log lines go beside standard output: to an OTLP/HTTP receiver, and from WARNING on to their span as well."""

import logging
from contextlib import suppress
from typing import Any

from anyio import to_thread
from opentelemetry.sdk.trace import Span
from opentelemetry.trace import get_current_span

from app.settings import Settings
from app.telemetry.export import Queue, make_exporter
from app.telemetry.log_line import Attribute, bounded, line_to_send, text_to_send
from app.telemetry.logs import FIRST_LINE_ONLY, entry_of
from app.telemetry.signals import LOGS
from app.telemetry.tracing import resource

EVENT = "log"


class LogExport:
    """Sends the lines of this process where the settings say; without a receiver, nowhere."""

    def __init__(self, settings: Settings, version: str) -> None:
        self._settings, self._version = settings, version
        self._queue: Queue | None = None
        self._handlers: list[logging.Handler] = []

    @property
    def dropped(self) -> int:
        """Lines that were lost on their way so far."""
        return self._queue.dropped if self._queue else 0

    @property
    def sent(self) -> tuple[int, float]:
        """Batches of lines that were sent so far, and the seconds that took."""
        return self._queue.sent if self._queue else (0, 0.0)

    def take_lines(self) -> None:
        """Take every logger's lines from now on. For a process of one application, whose loggers are configured."""
        if self._settings.otel_sdk_disabled:
            return
        self._handlers.append(EventHandler())
        if sender := make_exporter(self._settings, LOGS):
            self._queue = Queue(sender, self._settings, LOGS)
            self._handlers.append(QueueHandler(self._queue, resource(self._settings, self._version)))
        for handler in self._handlers:
            logging.getLogger().addHandler(handler)

    async def close(self) -> None:
        """Take no more lines, and send what is left, within two seconds."""
        while self._handlers:
            logging.getLogger().removeHandler(self._handlers.pop())
        if self._queue:
            await to_thread.run_sync(self._queue.shutdown)


class Handler(logging.Handler):
    """Takes lines without a lock of its own: the text of a value may log, while its thread holds another handler's."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Handle the line."""
        self.emit(record)
        return True


class QueueHandler(Handler):
    """Queues each line, but for those of the thread that sends them: it would never be done."""

    def __init__(self, queue: Queue, resource: Any) -> None:
        super().__init__()
        self._queue, self._resource = queue, resource

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line; one of which nothing can be made is dropped and counted."""
        if self._queue.is_sending():
            return
        try:
            line = line_to_send(record, self._resource)
        except Exception:  # noqa: BLE001  whoever logs must not fail for it
            self._queue.refuse()
        else:
            self._queue.put(line)


class EventHandler(Handler):
    """Makes an event of the current span of each line from WARNING on, so that the trace alone shows it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Add the event."""
        span = get_current_span()
        # The SDK logs, and reads the values it is given, while it holds the span's lock: waiting for it has no end.
        if isinstance(span, Span) and span.is_recording() and not span._lock.locked():
            with suppress(Exception):  # whoever logs must not fail for it
                span.add_event(EVENT, event_attributes(record))


def event_attributes(record: logging.LogRecord) -> dict[str, Attribute]:
    """Return the line's fields, with its message as the code has it, before any value is in it."""
    fields = entry_of(record)
    for name in ("time", "trace_id", "span_id"):
        fields.pop(name, None)
    return bounded(fields | {"message": template_of(record)})


def template_of(record: logging.LogRecord) -> str:
    """Return the message without its arguments; of an object, which may quote anything, only the type."""
    if not isinstance(record.msg, str):
        return f"<{type(record.msg).__qualname__}>"
    return text_to_send(record.msg.partition("\n")[0] if record.name in FIRST_LINE_ONLY else record.msg)
