"""Cases, routers for both applications, and the log in which their code writes what it did."""

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
    """One request. `options` are those of httpx: headers, content, json, data, files, params.

    `compares` says which aspects of the two answers must be the same.
    """

    name: str
    method: str
    path: str
    options: dict[str, Any]
    compares: frozenset[str] = ASPECTS
    app: str = "routes"

    def __str__(self) -> str:
        return self.name


class Routes:
    """The operations of a router. Each application makes a router of them with its own route class."""

    def __init__(self, prefix: str, app: str = "routes", **options: Any) -> None:
        self.prefix, self._app, self._options = prefix, app, options
        self._operations: list[tuple[str, str, dict[str, Any], Callable[..., Any]]] = []

    def operation(self, method: str, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        def add(endpoint: Endpoint) -> Endpoint:
            self._operations.append((method, path, options, endpoint))
            return endpoint

        return add

    def get(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self.operation("get", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self.operation("post", path, **options)

    def router(self, route_class: type[APIRoute]) -> APIRouter:
        router = APIRouter(prefix=self.prefix, route_class=route_class, **self._options)
        for method, path, options, endpoint in self._operations:
            getattr(router, method)(path, **options)(endpoint)
        return router

    def case(self, name: str, call: str, compares: frozenset[str] = ASPECTS, **options: Any) -> Case:
        """Return a case. The `call` is a method and a path below this router's prefix."""
        method, path = call.split(" ", 1)
        title = f"{self.prefix.removeprefix('/api/')}: {name}"
        return Case(title, method, self.prefix + path, options, compares, self._app)
