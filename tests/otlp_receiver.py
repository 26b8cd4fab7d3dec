"""An OTLP/HTTP receiver on loopback. Spans, and log lines, in JSON and in protobuf become dicts of one shape."""

import gzip
import json
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from google.protobuf.json_format import Parse, ParseError  # type: ignore[import-untyped]  # its stubs are a package more
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Span = dict[str, Any]
WITHIN_S = 10.0


@dataclass
class Receiver:
    """What was received. The next answers have `status` and are `delay_s` late."""

    port: int
    scheme: str = "http"
    status: int = 200
    delay_s: float = 0.0
    retry_after: str = ""
    refused: int = 0
    stopping: Event = field(default_factory=Event)
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    lines: list[Span] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def store(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.paths.append(path)
        self.headers.append(headers)
        self.bodies.append(body)
        try:
            if path.endswith("/logs"):
                self.lines += decode_lines(body, headers)
            else:
                self.spans += decode_spans(body, headers)
        except (ValueError, KeyError, ParseError, DecodeError) as error:
            self.errors.append(error)

    def wait_for(self, find: Callable[[list[Span]], Any]) -> Any:
        """Call `find` with the spans received so far until it returns something true. Return that."""
        deadline = time.monotonic() + WITHIN_S
        while not (found := find(list(self.spans))):
            assert time.monotonic() < deadline, [span["name"] for span in self.spans]
            time.sleep(0.01)
        return found

    def trace(self, trace_id: str) -> list[Span]:
        """Wait for the server span of a trace, the last one that ends. Return the trace's spans."""

        def find_trace(spans: list[Span]) -> list[Span] | None:
            trace = [span for span in spans if span["traceId"] == trace_id]
            return trace if any(span["kind"] == "SERVER" for span in trace) else None

        trace: list[Span] = self.wait_for(find_trace)
        return trace


@contextmanager
def run_receiver(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_OPTIONS(self) -> None:
            self.send_response(204)
            self.send_header("access-control-allow-headers", "content-type")
            self.end_headers()

        def end_headers(self) -> None:
            self.send_header("access-control-allow-origin", "*")  # for pages that send spans of their own
            super().end_headers()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.stopping.wait(receiver.delay_s)
            status = receiver.status
            if status == 200:
                receiver.store(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            else:
                receiver.refused += 1
            self.send_response(status)
            self.send_header("content-length", "0")
            if receiver.retry_after:
                self.send_header("retry-after", receiver.retry_after)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Write nothing when a client has closed its connection."""

    server = Server(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_port, "https" if context else "http")
    server.socket = context.wrap_socket(server.socket, server_side=True) if context else server.socket
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield receiver
    finally:
        receiver.stopping.set()
        server.shutdown()
        server.server_close()
    assert not receiver.errors


def decode_spans(body: bytes, headers: dict[str, str]) -> list[Span]:
    """Return the spans of a body. Both encodings pass the official message type, which refuses unknown fields."""
    request = read(ExportTraceServiceRequest(), body, headers)
    return [
        span_dict(span, group, resource)
        for resource in request.resource_spans
        for group in resource.scope_spans
        for span in group.spans
    ]


def decode_lines(body: bytes, headers: dict[str, str]) -> list[Span]:
    """Return the log lines of a body, which passes the official message type as well."""
    request = read(ExportLogsServiceRequest(), body, headers)
    return [
        line_dict(line, resource)
        for resource in request.resource_logs
        for group in resource.scope_logs
        for line in group.log_records
    ]


def read(message: Any, body: bytes, headers: dict[str, str]) -> Any:
    """Read a body into a message of its type."""
    body = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
    if headers["content-type"] == "application/json":
        document = json.loads(body, object_hook=to_protobuf_json, parse_constant=refuse_constant)
        return Parse(json.dumps(document), message)
    message.ParseFromString(body)
    return message


def to_protobuf_json(item: dict[str, Any]) -> dict[str, Any]:
    """Return an object of OTLP's JSON as protobuf's JSON has it: identifiers become base64 instead of hexadecimal."""
    names = {"traceId", "spanId", "parentSpanId"} & set(item)
    return item | {name: b64encode(bytes.fromhex(item[name])).decode() for name in names}


def refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


def line_dict(line: Any, resource: Any) -> Span:
    return {
        "message": line.body.string_value,
        "time": line.time_unix_nano,
        "severity": line.severity_number,
        "level": line.severity_text,
        "traceId": line.trace_id.hex(),
        "spanId": line.span_id.hex(),
        "flags": line.flags,
        "attributes": attributes(line),
        "resource": attributes(resource.resource),
    }


def span_dict(span: Any, group: Any, resource: Any) -> Span:
    return {
        "name": span.name,
        "kind": span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        "traceId": span.trace_id.hex(),
        "spanId": span.span_id.hex(),
        "parentSpanId": span.parent_span_id.hex(),
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "flags": span.flags,
        "traceState": span.trace_state,
        "attributes": attributes(span),
        "dropped": (span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count),
        "status": (span.status.code, span.status.message),
        "events": [
            {"name": event.name, "time": event.time_unix_nano, "attributes": attributes(event)} for event in span.events
        ],
        "links": [
            {
                "traceId": link.trace_id.hex(),
                "spanId": link.span_id.hex(),
                "flags": link.flags,
                "attributes": attributes(link),
            }
            for link in span.links
        ],
        "scope": (group.scope.name, group.scope.version, group.schema_url),
        "resource": attributes(resource.resource),
    }


def attributes(holder: Any) -> dict[str, Any]:
    return {pair.key: value(pair.value) for pair in holder.attributes}


def value(any_value: Any) -> Any:
    kind = any_value.WhichOneof("value")
    if kind is None:
        return None
    content = getattr(any_value, kind)
    if kind == "array_value":
        return [value(item) for item in content.values]
    if kind == "kvlist_value":
        return {pair.key: value(pair.value) for pair in content.values}
    return content
