"""Which requests are recorded, and whose trace is continued.

OTEL_TRACES_SAMPLER decides, or a trusted caller; a browser never does. The trace of a trusted network or of a trusted
origin's browser is continued: https://www.w3.org/TR/trace-context/#security-considerations

What is not recorded passes by the instrumentation and the SDK, which would work for it all the same.
"""

from ipaddress import IPv6Address, ip_address
from typing import Any

from opentelemetry.context import Context
from opentelemetry.instrumentation.asgi import asgi_getter
from opentelemetry.propagate import extract, get_global_textmap
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.record import CURRENT, Headers, Record
from app.settings import Settings

USER_AGENT, MAX_USER_AGENT = b"user-agent", 256
RANDOM = TraceFlags.RANDOM_TRACE_ID  # https://www.w3.org/TR/trace-context-2/#random-trace-id-flag


def make_sampler(settings: Settings) -> Sampler:
    """Return the sampler of OTEL_TRACES_SAMPLER and its argument."""
    name, ratio = settings.otel_traces_sampler, TraceIdRatioBased(settings.otel_traces_sampler_arg)
    samplers = {"always_on": ALWAYS_ON, "always_off": ALWAYS_OFF, "traceidratio": ratio}
    sampler = samplers[name.removeprefix("parentbased_")]
    return sampler if name in samplers else ParentBased(sampler)


class FollowsEdge(Sampler):
    """Records the server span of a request that the edge lets pass, and decides like `chosen` on all else."""

    def __init__(self, chosen: Sampler) -> None:
        self._chosen = chosen

    def should_sample(self, parent_context: Context | None, *rest: Any, **named: Any) -> SamplingResult:
        """Decide on a span without a parent in this process."""
        record = CURRENT.get()
        sampler = ALWAYS_ON if record and record.is_traced and record.span is INVALID_SPAN else self._chosen
        return sampler.should_sample(parent_context, *rest, **named)

    def get_description(self) -> str:
        """Return the name that the SDK asks for."""
        return f"FollowsEdge{{{self._chosen.get_description()}}}"


class Sampling:
    """Decides once on each request, at the edge, whether it is recorded."""

    def __init__(self, chosen: Sampler) -> None:
        self._chosen, self._ids = chosen, RandomIdGenerator()
        follow = FollowsEdge(chosen)
        # What is below a span of this process follows it.
        self.of_spans = ParentBased(follow, remote_parent_sampled=follow, remote_parent_not_sampled=follow)

    def decide(self, record: Record, shown: Headers) -> Context | None:
        """Return None for a request that is to be recorded; for any other the context to serve it in.

        That context has ids as if there were a span, which calls of other services hand on, as not sampled. `shown`
        are the headers that the instrumentation may see. The ids of a browser's trace are continued, but they do not
        decide: it would by its sampled flag, or by a trace id that is under the ratio's bound.
        """
        has_context = any(name != USER_AGENT for name, _ in shown)
        context = extract({"headers": shown}, Context(), asgi_getter) if has_context else Context()
        parent = get_current_span(context).get_span_context()
        new_id = self._ids.generate_trace_id()
        trace_id, flags = (parent.trace_id, parent.trace_flags & RANDOM) if parent.is_valid else (new_id, RANDOM)
        by = (context, trace_id) if record.caller is None else (Context(), new_id)
        if self._chosen.should_sample(*by, "", SpanKind.SERVER).decision is Decision.RECORD_AND_SAMPLE:
            record.is_traced = True
            return None
        ids = SpanContext(trace_id, self._ids.generate_span_id(), False, TraceFlags(flags), parent.trace_state)  # noqa: FBT003  its own order
        record.span = NonRecordingSpan(ids)
        return set_span_in_context(record.span, context)


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
            if name == USER_AGENT
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
