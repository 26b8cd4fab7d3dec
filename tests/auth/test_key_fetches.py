"""What tells of a key server that is broken or gone, before users notice: the log in words, and the metrics."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from email.utils import formatdate
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from app.auth import key_set
from tests.auth.test_key_server_faults import FAULTY, GOOD_SET
from tests.certificates import certificate
from tests.key_server import (
    ED,
    answer,
    dated,
    get_examples,
    key_server,
    outcome,
    publish,
    wait_for_status,
)
from tests.support import SECRET, Api, make_token
from tests.telemetry.scrapes import scrape

Serve = Callable[..., AbstractContextManager[Api]]

KINDS = {
    "an empty set": ("empty", "serves no key that can verify a token"),
    "HTML": ("content", "cannot be read: JSONDecodeError"),
    "too much": ("content", "cannot be read: over 65536 bytes"),
    "an error": ("status", "cannot be read: status 500"),
    "a hang": ("timeout", "Timeout"),
}
CERTIFICATES: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"begins": -3, "ends": -1}, "certificate has expired"),
    "not yet good": ({"begins": 1, "ends": 2}, "certificate is not yet valid"),
    "another host's": ({"host": "elsewhere.example"}, "Hostname mismatch, certificate is not valid for 'localhost'."),
}


def fetches(api: Api) -> dict[str, float]:
    """How many fetches there were of each outcome, of those that there were."""
    with api.client(None) as client:
        found = [sample for sample in scrape(client).samples if sample.name == "auth_key_fetches_total"]
    assert len(found) == 7  # each begins at 0
    return {sample.labels["outcome"]: sample.value for sample in found if sample.value}


@pytest.mark.parametrize("fault", KINDS)
def test_fetches_count_by_outcome(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Each kind of failure counts under a name of its own, and the log says why."""
    monkeypatch.setattr(key_set, "COOLDOWN_S", 0.2)
    kind, words = KINDS[fault]
    with key_server(FAULTY[fault]) as server, serve(better_auth_url=server.url) as api:
        assert get_examples(api, ED.token(server.url)).status_code == 503
        assert fetches(api) == {kind: 1}
        assert words in caplog.text
        server.behave = answer(GOOD_SET)
        wait_for_status(200, api, ED.token(server.url), within=5)
        assert fetches(api) == {kind: 1, "ok": 1}


def test_nobody_listens(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The line has the system's words, as it has the resolver's for a name that there is not."""
    with socket() as unused:
        unused.bind(("127.0.0.1", 0))
        for host, words in (("127.0.0.1", "Connection refused"), ("nowhere.invalid", "")):
            url = f"http://{host}:{unused.getsockname()[1]}"
            with serve(better_auth_url=url) as api:
                assert get_examples(api, ED.token(url)).status_code == 503
                assert fetches(api) == {"unreachable": 1}
            assert f"the keys at {url}/api/auth/jwks cannot be read: ConnectError: {words}" in caplog.text


@pytest.mark.parametrize("fault", CERTIFICATES)
def test_a_certificate_that_is_refused(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str
) -> None:
    """One that has expired, that is not good yet, or another's: the line says which, in OpenSSL's words."""
    made, words = CERTIFICATES[fault]
    path = certificate(tmp_path, **made)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with key_server(answer(GOOD_SET), certificate=path) as server, serve(better_auth_url=server.url) as api:
        assert get_examples(api, ED.token(server.url)).status_code == 503
        assert fetches(api) == {"certificate": 1}
    assert f"cannot be read: ConnectError: {words}" in caplog.text


def test_a_certificate_that_nobody_trusts(serve: Serve, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """It is refused as any other, and a good one is taken."""
    path = certificate(tmp_path)
    with key_server(answer(GOOD_SET), certificate=path) as server:
        with serve(better_auth_url=server.url) as api:
            assert get_examples(api, ED.token(server.url)).status_code == 503
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("SSL_CERT_FILE", str(path))
            with serve(better_auth_url=server.url) as api:
                assert get_examples(api, ED.token(server.url)).status_code == 200
    assert "cannot be read: ConnectError: self-signed certificate" in caplog.text


def test_the_age_of_the_keys(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows while they cannot be read, and starts again from 0 once they are."""
    monkeypatch.setattr(key_set, "FRESH_S", 0)
    monkeypatch.setattr(key_set, "COOLDOWN_S", 0.1)

    def age() -> float:
        with api.client(None) as client:
            return scrape(client).value("auth_keys_age_seconds")

    with key_server(FAULTY["an error"]) as server, serve(better_auth_url=server.url) as api:
        wait_for_status(503, api, ED.token(server.url), within=5)
        first = age()
        assert 0 < first < (second := age())
        server.behave = publish(ED.jwk())
        wait_for_status(200, api, ED.token(server.url), within=5)
        assert age() < second + 0.1


@pytest.mark.parametrize(("ahead", "age"), [(95, 0), (-95, 0), (0, 300)])
def test_the_key_server_s_clock(serve: Serve, caplog: pytest.LogCaptureFixture, ahead: int, age: int) -> None:
    """One that differs from ours is measured, and told of in the log; a cache's old answer is no old clock."""
    headers = {"Date": formatdate(time.time() + ahead - age, usegmt=True), "Age": str(age)}
    with key_server(dated(GOOD_SET, headers)) as server, serve(better_auth_url=server.url) as api:
        assert get_examples(api, ED.token(server.url)).status_code == 200
        with api.client(None) as client:
            assert scrape(client).value("auth_clock_offset_seconds") == pytest.approx(ahead, abs=5)
    told = [record.getMessage() for record in caplog.records if "clock" in record.getMessage()]
    assert len(told) == bool(ahead)
    assert all(("ahead of" if ahead > 0 else "behind") in message for message in told)


def test_a_token_that_is_not_valid_yet(issuer_api: Api, issuer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is a bad token to its client. The log and the metrics tell it from others: clocks differ."""
    early = ED.token(issuer.url, iat=int(time.time()) + 95)
    assert outcome(issuer_api, early) == (401, "token_invalid")
    with issuer_api.client(None) as client:
        seen = scrape(client)
    assert [seen.value("auth_failures_total", reason=f"token_{kind}") for kind in ("early", "invalid")] == [2, 0]
    assert caplog.messages.count("a token is refused: by our clock it is not valid yet") == 2


def test_a_secret_has_no_fetches(serve: Serve) -> None:
    """Where tokens are verified by BETTER_AUTH_SECRET there is nothing to fetch, and no metric of it."""
    with serve(better_auth_secret=SECRET) as api, api.client(None) as client:
        headers = {"Authorization": f"Bearer {make_token()}"}
        assert client.get("/api/examples", headers=headers).status_code == 200
        names = {sample.name for sample in scrape(client).samples}
    assert not [name for name in names if name.startswith(("auth_key", "auth_clock"))]
