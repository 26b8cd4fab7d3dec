"""Which requests are traced: as OTEL_TRACES_SAMPLER says, or as a trusted caller decides. A browser never decides."""

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import get_current_span

from app.record import CURRENT
from app.settings import Settings


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
