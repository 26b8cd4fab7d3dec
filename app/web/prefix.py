"""The path prefix under which a proxy serves the application, such as /task-service."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.settings.types import parse_prefix

HEADER = b"x-forwarded-prefix"


class Prefix:
    """Makes the prefix the request's `root_path`, and a part of its path, whether or not the proxy took it away (ASGI).

    It is that of ROOT_PATH or of the server, else what one of the `trusted` proxies says; nobody else is believed. This
    is the outermost layer: further in, the client that a proxy names stands in the place of the proxy.
    """

    def __init__(self, app: ASGIApp, root_path: str | None, trusted: Sequence[str]) -> None:
        self._app, self._root_path = app, root_path
        self._trusted = ProxyHeadersMiddleware(app, list(trusted)).trusted_hosts  # type: ignore[arg-type]  # uvicorn's types are not Starlette's

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            root_path = self._root_path or scope.get("root_path") or self._forwarded(scope)
            if root_path:
                scope = {**scope, "root_path": root_path}
                if not f"{scope['path']}/".startswith(f"{root_path}/"):
                    scope["path"] = root_path + scope["path"]
        await self._app(scope, receive, send)

    def _forwarded(self, scope: Scope) -> str:
        values = [value for name, value in scope["headers"] if name == HEADER]
        client = scope.get("client")
        if len(values) != 1 or (client[0] if client else None) not in self._trusted:
            return ""
        try:
            return parse_prefix(values[0].decode("latin-1").removesuffix("/"))
        except ValueError:
            return ""
