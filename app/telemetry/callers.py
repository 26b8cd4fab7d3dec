"""Whom to believe about a trace: a trusted network, a browser of a trusted origin, or nobody.

https://www.w3.org/TR/trace-context/#security-considerations
"""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from opentelemetry.propagate import get_global_textmap
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.record import Headers, Record
from app.settings import Settings

MAX_USER_AGENT = 256
PEERS = 1024  # whose addresses are kept with the verdict on them


class Callers:
    """Chooses the headers that the instrumentation may see: it would believe any caller, and raise for some bytes."""

    def __init__(self, settings: Settings) -> None:
        self._trusted = settings.trust_traceparent
        followed = settings.cors_origins if settings.trust_browser_traceparent else ()
        self._followed = [[origin.encode()] for origin in followed]
        self._fields = frozenset(name.encode() for name in get_global_textmap().fields)
        self._trusts = lru_cache(PEERS)(self._is_trusted)

    def filter_headers(self, headers: Headers, record: Record) -> Headers:
        """Return the user agent, and the trace context of a trusted caller.

        An untrusted `traceparent` becomes the record's `caller`. If the browser is one to follow, its two ids are kept.
        """
        agents = [(name, _clean(value)) for name, value in headers if name == b"user-agent"]
        context = [(name, value) for name, value in headers if name in self._fields and value.isascii()]
        if not context or self._trusts(record.peer):
            return agents + context
        record.caller = caller = _parse_traceparent(context)
        if caller and [value for name, value in headers if name == b"origin"] in self._followed:
            return [*agents, (b"traceparent", b"00-%032x-%016x-00" % (caller.trace_id, caller.span_id))]
        return agents

    def _is_trusted(self, peer: str | None) -> bool:
        try:
            address = ip_address(peer or "")
        except ValueError:  # a unix socket has no address
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._trusted)


def _parse_traceparent(context: Headers) -> SpanContext | None:
    """Return the caller's span, where exactly one `traceparent` names one."""
    parents = [value.decode("ascii") for name, value in context if name == b"traceparent"]
    carrier = {"traceparent": parents[0]} if len(parents) == 1 else {}
    span = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    return span if span.is_valid else None


def _clean(agent: bytes) -> bytes:
    return agent[:MAX_USER_AGENT].decode("utf-8", "replace").encode()
