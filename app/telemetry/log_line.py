"""What of a log line is sent: the fields of the JSON line, bounded, as OTLP names them.

https://opentelemetry.io/docs/specs/otel/logs/data-model/
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanContext

from app.telemetry.logs import context_of, cut, encode, entry_of

Attribute = str | int | float | bool

ELSEWHERE = ("time", "level", "message", "trace_id", "span_id")  # they have places of their own
# Characters of all fields of a line. With 4 bytes each and the names they are below the 64 KiB that Loki takes.
MAX_LINE = 12_000
INT64 = 2**63


class LogLine(NamedTuple):
    """A line that waits to be sent."""

    time: int  # nanoseconds since 1970
    severity: SeverityNumber
    level: str
    message: str
    attributes: Mapping[str, Attribute]
    context: SpanContext
    resource: Resource


def line_to_send(record: logging.LogRecord, resource: Resource) -> LogLine:
    """Return the line of `record`; what it holds cannot change any more, and can be encoded."""
    context, fields = context_of(record), entry_of(record)
    message, level = fields["message"], fields["level"]
    for name in ELSEWHERE if context.is_valid else ELSEWHERE[:3]:
        del fields[name]
    time, severity = int(record.created * 1e9), severity_of(record.levelno)
    return LogLine(time, severity, level, text_to_send(cut(message)), bounded(fields), context, resource)


def severity_of(level: int) -> SeverityNumber:
    """Return the number of a level of Python's: DEBUG is 5, INFO 9, WARNING 13, ERROR 17, CRITICAL 21."""
    return SeverityNumber(max(1, min(21, level // 10 * 4 + 1)))


def bounded(fields: Mapping[str, Any]) -> dict[str, Attribute]:
    """Return the fields as attributes, with MAX_LINE characters in all."""
    attributes, room = {}, MAX_LINE
    for name, value in fields.items():
        attribute = attribute_of(value)
        if isinstance(attribute, str):
            room -= len(attribute)
            attribute = attribute if room >= 0 else f"{attribute[:room]}…"
            room = max(room, 0)
        attributes[text_to_send(name)] = attribute
    return attributes


def attribute_of(value: Any) -> Attribute:
    """Return the value as an attribute: what has parts is JSON's text, so nobody nests it too deeply for a receiver."""
    if isinstance(value, str):
        return text_to_send(value)
    if isinstance(value, float) or (isinstance(value, int) and -INT64 <= value < INT64):
        return value
    return encode(value)


def text_to_send(text: str) -> str:
    """Return text that can be encoded: a lone surrogate becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class ProtobufLines(OTLPLogExporter):
    """The official exporter, which takes lines in the SDK's form."""

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        """Send one batch."""
        return super().export([readable(line) for line in batch])


def readable(line: LogLine) -> ReadableLogRecord:
    """Return the line in the SDK's form."""
    record = LogRecord(
        timestamp=line.time,
        observed_timestamp=line.time,
        severity_text=line.level,
        severity_number=line.severity,
        body=line.message,
        attributes=line.attributes,
    )
    record.trace_id, record.span_id = line.context.trace_id, line.context.span_id
    record.trace_flags = line.context.trace_flags
    return ReadableLogRecord(record, line.resource)
