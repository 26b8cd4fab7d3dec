"""Requests as bytes on a socket, which may be such as no HTTP client sends, and their answers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from socket import create_connection, socket
from typing import Any

from tests.support import make_token

TOKEN = b"<TOKEN>"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    method: str, target: str | bytes, *headers: str | bytes, body: bytes | None = None, version: str = "1.1"
) -> bytes:
    """Return a request with the right Content-Length. send() replaces TOKEN by a valid token. Text becomes UTF-8."""
    length = [] if body is None else [f"Content-Length: {len(body)}"]
    first = _bytes(method) + b" " + _bytes(target) + b" HTTP/" + _bytes(version)
    return b"\r\n".join([first, b"Host: api.test", *map(_bytes, (*headers, *length)), b"", body or b""])


@contextmanager
def connect(port: int, timeout: float = 10) -> Iterator[socket]:
    with create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        yield connection


def send(connection: socket, *pieces: bytes, token: str = "") -> None:
    for piece in pieces:
        connection.sendall(piece.replace(TOKEN, token.encode()) if token else piece)


def receive(connection: socket, method: str = "GET") -> Answer:
    """Return the next answer, but no interim one (100)."""
    with HTTPResponse(connection, method=method) as response:
        response.begin()
        headers = {name.lower(): response.getheader(name, "") for name, _ in response.getheaders()}
        return Answer(response.status, headers, response.read())


def exchange(port: int, *pieces: bytes) -> Answer:
    """Send one request on a new connection and return its answer."""
    with connect(port) as connection:
        send(connection, *pieces, token=make_token("alice"))
        return receive(connection, pieces[0].partition(b" ")[0].decode("latin-1"))


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
