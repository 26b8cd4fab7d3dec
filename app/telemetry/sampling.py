"""Which requests are traced, and whose trace is continued.

OTEL_TRACES_SAMPLER decides, or a trusted caller; a browser never does. The trace of a trusted network or of a trusted
origin's browser is continued: https://www.w3.org/TR/trace-context/#security-considerations
"""

from ipaddress import IPv6Address, ip_address
from typing import Any

from opentelemetry.context import Context
from opentelemetry.propagate import get_global_textmap
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.record import CURRENT, Headers, Record
from app.settings import Settings

MAX_USER_AGENT = 256


def make_sampler(settings: Settings) -> Sampler:
    """Return the sampler of OTEL_TRACES_SAMPLER and its argument."""
    name, ratio = settings.otel_traces_sampler, TraceIdRatioBased(settings.otel_traces_sampler_arg)
    samplers = {"always_on": ALWAYS_ON, "always_off": ALWAYS_OFF, "traceidratio": ratio}
    sampler = samplers[name.removeprefix("parentbased_")]
    if name not in samplers:
        sampler = ParentBased(sampler)
    if not settings.trust_browser_traceparent:
        return sampler
    remote = BrowsersAsRoots(sampler)
    # What is below the server span follows it. `traceidratio`, asked again, would go by the browser's trace id.
    return ParentBased(sampler, remote_parent_sampled=remote, remote_parent_not_sampled=remote)


class BrowsersAsRoots(Sampler):
    """Decides on a request that follows a browser's trace as on one that begins a trace.

    Otherwise a client would decide: by the sampled flag, or by a trace id that is under the ratio's bound.
    """

    def __init__(self, chosen: Sampler) -> None:
        self._chosen = chosen
        self._ids = RandomIdGenerator()

    def should_sample(self, parent_context: Context | None, trace_id: int, *rest: Any, **named: Any) -> SamplingResult:
        """Decide, with an id of our own and no parent where that is a browser."""
        record, parent_id = CURRENT.get(), get_current_span(parent_context).get_span_context().span_id
        caller = record.caller if record else None
        if caller and (caller.trace_id, caller.span_id) == (trace_id, parent_id):
            parent_context, trace_id = Context(), self._ids.generate_trace_id()
        return self._chosen.should_sample(parent_context, trace_id, *rest, **named)

    def get_description(self) -> str:
        """Return the name that the SDK asks for."""
        return f"BrowsersAsRoots{{{self._chosen.get_description()}}}"


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
