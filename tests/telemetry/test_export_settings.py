"""The variables of the OTLP exporters: those for traces win, and both encodings obey them."""

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from pydantic import ValidationError

from app.settings import Settings
from app.telemetry.export import make_exporter
from app.telemetry.signals import TRACES
from tests.otlp_receiver import Receiver, run_receiver
from tests.redis_server import certify

pytestmark = pytest.mark.parametrize("protocol", ["http/json", "http/protobuf"])


def export(protocol: str, url: str, **variables: Any) -> bool:
    """Whether the receiver at `url` took a span."""
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s")
    assert isinstance(span, ReadableSpan)
    given = {f"otel_exporter_otlp_{name}": value for name, value in variables.items()}
    settings = Settings(otel_exporter_otlp_endpoint=url, otel_exporter_otlp_protocol=protocol, **given)
    chosen = make_exporter(settings, TRACES)
    assert chosen
    result = chosen.export([span])
    chosen.shutdown()
    return result is SpanExportResult.SUCCESS


def test_the_timeout_for_traces_wins(protocol: str) -> None:
    """A receiver that never answers is left after its seconds, not after the general ones."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        assert not export(protocol, url, timeout=30, traces_timeout=0.5)
    assert 0.4 < time.monotonic() - started < 10


@pytest.mark.parametrize(("general", "traces", "encoding"), [("none", "gzip", "gzip"), ("gzip", "none", None)])
def test_the_compression_for_traces_wins(
    receiver: Receiver, protocol: str, general: str, traces: str, encoding: str | None
) -> None:
    """In either direction."""
    assert export(protocol, receiver.url, compression=general, traces_compression=traces)
    assert receiver.headers[0].get("content-encoding") == encoding


@pytest.fixture
def pairs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No authorities but the given ones: the package `requests` lets these variables win."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, Path]:
    """Two certificates with their keys, and one file with both parts of the second."""
    for name in ("server", "client"):
        (tmp_path / name).mkdir()
        certify(tmp_path / name)
    files = {
        f"{name} {part}": tmp_path / name / part for name in ("server", "client") for part in ("certificate", "key")
    }
    (tmp_path / "both").write_text(files["client certificate"].read_text() + files["client key"].read_text())
    return files | {"both": tmp_path / "both"}


@pytest.fixture
def careful(pairs: dict[str, Path]) -> Iterator[Receiver]:
    """A receiver that speaks TLS, and only with who has the second certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pairs["server certificate"], pairs["server key"])
    context.load_verify_locations(pairs["client certificate"])
    context.verify_mode = ssl.CERT_REQUIRED
    with run_receiver(context) as receiver:
        yield receiver


TRUSTED: dict[str, str] = {"certificate": "server certificate"}
CLIENT = {"client_certificate": "client certificate", "client_key": "client key"}


@pytest.mark.parametrize(
    ("named", "taken"),
    [
        (TRUSTED | CLIENT, True),
        (TRUSTED | {"client_certificate": "both"}, True),
        ({"certificate": "client certificate", "traces_certificate": "server certificate"} | CLIENT, True),
        (
            {f"traces_{name}": file for name, file in (TRUSTED | CLIENT).items()}
            | {"client_certificate": "server certificate", "client_key": "server key"},
            True,
        ),
        (TRUSTED, False),
        (TRUSTED | {"client_certificate": "server certificate", "client_key": "server key"}, False),
        (CLIENT, False),
    ],
)
@pytest.mark.usefixtures("pairs_only")
def test_both_sides_prove_who_they_are(
    careful: Receiver,
    pairs: dict[str, Path],
    protocol: str,
    named: dict[str, str],
    taken: bool,  # noqa: FBT001
) -> None:
    """The receiver by a certificate that is trusted, the application by its own; those for traces win."""
    assert export(protocol, careful.url, timeout=2, **{name: pairs[file] for name, file in named.items()}) is taken


def test_a_client_that_cannot_prove_itself_is_refused(protocol: str, pairs: dict[str, Path], tmp_path: Path) -> None:
    """At the start, in one line: a key only, files of two pairs, none at all, and a key that asks for a password."""
    locked = tmp_path / "locked"
    command = f"openssl rsa -aes256 -passout pass:secret -in {pairs['client key']} -out {locked}"
    subprocess.run(command.split(), check=True, capture_output=True)
    certificate = {"client_certificate": pairs["client certificate"]}
    for wrong in (
        {"client_key": pairs["client key"]},
        {"traces_client_key": pairs["client key"]},
        certificate,
        certificate | {"client_key": pairs["server key"]},
        certificate | {"client_key": locked},
        {"client_certificate": tmp_path / "nowhere"},
    ):
        with pytest.raises(ValidationError, match="OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _KEY"):
            export(protocol, "http://127.0.0.1:1", **wrong)
