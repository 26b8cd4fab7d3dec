"""The headers that every answer carries, errors included."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/api/"
EVERYWHERE = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
PRIVATE = [*EVERYWHERE, (b"cache-control", b"private, no-cache"), (b"vary", b"Authorization")]


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
                settled = [(name.encode(), value.encode()) for name, value in state.get("headers", {}).items()]
                safe = PRIVATE if scope["path"].startswith(API) else EVERYWHERE
                message["headers"] = [*message.get("headers", ()), *safe, *settled]
            await send(message)

        await self._app(scope, receive, send_safely)
