"""The headers that every answer carries, errors included."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/api/"
EVERYWHERE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class SafeHeaders:
    """Keeps answers from being sniffed, from leaking their URL, and API answers from shared caches.

    Also sends what a route settled in `request.state.headers`, whatever the answer turned out to be.

    `no-store` would also keep a browser from using its own copy with an ETag.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        state = scope.setdefault("state", {})  # one dictionary, though layers below may copy the scope

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(EVERYWHERE | state.get("headers", {}))
                if scope["path"].startswith(API):
                    headers["Cache-Control"] = "private, no-cache"
                    headers.add_vary_header("Authorization")
            await send(message)

        await self._app(scope, receive, send_safely)
