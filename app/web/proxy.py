"""What a proxy says of a request: its client and scheme, and the path prefix that it serves the application under."""

from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Scope
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.settings.types import parse_prefix

PREFIX = b"x-forwarded-prefix"


class Proxy(ProxyHeadersMiddleware):
    """uvicorn's, which also makes the prefix the request's `root_path`, and a part of its path (ASGI).

    The prefix is that of ROOT_PATH or of the server, else what one of the `trusted` proxies says; nobody else is
    believed.
    """

    def __init__(self, app: ASGIApp, root_path: str | None, trusted: Sequence[str]) -> None:
        inner: Any = app  # uvicorn's types for ASGI are not Starlette's
        super().__init__(inner, list(trusted))
        self._root_path = root_path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            root_path = self._root_path or scope.get("root_path") or self._read_prefix(scope)
            if root_path:
                scope["root_path"] = root_path
                if not f"{scope['path']}/".startswith(f"{root_path}/"):  # the proxy took the prefix away
                    scope["path"] = root_path + scope["path"]
        await super().__call__(scope, receive, send)

    def _read_prefix(self, scope: Scope) -> str:
        values = [value for name, value in scope["headers"] if name == PREFIX]
        client = scope.get("client")
        if len(values) != 1 or (client[0] if client else None) not in self.trusted_hosts:
            return ""
        try:
            return parse_prefix(values[0].decode("latin-1").removesuffix("/"))
        except ValueError:
            return ""
