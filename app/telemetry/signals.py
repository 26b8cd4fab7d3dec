"""What is sent to OTLP receivers: spans, and log lines. Both go the same way; here is what differs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from app.telemetry.log_line import ProtobufLines
from app.telemetry.otlp_json import encode_lines, encode_spans
from app.telemetry.redaction import redact


class Signal(NamedTuple):
    """One kind of telemetry."""

    name: str  # in the receiver's path, and in OTEL_EXPORTER_OTLP_<name>_…
    item: str
    queue: str  # OTEL_<queue>_… bounds it
    encode: Callable[[Sequence[Any]], bytes]  # as JSON
    in_protobuf: Callable[..., Any]  # makes the official exporter
    redact: Callable[[Any], Any] = lambda item: item


TRACES = Signal("traces", "span", "bsp", encode_spans, OTLPSpanExporter, redact)
LOGS = Signal("logs", "log line", "blrp", encode_lines, ProtobufLines)  # no line holds what is private
