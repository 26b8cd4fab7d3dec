"""What is more than MAX_IN_FLIGHT lets in is refused where its head is complete: before a task is made for it.

At three times what can be served there are two refusals for each answer. Through all layers, with a line each, one
costs a fifth of an answer, and takes that from those that could be served.
"""

import logging
from asyncio import AbstractEventLoop
from collections.abc import Mapping
from contextvars import Context
from functools import partial
from random import getrandbits
from threading import Event

from starlette.datastructures import MutableHeaders

from app.errors import Overloaded
from app.settings import Settings
from app.web.api import PRIVATE
from app.web.cors import Cors
from app.web.guard import Guard
from app.web.problems import problem_response

OVERLOAD = "app.overload"  # its name in the lifespan's state
LINE_EVERY_S = 1.0
NO_ID = "0" * 32

logger = logging.getLogger(__name__)


class Overload:
    """Refuses requests while as many are in flight as may be, and writes one line a second of them all."""

    def __init__(self, guard: Guard, settings: Settings, draining: Event) -> None:
        self._guard, self._draining = guard, draining
        # All are made here: where one is used, the record at hand may be that of another request.
        make = partial(_template, has_id=not settings.otel_sdk_disabled)
        self._templates = {origin.encode(): make(origin) for origin in ("", *settings.cors_origins)}
        self._refused = 0

    @property
    def is_now(self) -> bool:
        """Whether another request is one too many. A process that leaves answers in the usual way."""
        return self._guard.is_full and not self._draining.is_set()

    def refuse(self, method: bytes, headers: Mapping[bytes, bytes], loop: AbstractEventLoop) -> bytes:
        """Count a request, and return its answer, from the first header of ours on."""
        self._guard.on_refusal(method.decode(), Overloaded.status)
        if not self._refused:
            loop.call_later(LINE_EVERY_S, self._tell, context=Context())  # not a request's, which has a trace
        self._refused += 1
        head, body = self._templates.get(headers.get(b"origin", b""), self._templates[b""])
        trace_id = b"%032x" % getrandbits(128)
        answer = head if method == b"HEAD" else head + body
        return answer.replace(NO_ID.encode(), trace_id)

    def _tell(self) -> None:
        extra = {"code": Overloaded.code, "refused": self._refused}
        logger.warning("%d requests in a second were more than MAX_IN_FLIGHT lets in", self._refused, extra=extra)
        self._refused = 0


def _template(origin: str, *, has_id: bool) -> tuple[bytes, bytes]:
    """Return the head and the body of the answer to a script of `origin`, or to all others for none.

    NO_ID stands in the place of the trace's id.
    """
    error = Overloaded()
    named = {"trace_id": NO_ID} if has_id else {}
    response = problem_response(error.status, error.code, error.detail, error.headers, **named)
    headers = MutableHeaders(raw=[*response.raw_headers, *PRIVATE])
    headers["server-timing"] = "db;dur=0.0, total;dur=0.0"
    if has_id:
        headers["x-trace-id"] = NO_ID
    if origin:
        Cors.allow_explicit_origin(headers, origin)
    lines = [b"%b: %b\r\n" % header for header in headers.raw]
    return b"".join([*lines, b"\r\n"]), bytes(response.body)
