"""Whose trace is continued: that of a trusted network or of a trusted origin's browser, else nobody's.

https://www.w3.org/TR/trace-context/#security-considerations
"""

from ipaddress import IPv6Address, ip_address

from opentelemetry.propagate import get_global_textmap
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.record import Headers, Record
from app.settings import Settings

MAX_USER_AGENT = 256


class Callers:
    """Chooses the headers that the instrumentation may see: it would believe any caller, and raise for some bytes."""

    def __init__(self, settings: Settings) -> None:
        self._networks = settings.trust_traceparent
        origins = settings.cors_origins if settings.trust_browser_traceparent else ()
        self._origins = [[origin.encode()] for origin in origins]
        self._fields = frozenset(name.encode() for name in get_global_textmap().fields)

    def filter_headers(self, headers: Headers, record: Record) -> Headers:
        """Return the user agent, and a trusted caller's trace context: of a browser only the two ids.

        Whoever else sent a `traceparent` becomes the record's `caller`, to be linked to.
        """
        shown = [
            (name, value[:MAX_USER_AGENT].decode("utf-8", "replace").encode())
            for name, value in headers
            if name == b"user-agent"
        ]
        context = [(name, value) for name, value in headers if name in self._fields and value.isascii()]
        if not context or self._is_trusted(record.peer):
            return shown + context
        record.caller = caller = _parse_traceparent(context)
        if caller and [value for name, value in headers if name == b"origin"] in self._origins:
            shown.append((b"traceparent", b"00-%032x-%016x-00" % (caller.trace_id, caller.span_id)))
        return shown

    def _is_trusted(self, peer: str | None) -> bool:
        try:
            address = ip_address(peer or "")
        except ValueError:  # a unix socket has no address
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def _parse_traceparent(context: Headers) -> SpanContext | None:
    """Return the caller's span, where exactly one `traceparent` names one."""
    parents = [value.decode("ascii") for name, value in context if name == b"traceparent"]
    carrier = {"traceparent": parents[0]} if len(parents) == 1 else {}
    span = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    return span if span.is_valid else None
