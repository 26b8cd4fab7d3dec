"""The application that `create_app` returns: FastAPI, with its layers around whatever a team adds, and their edge."""

from collections.abc import Sequence
from functools import partial
from itertools import takewhile
from threading import Event
from time import perf_counter
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette._utils import get_route_path
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.record import CURRENT, Headers, Record
from app.telemetry.server_span import RequestObserver
from app.web.docs import complete
from app.web.event_streams import EVENT_STREAM, OVER, EventStreams
from app.web.gate import Gate, RefusedRoute, Routes, is_api
from app.web.route import ApiRoute

EVERYWHERE = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
# `no-store` would also keep a browser from using its own copy with an ETag.
PRIVATE = (*EVERYWHERE, (b"cache-control", b"private, no-cache"), (b"vary", b"Authorization"))
CLOSE = (b"connection", b"close")
NO_LIFESPAN = type(APIRouter().lifespan_context)


class Edge:
    """The outermost layer: begins the record of a request, and adds its headers and the usual ones to the answer.

    The usual ones keep answers from being sniffed, from leaking their URL, and API answers from shared caches, unless
    the endpoint set its own. Once `draining` is set, every answer closes its connection, and every event stream ends.
    """

    def __init__(self, app: ASGIApp, api: Any, timeout_s: float, observer: RequestObserver, draining: Event) -> None:
        self._app, self._api, self._timeout_s = app, api, timeout_s
        self._observer, self._draining = observer, draining
        self._streams: EventStreams = api.state.event_streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        record = Record(self._timeout_s, self._api, scope, peer=client[0] if client else None)

        async def send_on(message: Message) -> None:
            if record.broken or record.is_over:
                return  # a middleware may not know that the answer broke off, and complete it
            if message["type"] == "http.response.start":
                self._begin(record, message, send)
            await self._send(record, message, send)

        before = CURRENT.get()
        CURRENT.set(record)
        try:
            await self._app(scope, receive, send_on)
        finally:
            CURRENT.set(before)
            record.deadline = None
            if record.is_event_stream:
                self._streams.remove(record)
            if record.ended is None:
                self._observer.end(record)

    async def _send(self, record: Record, message: Message, send: Send) -> None:
        record.response_bytes += len(message.get("body", b""))
        before = perf_counter()
        await send(message)
        now = perf_counter()
        record.sending += now - before
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            record.ended = now
            self._observer.end(record)

    def _begin(self, record: Record, message: Message, send: Send) -> None:
        record.status = message["status"]
        record.is_api = is_api(get_route_path(record.scope))
        if record.in_flight:
            record.in_flight.discard(record)
        headers: Headers = [*message.get("headers", ())]
        own = {name: value for name, value in headers if name != b"vary"}
        usual = PRIVATE if record.is_api or record.principal else EVERYWHERE
        headers += [header for header in usual if header[0] not in own]
        headers += [(name.lower().encode(), value.encode()) for name, value in record.headers.items()]
        headers += self._observer.answer(record)
        if self._draining.is_set():
            headers.append(CLOSE)
        message["headers"] = headers
        if own.get(b"content-type", b"").startswith(EVENT_STREAM):
            self._streams.add(record, partial(self._end, record, send))

    async def _end(self, record: Record, send: Send) -> None:
        """End the answer to a client; the server then tells the endpoint that its client is gone."""
        if record.ended is None:
            record.is_over, record.ended = True, perf_counter()
            record.scope[OVER] = True
            await send({"type": "http.response.body"})
            self._observer.end(record)


class Api(FastAPI):
    """FastAPI. From the outside in, a request passes `outer`, the instrumentation, the middleware of
    `keep_outside`, the middleware that a team adds, and the gate before the router.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.effective_routes = Routes(self.router)
        self.router.middleware_stack = Gate(self.router.middleware_stack, self.effective_routes)
        self.inner: ASGIApp = super().__call__
        self.outer: ASGIApp = self.inner  # the tracing instrumentation has to find Starlette's layers inside of it
        self._outside = 0  # how many of the middleware were there before a team's

    def add_entities(self, routers: Sequence[APIRouter]) -> None:
        """Include routers, in their order.

        The routes of those that come first, and hold nothing but an ApiRoute each, become the application's own:
        FastAPI looks twice through a router that is included and taken.
        """
        first = list(takewhile(_is_flat, routers))
        self.router.routes[:0] = [route for router in first for route in router.routes]
        for router in routers[len(first) :]:
            self.include_router(router)

    def keep_outside(self, layer: Middleware) -> None:
        """Put this, and the middleware that was added so far, around all middleware that will be added."""
        self.user_middleware.append(layer)
        self._outside = len(self.user_middleware)

    def add_middleware(self, middleware_class: Any, *args: Any, **options: Any) -> None:
        """Add a layer around those that were added before, but for what `keep_outside` keeps outside."""
        super().add_middleware(middleware_class, *args, **options)
        self.user_middleware.insert(self._outside, self.user_middleware.pop(0))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.middleware_stack is None:
            try:
                self.middleware_stack = self.build_middleware_stack()
            except RefusedRoute as error:
                if scope["type"] == "lifespan":
                    await receive()
                    await send({"type": "lifespan.startup.failed", "message": str(error)})  # one line, and no stack
                raise
        await self.outer(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Return the layers inside of the server span; before the first request, when all routes are there."""
        self.effective_routes.verify()
        if self.state.metrics:
            self.state.metrics.requests.expect(self.effective_routes)
        return super().build_middleware_stack()

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return complete(super().openapi(), self.effective_routes)


def _is_flat(router: APIRouter) -> bool:
    """Tell whether a router's routes mean the same without it."""
    has_own = router.form_limits or router.max_body_size is not None or router._low_priority_routes
    has_lifespan = router.on_startup or router.on_shutdown or not isinstance(router.lifespan_context, NO_LIFESPAN)
    are_plain = all(isinstance(route, ApiRoute) and is_api(route.path) for route in router.routes)
    return are_plain and not has_own and not has_lifespan
