"""A running API, as its users meet it: over HTTP, with real tokens, on a real PostgreSQL."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socket import socket
from threading import Event, Thread
from typing import Any

import httpx
import jwt
from starlette.types import ASGIApp

from app.main import create_app
from app.serving import Server, configuration
from app.settings import Settings

SECRET = "a-secret-that-only-these-tests-know-of"


def make_token(
    sub: Any = "alice", *, key: Any = SECRET, algorithm: str = "HS256", headers: Any = None, **claims: Any
) -> str:
    """A token that is good unless told otherwise; a claim of None is left out."""
    now = int(time.time())
    payload = {"sub": sub, "iat": now, "exp": now + 600} | claims
    return jwt.encode({k: v for k, v in payload.items() if v is not None}, key, algorithm, headers)


@dataclass(frozen=True)
class Api:
    """A running API. `client` speaks for a user, or for nobody."""

    port: int
    settings: Settings

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def client(self, user: str | None = "alice", **headers: str) -> Iterator[httpx.Client]:
        authorization = {"Authorization": f"Bearer {make_token(user)}"} if user else {}
        with httpx.Client(base_url=self.url, headers=authorization | headers, timeout=30) as client:
            yield client


@contextmanager
def running(settings: Settings, app: ASGIApp | None = None) -> Iterator[Api]:
    """Serve an app with these settings in a thread of this process, on a port of its own."""
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        started = Event()
        server = Server(configuration(app or create_app(settings), settings), started.set)
        thread = Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        assert started.wait(10)
        try:
            yield Api(listener.getsockname()[1], settings)
        finally:
            server.should_exit = True
            thread.join(15)
            assert not thread.is_alive()
