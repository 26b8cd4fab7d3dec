"""uvicorn's HTTP protocol with a bound on what it keeps of a request's head, and an answer to one too many.

httptools itself has no bound.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.errors import Overloaded
from app.record import PROBES
from app.web.guard import MAX_BODY_BYTES, MAX_TARGET_BYTES
from app.web.overload import OVERLOAD, Overload

MAX_HEAD_BYTES = 1024 * 1024  # far over what the guard refuses with a status that says why
PROBE_ENDINGS = tuple(path.encode() for path in PROBES)  # behind whatever prefix a proxy leaves
MAX_LENGTH = len(str(MAX_BODY_BYTES)) - 1  # digits


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose head does not end, and leaves a target too long for its parser to the guard.

    It refuses one request too many itself, unless there is more to it than a head and a small body. What knows of that
    is in the state that the application's lifespan gave (https://asgi.readthedocs.io/en/latest/specs/lifespan.html).
    """

    _head_bytes = 0
    _is_refused = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._overload: Overload | None = self.app_state.get(OVERLOAD)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")

    def on_url(self, url: bytes) -> None:
        self.url = (self.url + url)[: 2 * MAX_TARGET_BYTES]

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        if self._overload and self._overload.is_now and self._is_plain():
            self._refuse(self._overload)
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_refused:
            super().on_message_complete()
        self._is_refused = False

    def _is_plain(self) -> bool:
        """Tell whether an answer may follow at once, and the connection be used again."""
        is_busy = self.cycle is not None and not self.cycle.response_complete
        is_last = self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive()
        if is_busy or is_last or self.flow.write_paused or self.expect_100_continue or self.parser.should_upgrade():
            return False
        is_asked_always = self.parser.get_method() == b"OPTIONS" or self.url.partition(b"?")[0].endswith(PROBE_ENDINGS)
        headers = dict(self.headers)
        is_large = b"transfer-encoding" in headers or len(headers.get(b"content-length", b"")) > MAX_LENGTH
        return not is_asked_always and not is_large

    def _refuse(self, overload: Overload) -> None:
        self._is_refused = True
        own = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        answer = overload.refuse(self.parser.get_method(), dict(self.headers), self.loop)
        self.transport.write(b"".join([STATUS_LINE[Overloaded.status], *own, answer]))
        self.on_response_complete()
