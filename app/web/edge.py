"""The outermost layer: begins the record of a request, and sends what every answer carries."""

from threading import Event
from time import perf_counter
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.record import CURRENT, Headers, Record
from app.web.routes import is_api, local_path

EVERYWHERE = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
# `no-store` would also keep a browser from using its own copy with an ETag.
PRIVATE = ((b"cache-control", b"private, no-cache"), (b"vary", b"Authorization"))
CLOSE = (b"connection", b"close")


class Observer(Protocol):
    """Who learns of a request from its record."""

    def answer(self, record: Record) -> Headers:
        """Take note that the answer begins; return the headers that tell of it."""

    def end(self, record: Record) -> None:
        """Take note that the answer is sent, or that nothing more will be sent."""


class Edge:
    """Wraps `send` for all layers: whatever answers, the headers of the record and of every answer go with it.

    Keeps answers from being sniffed, from leaking their URL, and API answers from shared caches, unless the endpoint
    said otherwise. Once `draining` is set, every answer asks the client to come back on another connection.
    """

    def __init__(self, app: ASGIApp, api: Any, timeout_s: float, observer: Observer, draining: Event) -> None:
        self._app, self._api, self._timeout_s = app, api, timeout_s
        self._observer, self._draining = observer, draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        record = Record(self._timeout_s, self._api, scope, peer=client[0] if client else None)

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._begin(record, message)
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                record.ended = perf_counter()
                self._observer.end(record)

        CURRENT.set(record)
        try:
            await self._app(scope, receive, send_on)
        finally:
            if record.ended is None:
                self._observer.end(record)

    def _begin(self, record: Record, message: Message) -> None:
        record.status = message["status"]
        if record.place:
            record.place.leave()
        headers: Headers = [*message.get("headers", ()), *EVERYWHERE]
        if is_api(local_path(record.scope)):
            named = {name for name, _ in headers}
            headers += [(name, value) for name, value in PRIVATE if name not in named or name == b"vary"]
        headers += [(name.lower().encode(), value.encode()) for name, value in record.headers.items()]
        headers += self._observer.answer(record)
        if self._draining.is_set():
            headers.append(CLOSE)
        message["headers"] = headers
