"""OTLP over HTTP with JSON bodies (https://opentelemetry.io/docs/specs/otlp/#otlphttp): one connection, kept open."""

import gzip
import http.client
import logging
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from socket import SHUT_RDWR, socket
from threading import Event, Timer
from time import monotonic
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from app.telemetry.once import Once
from app.telemetry.otlp_json import encode

RETRYABLE = {429, 502, 503, 504}  # https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes
FIRST_PAUSE_S = 1.0
MAX_ANSWER_BYTES = 64 * 1024
HINTS = (
    dict.fromkeys((401, 403), ": see OTEL_EXPORTER_OTLP_HEADERS")
    | dict.fromkeys((301, 302, 307, 308, 404, 405), ": see OTEL_EXPORTER_OTLP_ENDPOINT, the path asked for was {path}")
    | {413: ": see OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 415: ": set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"}
)

logger = logging.getLogger(__name__)


class JsonExporter(SpanExporter):
    """Sends batches to `endpoint`, each within `timeout` seconds, retries included. Called by one thread at a time.

    Only the set-up of a connection may take longer: each address of the host and TLS have the time that is left then,
    and a look-up takes what libc does.
    """

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        timeout: float,
        trusted: Path | None,
        client_files: tuple[Path | None, Path | None],
        *,
        gzip: bool,
    ) -> None:
        url = urlsplit(endpoint)
        assert url.hostname  # Settings saw to it
        self._path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._headers = {**headers, "content-type": "application/json"} | ({"content-encoding": "gzip"} if gzip else {})
        self._timeout, self._gzip = timeout, gzip
        self._messages = Once()
        self._stopped = Event()
        self._sock: socket | None = None
        self._connection = http.client.HTTPConnection(url.hostname, url.port, timeout=timeout)
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=trusted)
            certificate, key = client_files
            if certificate:
                context.load_cert_chain(certificate, key)
            self._connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=timeout, context=context)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one batch; a receiver that asks for patience gets another try while there is time."""
        body = encode(spans)
        body = gzip.compress(body, 1) if self._gzip else body
        deadline, pause = monotonic() + self._timeout, FIRST_PAUSE_S
        while True:
            status, wanted = self._post(body, deadline)
            if status < HTTPStatus.MULTIPLE_CHOICES:
                return SpanExportResult.SUCCESS
            if status not in RETRYABLE:
                self._tell(f"refuses spans with status {status}{self._hint(status)}")
                return SpanExportResult.FAILURE
            wait = pause if wanted is None else wanted
            if monotonic() + wait > deadline or self._stopped.wait(wait):
                return SpanExportResult.FAILURE
            pause *= 2

    def _hint(self, status: int) -> str:
        return HINTS.get(status, "").format(path=self._path.partition("?")[0])  # a query may hold a token

    def _tell(self, what: str) -> None:
        """Log each message once: the next batch is likely to be refused as well."""
        if self._messages.is_new(what):
            logger.warning("the collector %s", what)

    def _post(self, body: bytes, deadline: float) -> tuple[int, float | None]:
        """Return the status and the pause that was asked for; without an answer 503.

        If a connection that was kept open was closed by the receiver, the pause is 0.
        """
        kept = self._connection.sock is not None
        try:
            with self._connected(deadline):
                return self._exchange(body)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            if kept and isinstance(error, (ConnectionError, http.client.RemoteDisconnected)):
                return HTTPStatus.SERVICE_UNAVAILABLE, 0.0
            host = f"{self._connection.host}:{self._connection.port}"
            self._tell(f"at {host} does not answer: {type(error).__name__}")
            return HTTPStatus.SERVICE_UNAVAILABLE, None

    @contextmanager
    def _connected(self, deadline: float) -> Iterator[None]:
        """Connect where that is still to be done, and cut the connection at `deadline`.

        A socket's own time-out is for one wait, and a receiver that drips its answer ends every wait.
        """
        if self._connection.sock is None:
            self._connection.timeout = max(0.0, deadline - monotonic())
            self._connection.connect()
        self._sock = self._connection.sock
        if self._sock:  # unless `shutdown` has come in between
            self._sock.settimeout(self._timeout)
        cut = Timer(deadline - monotonic(), self._cut)
        cut.daemon = True
        cut.start()
        try:
            yield
        finally:
            cut.cancel()

    def _exchange(self, body: bytes) -> tuple[int, float | None]:
        self._connection.request("POST", self._path, body, self._headers)
        with self._connection.getresponse() as answer:
            read = answer.read(MAX_ANSWER_BYTES)
            if len(read) == MAX_ANSWER_BYTES:
                self._connection.close()
            return answer.status, _seconds(answer.headers.get("retry-after"))

    def _cut(self) -> None:
        """Wake who waits for the socket, from another thread: to close it would not."""
        if self._sock:
            with suppress(OSError):
                socket.shutdown(self._sock, SHUT_RDWR)  # SSLSocket's own takes TLS from the thread that waits

    def shutdown(self) -> None:
        """Give up what is being sent, from another thread."""
        self._stopped.set()
        self._cut()
        self._connection.close()


def _seconds(retry_after: str | None) -> float | None:
    """Return a Retry-After of seconds; a date is not worth the parsing here."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else None
