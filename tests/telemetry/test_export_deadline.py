"""OTEL_EXPORTER_OTLP_TIMEOUT bounds the whole exchange with a receiver, however it spreads its answer."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from app.settings import Settings
from app.telemetry.export import make_exporter
from app.telemetry.signals import TRACES
from tests.redis_server import certify

TIMEOUT_S = 1.0


@contextmanager
def dripping(begin: bytes, context: ssl.SSLContext | None) -> Iterator[int]:
    """The port of a receiver that answers with `begin`, then a letter five times a second, for six seconds."""

    def drip() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) if context else connection as client:
                client.recv(65_536)
                client.sendall(begin)
                for _ in range(30):
                    client.sendall(b"H")
                    if done.wait(0.2):
                        return

    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"], ids=["head", "body"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_receiver_that_drips_its_answer_is_left_in_time(scheme: str, begin: bytes, tmp_path: Path) -> None:
    """No single wait is as long as the deadline, and the exporting thread is free at it all the same."""
    certify(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s")
    assert isinstance(span, ReadableSpan)
    with dripping(begin, context if scheme == "https" else None) as port:
        chosen = make_exporter(
            Settings(
                otel_exporter_otlp_endpoint=f"{scheme}://127.0.0.1:{port}",
                otel_exporter_otlp_timeout=TIMEOUT_S,
                otel_exporter_otlp_certificate=tmp_path / "certificate",
            ),
            TRACES,
        )
        assert chosen
        started = time.monotonic()
        chosen.export([span])
        ended = time.monotonic() - started
        chosen.shutdown()
    assert TIMEOUT_S * 0.9 < ended < TIMEOUT_S * 3
