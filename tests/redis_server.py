"""A real Redis for rate limits, and the faults that a test can cause in it."""

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import create_server, socket
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import pytest
import redis

from tests.support import SECRET, answers, wait_until


class Redis:
    """A real redis-server on a unix socket in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "s"
        self.uri = f"redis+unix://{self.path}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        command = ["redis-server", "--unixsocket", str(self.path), "--dir", str(self._folder), "--save", ""]
        self._process = subprocess.Popen([*command, "--port", "0", *options], stdout=subprocess.DEVNULL)
        wait_until(self.is_answering, seconds=15)

    def is_answering(self) -> bool:
        try:
            with closing(redis.Redis(unix_socket_path=str(self.path))) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False

    def run(self, *command: str) -> Any:
        with closing(redis.Redis(unix_socket_path=str(self.path))) as client:
            execute: Callable[..., Any] = client.execute_command
            return execute(*command)

    def used(self, user: str) -> int:
        """Return how many requests of the user are counted."""
        return int(self.run("GET", f"LIMITS:{{{user}}}/60") or 0)

    def send(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None


@contextmanager
def run_redis() -> Iterator[Redis]:
    with TemporaryDirectory(prefix="r") as folder:  # pytest's own may be too long for a socket's path
        server = Redis(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def redis_server() -> Iterator[Redis]:
    with run_redis() as server:
        yield server


@contextmanager
def serve_with_redis(database_url: str, storage_uri: str) -> Iterator[int]:
    with create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "BETTER_AUTH_SECRET": SECRET,
        "PORT": str(port),
        "RATE_LIMIT_STORAGE_URI": storage_uri,
    }
    served = subprocess.Popen([sys.executable, "-m", "devtools.examples", "serve"], env=environment)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health/live"), seconds=30)
        yield port
    finally:
        served.terminate()
        served.wait(15)


def fill(server: Redis) -> None:
    server.run("CONFIG", "SET", "maxmemory", "1")


def make_room(server: Redis) -> None:
    server.run("CONFIG", "SET", "maxmemory", "0")


def make_replica(server: Redis) -> None:
    server.run("REPLICAOF", "127.0.0.1", "1")


def make_primary(server: Redis) -> None:
    server.run("REPLICAOF", "NO", "ONE")


def forbid_writing(server: Redis) -> None:
    server.run("ACL", "SETUSER", "default", "-@write")


def allow_writing(server: Redis) -> None:
    server.run("ACL", "SETUSER", "default", "+@all")


def freeze(server: Redis) -> None:
    server.send(signal.SIGSTOP)


def thaw(server: Redis) -> None:
    server.send(signal.SIGCONT)


@contextmanager
def slow_proxy(path: Path) -> Iterator[tuple[int, list[float]]]:
    """Forward TCP connections to the unix socket at `path`. Each piece waits for the sum of the seconds in `delay`.

    Yield the port and the list `delay`, which the test may change.
    """
    delay: list[float] = []
    stopped = Event()

    def pump(source: socket, target: socket) -> None:
        try:
            while piece := source.recv(4096):
                stopped.wait(sum(delay))
                target.sendall(piece)
        except OSError:
            pass
        finally:
            source.close()
            target.close()

    def accept(listener: socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            upstream = socket(family=1)
            upstream.connect(str(path))
            for ends in ((client, upstream), (upstream, client)):
                Thread(target=pump, args=ends, daemon=True).start()

    with create_server(("127.0.0.1", 0)) as listener:
        Thread(target=accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1], delay
        stopped.set()


def certify(folder: Path) -> None:
    """Write a key and a self-signed certificate for 127.0.0.1."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    assert ssl.create_default_context(cafile=folder / "certificate")
