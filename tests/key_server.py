"""A key server on loopback, whose behaviour a test sets; keys that sign tokens; requests with these tokens."""

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from types import MappingProxyType
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.support import Api, make_token

Behaviour = Callable[["KeyServer", BaseHTTPRequestHandler], None]
CHUNK = b" " * 2**20
TLS = ssl.create_default_context()  # not used; else httpx makes one for each request, which takes 20 ms
PROMPT_S = 1.0  # an answer that waits for keys takes 2 s
INVALID, UNAVAILABLE = (401, "token_invalid"), (503, "auth_unavailable")
PATH, REDIRECTED = "/api/auth/jwks", "/redirected"


@dataclass(frozen=True)
class SigningKey:
    """A key pair of an issuer."""

    kid: str | None
    algorithm: str
    private: Any

    def jwk(self, **members: Any) -> dict[str, Any]:
        """Return the public key as an issuer publishes it. A member of None is left out."""
        public = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        jwk = {**public, "kid": self.kid, "alg": self.algorithm} | members
        return {k: v for k, v in jwk.items() if v is not None}

    def token(self, issuer: str, sub: Any = "alice", *, headers: Any = None, **claims: Any) -> str:
        """Return a token of this key that is valid unless an argument makes it invalid."""
        claims = {"iss": issuer, "aud": issuer} | claims
        kid = {"kid": self.kid} if self.kid else {}
        return make_token(sub, key=self.private, algorithm=self.algorithm, headers=kid | (headers or {}), **claims)


def ed25519_key(kid: str | None = "ed") -> SigningKey:
    return SigningKey(kid, "EdDSA", ed25519.Ed25519PrivateKey.generate())


def p256_key(kid: str | None = "ec") -> SigningKey:
    return SigningKey(kid, "ES256", ec.generate_private_key(ec.SECP256R1()))


def rsa_key(kid: str | None = "rsa", bits: int = 2048) -> SigningKey:
    return SigningKey(kid, "RS256", rsa.generate_private_key(65537, bits))


ED, EC, RSA = ed25519_key(), p256_key(), rsa_key()


def answer(body: bytes, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})) -> Behaviour:
    def behave(_: "KeyServer", request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return behave


def dated(body: bytes, headers: Mapping[str, str]) -> Behaviour:
    """Answer with this Date, and not the server's own."""

    def behave(_: "KeyServer", request: BaseHTTPRequestHandler) -> None:
        request.send_response_only(200)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return behave


def publish(*jwks: Any) -> Behaviour:
    return answer(json.dumps({"keys": jwks}).encode())


def redirect(then: Behaviour) -> Behaviour:
    def behave(server: "KeyServer", request: BaseHTTPRequestHandler) -> None:
        if request.path == PATH:
            answer(b"", 302, {"Location": REDIRECTED})(server, request)
        else:
            then(server, request)

    return behave


def delay(seconds: float, then: Behaviour) -> Behaviour:
    def behave(server: "KeyServer", request: BaseHTTPRequestHandler) -> None:
        server.closing.wait(seconds)
        then(server, request)

    return behave


def hang(server: "KeyServer", _: BaseHTTPRequestHandler) -> None:
    """Accept the request and do not answer."""
    server.closing.wait()


def drip(server: "KeyServer", request: BaseHTTPRequestHandler) -> None:
    """Send a byte of the body each half second, so that no read times out."""
    request.send_response(200)
    request.end_headers()
    while not server.closing.wait(0.5):
        request.wfile.write(b" ")


def drip_headers(server: "KeyServer", request: BaseHTTPRequestHandler) -> None:
    """Send headers without an end."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while not server.closing.wait(0.5):
        request.wfile.write(b"x")


def pour(server: "KeyServer", request: BaseHTTPRequestHandler) -> None:
    """Send 300 MB of white space, or less if the client stops reading."""
    request.send_response(200)
    request.end_headers()
    for _ in range(300):
        request.wfile.write(CHUNK)
        server.sent += len(CHUNK)


@dataclass
class KeyServer:
    """A running key server. `behave` answers; `fetches` counts the requests, and `sent` the bytes of pour().

    `ahead_s` is for who signs: how far its clock is ahead.
    """

    url: str
    behave: Behaviour
    closing: Event = field(default_factory=Event)
    fetches: int = 0
    sent: int = 0
    ahead_s: int = 0
    tls: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


@contextmanager
def key_server(behave: Behaviour, path: str = PATH, certificate: Path | None = None) -> Iterator[KeyServer]:
    """Run a key server at `path`, with a thread for each request; as `localhost` where it has a certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in {path, REDIRECTED}:
                self.send_error(404)
                return
            served.fetches += 1
            with suppress(ConnectionError):
                served.behave(served, self)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = KeyServer(f"http://127.0.0.1:{server.server_port}", behave)
        if certificate:
            served.tls.load_cert_chain(certificate)  # another one takes its place, for connections that come later
            server.socket = served.tls.wrap_socket(server.socket, server_side=True)
            served.url = f"https://localhost:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield served
        finally:
            served.closing.set()
            server.shutdown()
            thread.join(10)


def get_examples(api: Api, token: str) -> httpx.Response:
    return httpx.get(f"{api.url}/api/examples", headers={"Authorization": f"Bearer {token}"}, timeout=30, verify=TLS)


def outcome(api: Api, token: str) -> tuple[int, str | None]:
    """Send two requests, which must have the same status: the API may have cached the first. Return status and code."""
    first, second = get_examples(api, token), get_examples(api, token)
    assert first.status_code == second.status_code
    return second.status_code, second.json().get("code") if second.is_error else None


def wait_for_status(expected: int, api: Api, token: str, *, within: float) -> httpx.Response:
    """Send requests until the answer has the expected status."""
    deadline = time.monotonic() + within
    while (response := get_examples(api, token)).status_code != expected:
        assert time.monotonic() < deadline, f"still {response.status_code} after {within} s"
        time.sleep(0.1)
    return response


def get_examples_promptly(api: Api, token: str) -> None:
    """Send a valid token, and expect an answer that waits for nothing."""
    begin = time.monotonic()
    assert get_examples(api, token).status_code == 200
    assert time.monotonic() - begin < PROMPT_S
