"""uvicorn's HTTP protocol with a bound on what it keeps of a request's head: httptools itself has none."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.web.guard import MAX_TARGET_BYTES

MAX_HEAD_BYTES = 1024 * 1024  # far over what the guard refuses with a status that says why


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose head does not end, and leaves a target too long for its parser to the guard."""

    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")

    def on_url(self, url: bytes) -> None:
        self.url = (self.url + url)[: 2 * MAX_TARGET_BYTES]

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)
