"""OTLP over HTTP with JSON bodies (https://opentelemetry.io/docs/specs/otlp/#otlphttp): one connection, kept open."""

import gzip
import io
import logging
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, RemoteDisconnected
from socket import SHUT_RDWR, socket
from threading import Event
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from app.settings import Settings
from app.settings.types import parse_headers
from app.telemetry.signals import Signal

RETRYABLE = {429, 502, 503, 504}  # https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes
FIRST_PAUSE_S = 1.0
MAX_ANSWER_BYTES = 64 * 1024
MAX_MESSAGES = 100
HINTS = (
    dict.fromkeys((401, 403), ": see OTEL_EXPORTER_OTLP_HEADERS")
    | dict.fromkeys((301, 302, 307, 308, 404, 405), ": see OTEL_EXPORTER_OTLP_ENDPOINT, the path asked for was {path}")
    | {413: ": see OTEL_{queue}_MAX_EXPORT_BATCH_SIZE", 415: ": set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}
)

logger = logging.getLogger(__name__)


class JsonExporter(SpanExporter):
    """Sends batches to `endpoint`, each within OTEL_EXPORTER_OTLP_TIMEOUT, retries included; called by one thread.

    Only a new connection may take longer: each address of the host and TLS have the time that is left, and a look-up
    takes what libc does.
    """

    def __init__(self, endpoint: str, settings: Settings, signal: Signal) -> None:
        url, given = urlsplit(endpoint), partial(settings.for_signal, signal.name)
        assert url.hostname  # Settings refuses a URL without
        self._path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._signal = signal
        self._timeout: float = given("timeout")
        self._gzip = given("compression") == "gzip"
        self._headers = {**parse_headers(given("headers")), "content-type": "application/json"}
        if self._gzip:
            self._headers["content-encoding"] = "gzip"
        self._connection = HTTPConnection(url.hostname, url.port)
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=given("certificate"))
            if certificate := given("client_certificate"):
                context.load_cert_chain(certificate, given("client_key"))
            self._connection = HTTPSConnection(url.hostname, url.port, context=context)
        self._warn_once = lru_cache(MAX_MESSAGES)(logger.warning)  # the next batch is likely to fail as well
        self._stopped = Event()

    def export(self, items: Sequence[Any]) -> SpanExportResult:
        """Send one batch. If the receiver asks for patience, try again while there is time."""
        body = self._signal.encode(items)
        body = gzip.compress(body, 1) if self._gzip else body
        deadline, pause = monotonic() + self._timeout, FIRST_PAUSE_S
        while not self._stopped.is_set():
            status, wanted = self._post(body, deadline)
            if status < HTTPStatus.MULTIPLE_CHOICES:
                return SpanExportResult.SUCCESS
            if status not in RETRYABLE:
                path = self._path.partition("?")[0]  # a query may hold a token
                hint = HINTS.get(status, "").format(path=path, queue=self._signal.queue.upper())
                self._warn_once("the collector refuses %ss with status %d%s", self._signal.item, status, hint)
                break
            wait = pause if wanted is None else wanted
            if monotonic() + wait > deadline:
                break
            self._stopped.wait(wait)
            pause *= 2
        return SpanExportResult.FAILURE

    def _post(self, body: bytes, deadline: float) -> tuple[int, float | None]:
        """Return the status, and after how many seconds the receiver wants the batch again.

        That is None if it does not say, or says 0: there would be no pause between the tries.
        If there is no answer, return 503. If a reused connection was closed, retry at once.
        """
        connection, is_reused = self._connection, self._connection.sock is not None
        try:
            connection.timeout = seconds_until(deadline)
            if not is_reused:
                connection.connect()
            if connection.sock:  # unless `shutdown` has come in between
                connection.sock.settimeout(seconds_until(deadline))
            connection.request("POST", self._path, body, self._headers)
            connection.response_class = partial(TimedResponse, deadline)  # type: ignore[assignment]  # it is only called
            with connection.getresponse() as answer:
                if len(answer.read(MAX_ANSWER_BYTES)) == MAX_ANSWER_BYTES:
                    connection.close()
                retry_after = answer.headers.get("retry-after", "")  # seconds, or a date, which is not read
                return answer.status, (float(retry_after) or None) if retry_after.isdecimal() else None
        except (OSError, HTTPException) as error:
            connection.close()
            if is_reused and isinstance(error, (ConnectionError, RemoteDisconnected)):
                return HTTPStatus.SERVICE_UNAVAILABLE, 0.0
            kind = type(error).__name__
            self._warn_once("the collector at %s:%d does not answer: %s", connection.host, connection.port, kind)
            return HTTPStatus.SERVICE_UNAVAILABLE, None

    def shutdown(self) -> None:
        """Give up what another thread is sending."""
        self._stopped.set()
        if sock := self._connection.sock:
            with suppress(OSError):  # `close` would not wake a thread that waits, nor does the method of SSLSocket
                socket.shutdown(sock, SHUT_RDWR)
        self._connection.close()


class TimedResponse(HTTPResponse):
    """An answer that is read until `deadline`. A socket's own time-out begins again with each byte of a slow answer."""

    def __init__(self, deadline: float, sock: socket, **given: Any) -> None:
        super().__init__(sock, **given)
        self.fp = io.BufferedReader(TimedReader(sock, self.fp.detach(), deadline))


class TimedReader(io.RawIOBase):
    """Reads from a socket until `deadline`."""

    def __init__(self, sock: socket, file: io.RawIOBase, deadline: float) -> None:
        self._sock, self._file, self._deadline = sock, file, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(seconds_until(self._deadline))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def seconds_until(deadline: float) -> float:
    """Return how long a socket may wait: never 0, which to a socket means something else."""
    return max(deadline - monotonic(), 0.001)
