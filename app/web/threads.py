"""How long a request waited for its worker thread: that is where overload shows, since there is one a connection."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from inspect import iscoroutinefunction
from time import perf_counter
from typing import Any

Endpoint = Callable[..., Any]


@dataclass(slots=True)
class Handover:
    """When an endpoint was handed to the threads, when one took it and when it had a connection, by `perf_counter`."""

    handed: float = field(default_factory=perf_counter)
    taken: float | None = None
    connected: float | None = None


HANDOVER: ContextVar[Handover | None] = ContextVar("handover", default=None)


def noting(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that notes in the current Handover when its thread began; a coroutine needs no thread."""
    if iscoroutinefunction(endpoint):
        return endpoint

    @wraps(endpoint)
    def noted(*arguments: Any, **named: Any) -> Any:
        if handover := HANDOVER.get():
            handover.taken = perf_counter()
        return endpoint(*arguments, **named)

    return noted
