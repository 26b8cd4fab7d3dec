"""How large a request and its answer were, and how long the answer waited for a client that did not read it."""

from app.record import Record
from app.telemetry.shapes import Attributes


def size_fields(record: Record) -> Attributes:
    """Return what the line of a request says of it."""
    wait = {"client_ms": round(record.client_wait * 1000)} if record.client_wait else {}
    return {"request_bytes": record.request_bytes, "response_bytes": record.response_bytes, **wait}


def note_sizes(record: Record) -> None:
    """Put the same on the span, unless it has ended: that of an answer ends with its last byte."""
    if record.span.is_recording():
        record.span.set_attributes(
            {"http.request.body.size": record.request_bytes, "http.response.body.size": record.response_bytes}
            | ({"app.client.wait_ms": round(record.client_wait * 1000)} if record.client_wait else {})
        )
