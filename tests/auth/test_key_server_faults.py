"""What users notice of a key server that is slow, broken or gone: nothing, where their key is known."""

import gzip
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from socket import socket

import httpx
import pytest

from app.auth import key_set
from tests.key_server import (
    ED,
    PROMPT_S,
    UNAVAILABLE,
    Behaviour,
    answer,
    delay,
    drip,
    drip_headers,
    get_examples,
    get_examples_promptly,
    hang,
    key_server,
    outcome,
    pour,
    publish,
    redirect,
    rsa_key,
    wait_for_status,
)
from tests.support import Api

Serve = Callable[..., AbstractContextManager[Api]]


GOOD_SET = json.dumps({"keys": [ED.jwk()]}).encode()

FAULTY: dict[str, Behaviour] = {
    "HTML": answer(b"<!doctype html><title>Sign in</title>"),
    "nothing": answer(b""),
    "no set": answer(b"[]"),
    "a set of text": answer(b'{"keys": "text"}'),
    "an empty set": publish(),
    "keys of no use": publish(ED.jwk(use="enc"), rsa_key("short", 1024).jwk()),
    "nested": answer(b"[" * 60_000),
    "an error": answer(GOOD_SET, 500),
    "a redirect": redirect(answer(GOOD_SET)),
    "compressed, asked or not": answer(gzip.compress(GOOD_SET), headers={"Content-Encoding": "gzip"}),
    "too much": answer(GOOD_SET + b" " * 64 * 1024),
    "a cut": answer(GOOD_SET, headers={"Content-Length": "100000"}),
    "a late answer": delay(4, answer(GOOD_SET)),
    "a hang": hang,
    "a drip": drip,
    "a drip of headers": drip_headers,
    "300 MB": pour,
}


@pytest.mark.parametrize("fault", FAULTY)
def test_no_keys(serve: Serve, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Whatever the key server does: 503 with Retry-After within the deadline, once it is well again 200."""
    monkeypatch.setattr(key_set, "COOLDOWN_S", 0.2)
    with key_server(FAULTY[fault]) as server, serve(better_auth_url=server.url) as api:
        token = ED.token(server.url)
        begin = time.monotonic()
        response = get_examples(api, token)
        assert time.monotonic() - begin < key_set.DEADLINE_S + 1
        assert (response.status_code, response.json()["code"]) == UNAVAILABLE
        assert "retry-after" in response.headers
        assert server.sent < 20 * 2**20  # what the sockets' buffers take
        server.behave = answer(GOOD_SET)
        wait_for_status(200, api, token, within=5)


def test_a_key_server_that_is_down(serve: Serve) -> None:
    """Nobody listening, or nobody who speaks TLS, is 503 like any other trouble."""
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        for listens, scheme in ((False, "http"), (True, "https")):
            if listens:
                listener.listen()
            with serve(better_auth_url=f"{scheme}://{address}") as api:
                begin = time.monotonic()
                assert outcome(api, ED.token(f"{scheme}://{address}")) == UNAVAILABLE
                assert time.monotonic() - begin < key_set.DEADLINE_S + 1


def test_requests_that_find_no_keys_share_one_fetch(serve: Serve) -> None:
    """Twenty at once are all answered by one slow fetch."""
    with key_server(delay(0.5, publish(ED.jwk()))) as server, serve(better_auth_url=server.url) as api:
        with ThreadPoolExecutor(20) as users:
            answers = list(users.map(lambda n: get_examples(api, ED.token(server.url, f"user-{n}")), range(20)))
        assert {response.status_code for response in answers} == {200}
        assert server.fetches == 1


def test_liveness_does_not_wait_for_keys(serve: Serve) -> None:
    """While requests wait for a key server that hangs, /health/live answers at once."""
    with key_server(hang) as server, serve(better_auth_url=server.url) as api, ThreadPoolExecutor(5) as users:
        waiting = [users.submit(get_examples, api, ED.token(server.url)) for _ in range(5)]
        while not server.fetches:
            time.sleep(0.01)
        assert httpx.get(f"{api.url}/health/live", timeout=PROMPT_S).status_code == 200
        assert not any(request.done() for request in waiting)
        assert {request.result().status_code for request in waiting} == {503}


@pytest.mark.parametrize("fault", [hang, drip, FAULTY["an error"]], ids=["hang", "drip", "error"])
def test_users_with_a_known_key_never_wait(serve: Serve, monkeypatch: pytest.MonkeyPatch, fault: Behaviour) -> None:
    """While keys that are due cannot be renewed they stay in use, and nobody notices."""
    monkeypatch.setattr(key_set, "FRESH_S", 0)
    monkeypatch.setattr(key_set, "COOLDOWN_S", 1)
    with key_server(publish(ED.jwk())) as server, serve(better_auth_url=server.url) as api:
        assert get_examples(api, ED.token(server.url)).status_code == 200
        server.behave, before = fault, server.fetches
        end = time.monotonic() + 4
        while time.monotonic() < end:
            get_examples_promptly(api, ED.token(server.url, f"user-{time.monotonic_ns()}"))
            time.sleep(0.05)
        assert 1 <= server.fetches - before <= 5


def test_keys_are_not_used_for_ever(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that could not be renewed for STALE_S count as none, also for a token that was good a moment ago."""
    monkeypatch.setattr(key_set, "FRESH_S", 0)
    monkeypatch.setattr(key_set, "STALE_S", 1)
    monkeypatch.setattr(key_set, "COOLDOWN_S", 0.5)
    with key_server(publish(ED.jwk())) as server, serve(better_auth_url=server.url) as api:
        token = ED.token(server.url)
        assert get_examples(api, token).status_code == 200
        server.behave = FAULTY["an error"]
        wait_for_status(503, api, token, within=10)
        server.behave = publish(ED.jwk())
        wait_for_status(200, api, token, within=5)
