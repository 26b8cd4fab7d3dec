"""A running API, as its users see it: over HTTP, with real tokens, on a real PostgreSQL."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, cycle, islice
from socket import socket
from socketserver import BaseServer
from threading import Event, Thread
from typing import Any, TypeVar

import httpx
import jwt
import psycopg2
import pytest
from starlette.types import ASGIApp

from app.main import create_app
from app.serving import Server
from app.settings import Settings

S = TypeVar("S", bound=BaseServer)
Create = Callable[[Settings, Event], ASGIApp]
UNLIMITED: dict[str, Any] = {"rate_limit": "1000000/minute", "rate_limit_unauthenticated": "1000000/minute"}
SECRET = "a-secret-that-only-these-tests-know-of"
ORIGIN = "https://app.example.com"
CERTIFICATES = httpx.create_ssl_context()  # once: they take 40 ms to load, which each client would spend again


def make_token(
    sub: Any = "alice", *, key: Any = SECRET, algorithm: str = "HS256", headers: Any = None, **claims: Any
) -> str:
    """Return a token that is valid unless an argument makes it invalid. A claim of None is left out."""
    now = int(time.time())
    payload = {"sub": sub, "iat": now, "exp": now + 3600} | claims
    return jwt.encode({k: v for k, v in payload.items() if v is not None}, key, algorithm, headers)


def statuses(ports: Sequence[int], requests: int, user: str = "fresh", connections: int = 20) -> Counter[int]:
    """Send a user's requests to the APIs in turn, on several connections at once. Count the statuses of the answers."""
    headers = {"Authorization": f"Bearer {make_token(user)}"}

    def get_examples(port: int) -> list[int]:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        received = []
        for _ in range(requests // connections):
            connection.request("GET", "/api/examples?limit=1", headers=headers)
            answer = connection.getresponse()
            answer.read()
            received.append(answer.status)
        connection.close()
        return received

    with ThreadPoolExecutor(connections) as pool:
        answers = pool.map(get_examples, islice(cycle(ports), connections))
        return Counter(chain.from_iterable(answers))


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until the condition is true. Fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


def slow(*values: Any) -> pytest.ParameterSet:
    """Return parameters of a test that only the slow suite takes: others of their kind are in the fast one."""
    return pytest.param(*values, marks=pytest.mark.slow)


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        return httpx.get(url, verify=CERTIFICATES, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@dataclass(frozen=True)
class Api:
    """A running API. A `client` has the token of a user, or no token."""

    port: int
    settings: Settings

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def client(self, user: str | None = "alice", **headers: str) -> Iterator[httpx.Client]:
        authorization = {"Authorization": f"Bearer {make_token(user)}"} if user else {}
        given = authorization | headers
        with httpx.Client(base_url=self.url, headers=given, timeout=30, verify=CERTIFICATES) as client:
            yield client


@contextmanager
def run_api(settings: Settings, create: Create = create_app) -> Iterator[Api]:
    """Serve an application with these settings, in a thread of this process and on a free port."""
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        with run_on(listener, settings, create):
            yield Api(listener.getsockname()[1], settings)


@contextmanager
def run_on(listener: socket, settings: Settings, create: Create = create_app) -> Iterator[None]:
    """Serve an application at a socket that is bound, in a thread of this process, until the block ends."""
    started = Event()
    draining = Event()
    server = Server(create(settings, draining), settings, draining, started.set)
    thread = Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()


@contextmanager
def run_server(server: S) -> Iterator[S]:
    """Run `server` in a thread until the block ends."""
    with server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def run_handler(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Run an HTTP server with `handler` until the block ends. Yield its port."""
    with run_server(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        yield server.server_port


def run_sql(url: str, statement: str) -> None:
    """Run one statement in the database at `url`, without the application and without a transaction."""
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement)
