"""What a case sends, the routers that are written once for both applications, and the log of what their code did."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.routing import APIRoute

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
ASPECTS = frozenset({"status", "headers", "body", "log"})

LOG: ContextVar[list[str]] = ContextVar("log")


def note(text: object) -> None:
    """Record a side effect in the log of the application that serves the request."""
    LOG.get().append(str(text))


@dataclass(frozen=True)
class Case:
    """One request. `sent` is what httpx knows: headers, content, json, data, files, params."""

    name: str
    method: str
    path: str
    sent: dict[str, Any]
    compares: frozenset[str] = ASPECTS
    app: str = "routes"

    def __str__(self) -> str:
        return self.name


class Routes:
    """A router that is written once, and made of whichever route class an application needs."""

    def __init__(self, prefix: str, app: str = "routes", **options: Any) -> None:
        self.prefix, self._app, self._options = prefix, app, options
        self._operations: list[tuple[str, str, dict[str, Any], Callable[..., Any]]] = []

    def operation(self, method: str, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        def keep(endpoint: Endpoint) -> Endpoint:
            self._operations.append((method, path, options, endpoint))
            return endpoint

        return keep

    def get(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self.operation("get", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self.operation("post", path, **options)

    def router(self, route_class: type[APIRoute]) -> APIRouter:
        made = APIRouter(prefix=self.prefix, route_class=route_class, **self._options)
        for method, path, options, endpoint in self._operations:
            getattr(made, method)(path, **options)(endpoint)
        return made

    def case(self, name: str, asked: str, compares: frozenset[str] = ASPECTS, **sent: Any) -> Case:
        """Return the case that asks for `asked`: a method and a path below this router's prefix."""
        method, path = asked.split(" ", 1)
        return Case(
            f"{self.prefix.removeprefix('/api/')}: {name}", method, self.prefix + path, sent, compares, self._app
        )
