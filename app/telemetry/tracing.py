"""The traces of one application: a provider of its own, and what is connected to it."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from anyio import to_thread
from fastapi import FastAPI
from fastapi.routing import RouteContext
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.semconv.attributes.http_attributes import HTTP_ROUTE
from opentelemetry.trace import NoOpTracerProvider, SpanKind, Tracer, set_tracer_provider
from opentelemetry.trace import TracerProvider as AnyProvider
from opentelemetry.util.http import sanitize_method
from starlette.background import BackgroundTask
from starlette.routing import Match
from starlette.types import ASGIApp, Scope

from app.record import CURRENT
from app.settings import NO_REVISION, Settings, SettingsError
from app.telemetry.export import Queue, make_exporter
from app.telemetry.sampling import Sampling, make_sampler
from app.telemetry.signals import TRACES
from app.telemetry.tree import Trees

SERVICE = "task-api"
OWN = "app"  # the tracer of our own spans
MAX_ATTRIBUTE = 32 * 1024  # characters, unless OTEL_SPAN_*_LIMIT says another; the longest of ours is a plan of 16 KiB
PATCHED = "_otel_original_call"

Find = Callable[[Scope], tuple[RouteContext | None, Match]]
Processor = SpanProcessor  # by this name the other packages know it: the SDK is this one's


class Calls(SpanProcessor):
    """Notes in a request's record when the calls of other services that its code made began and ended."""

    def on_end(self, span: ReadableSpan) -> None:
        """Note an ended call: the span of a client that is not our own, which is a statement's."""
        if span.kind is not SpanKind.CLIENT or (span.instrumentation_scope and span.instrumentation_scope.name == OWN):
            return
        record = CURRENT.get()
        if record and not record.status and span.start_time and span.end_time:  # a stream may call others without end
            record.calls += ((span.start_time, span.end_time),)


class Tracing:
    """Makes spans, and sends them where the settings say; without a receiver, nowhere."""

    def __init__(
        self, settings: Settings, version: str, processors: Sequence[SpanProcessor] = (), *, trees: bool
    ) -> None:
        self._settings = settings
        self.trees = Trees() if trees and not settings.otel_sdk_disabled else None
        sender = make_exporter(settings, TRACES)
        self._export = Queue(sender, settings, TRACES) if sender else None
        self._processors = [one for one in (self._export, self.trees, *processors) if one]
        # Without a receiver nobody would read the spans; identifiers are wanted for logs all the same.
        sampler = make_sampler(settings) if self._processors else ALWAYS_OFF
        self.sampling = None if settings.otel_sdk_disabled else Sampling(sampler)
        self._provider = self._new_provider(version)
        self.tracer: Tracer = self._provider.get_tracer(OWN, version)

    @property
    def dropped(self) -> int:
        """Spans that were lost on their way so far."""
        return self._export.dropped if self._export else 0

    @property
    def sent(self) -> tuple[int, float]:
        """Batches of spans that were sent so far, and the seconds that took."""
        return self._export.sent if self._export else (0, 0.0)

    def trace_requests(self, api: FastAPI, find: Find) -> None:
        """Make a span of each request to `api`, named after the route that `find` gives.

        To be called before it serves.
        """
        if not self._settings.otel_sdk_disabled:
            # By this mark the instrumentation knows that it has changed the class. It would write the message of a
            # background task's exception, and with it what a client sent, on a span of the first application's.
            if not hasattr(BackgroundTask, PATCHED):
                setattr(BackgroundTask, PATCHED, BackgroundTask.__call__)
            FastAPIInstrumentor.instrument_app(
                api,
                tracer_provider=self._provider,
                meter_provider=NoOpMeterProvider(),
                exclude_spans=["receive", "send"],
            )
            name_spans(api, find)

    def trace_process(self) -> None:
        """Send the spans of every tracer of the process as well: of a team's code, and of other instrumentations.

        For a process of one application only: OpenTelemetry keeps the first provider that it is given.
        """
        if not self._settings.otel_sdk_disabled:
            set_tracer_provider(self._provider)

    async def close(self) -> None:
        """Send what is left, within two seconds."""
        if self._export:
            await to_thread.run_sync(self._export.shutdown)

    def _new_provider(self, version: str) -> AnyProvider:
        if not self.sampling:
            return NoOpTracerProvider()
        try:
            provider = TracerProvider(
                self.sampling.of_spans,
                resource(self._settings, version),
                shutdown_on_exit=False,
                span_limits=SpanLimits(max_attribute_length=SpanLimits().max_attribute_length or MAX_ATTRIBUTE),
            )
        except ValueError as error:  # the SDK reads its limits from the environment
            raise SettingsError(str(error)) from None
        for processor in (*self._processors, Calls()):
            provider.add_span_processor(processor)
        return provider


def name_spans(api: FastAPI, find: Find) -> None:
    """Let the instrumentation ask `find` for the route: on its own it tries one after the other again."""
    build = api.build_middleware_stack

    def build_named() -> ASGIApp:
        stack = build()
        instrumentation = cast(Any, stack).app
        usual = instrumentation.default_span_details

        def details(scope: Scope) -> tuple[str, dict[str, str]]:
            if scope["type"] != "http":
                named: tuple[str, dict[str, str]] = usual(scope)
                return named
            method, route = sanitize_method(scope["method"]), find(scope)[0]
            method = "HTTP" if method == "_OTHER" else method
            return (f"{method} {route.path}", {HTTP_ROUTE: route.path}) if route and route.path else (method, {})

        instrumentation.default_span_details = details
        return stack

    vars(api)["build_middleware_stack"] = build_named  # as the instrumentation has put its own


def resource(settings: Settings, version: str) -> Resource:
    """Return what all spans and log lines have in common; OTEL_RESOURCE_ATTRIBUTES comes before our own names.

    The version is the revision, where it is known: of two deployments it tells which one a span is of.
    """
    running = version if settings.revision == NO_REVISION else settings.revision
    own = {"service.name": SERVICE, "service.version": running, "deployment.environment.name": settings.environment}
    named = {"service.name": settings.otel_service_name} if settings.otel_service_name else {}
    return Resource.create({**own, **OTELResourceDetector().detect().attributes, **named})
