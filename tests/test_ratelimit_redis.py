"""Budgets in a Redis that processes share: one budget while it answers, and never an outage when it does not."""

import logging
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from socket import create_connection, create_server, socket
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import httpx
import pytest
import redis

from tests.support import SECRET, Api, statuses, until

if not shutil.which("redis-server") and not os.environ.get("CI"):
    pytest.skip("redis-server is missing (Debian package redis-server)", allow_module_level=True)

Serve = Callable[..., AbstractContextManager[Api]]

SLACK_S = 0.6  # for a wait of 0.2 s, on a noisy machine
BACK_S = 10


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
        wait_for(self.answers, "redis-server does not start")

    def answers(self) -> bool:
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
        return int(self.run("GET", f"LIMITS:{{{user}}}/60") or 0)

    def send(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None


def wait_for(condition: Callable[[], object], complaint: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


@pytest.fixture
def server() -> Iterator[Redis]:
    with TemporaryDirectory(prefix="r") as folder:  # pytest's own may be too long for a socket's path
        server = Redis(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def transitions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("app.ratelimit")]


def test_the_count_is_in_redis(serve: Serve, server: Redis) -> None:
    """A user's budget outlives the process; every answer tells it, and a refusal is the same as in memory."""
    with serve(rate_limit="3/minute", rate_limit_storage_uri=server.uri) as api, api.client() as alice:
        assert [alice.get("/api/tasks").status_code for _ in range(2)] == [200, 200]
    with serve(rate_limit="3/minute", rate_limit_storage_uri=server.uri) as api, api.client() as alice:
        last, refused = alice.get("/api/tasks"), alice.get("/api/tasks")
        assert (last.status_code, refused.status_code) == (200, 429)
        assert last.headers["ratelimit"].startswith('"default";r=0;t=')
        assert 55 <= int(refused.headers["retry-after"]) <= 60


def test_a_window_in_redis_ends(serve: Serve, server: Redis) -> None:
    """After Retry-After a request passes; what the shortest limit refuses is not charged to the longer one."""
    with serve(rate_limit="2/3second;50/minute", rate_limit_storage_uri=server.uri) as api, api.client() as alice:
        answers = [alice.get("/api/tasks") for _ in range(5)]
        asked = time.monotonic()
        assert [answer.status_code for answer in answers] == [200, 200, 429, 429, 429]
        assert '"minute";r=48;' in answers[-1].headers["ratelimit"]
        seconds = int(answers[-1].headers["retry-after"])
        assert 1 <= seconds <= 3
        time.sleep(max(0.0, asked + seconds - time.monotonic()))
        assert alice.get("/api/tasks").status_code == 200
        assert server.used("alice") == 3


def test_two_processes_share_one_budget(database_url: str, server: Redis) -> None:
    """Of 400 requests of a user, spread over two processes, 100 pass."""
    with ExitStack() as stack:
        ports = [stack.enter_context(process(database_url, server.uri)) for _ in range(2)]
        assert statuses(ports, requests=400) == {200: 100, 429: 300}


@contextmanager
def process(database_url: str, storage_uri: str) -> Iterator[int]:
    with create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "BETTER_AUTH_SECRET": SECRET,
        "PORT": str(port),
        "RATE_LIMIT_STORAGE_URI": storage_uri,
    }
    served = subprocess.Popen([sys.executable, "-m", "app", "serve"], env=environment)
    try:
        wait_for(lambda: is_alive(port), "the API does not start", 30)
        yield port
    finally:
        served.terminate()
        served.wait(15)


def is_alive(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/live").is_success
    except httpx.TransportError:
        return False


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


TROUBLE: dict[str, tuple[Callable[[Redis], None], Callable[[Redis], None]]] = {
    "killed": (Redis.stop, Redis.start),
    "frozen": (freeze, thaw),
    "full": (fill, make_room),
    "read-only": (make_replica, make_primary),
    "forbidden to write": (forbid_writing, allow_writing),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_with_redis_is_not_ours(
    serve: Serve, server: Redis, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    """Whatever becomes of Redis: every request is answered, the first within a moment and the others at once.

    Local limits apply meanwhile. It is said once when Redis is left and once when it counts again, soon after it can.
    """
    begin, end = TROUBLE[trouble]
    with serve(rate_limit="20/minute", rate_limit_storage_uri=server.uri) as api, api.client() as alice:
        assert alice.get("/api/tasks").status_code == 200
        begin(server)
        assert answered_in(alice) < SLACK_S
        assert time_of(20, alice) < 20 * 0.15  # each would take 0.2 s if it waited
        assert httpx.get(f"{api.url}/health/live").elapsed.total_seconds() < SLACK_S
        assert alice.get("/api/tasks").status_code == 429
        assert len(transitions(caplog)) == 1
        end(server)
        wait_for(lambda: len(transitions(caplog)) == 2, "Redis is not used again", BACK_S)
        before = server.used("bob")
        with api.client("bob") as bob:
            assert bob.get("/api/tasks").status_code == 200
        assert server.used("bob") == before + 1
    left, back = transitions(caplog)
    assert "Redis is of no use" in left
    assert "Redis counts again" in back


def answered_in(client: httpx.Client) -> float:
    began = time.monotonic()
    assert client.get("/api/tasks").status_code == 200
    return time.monotonic() - began


def time_of(requests: int, client: httpx.Client) -> float:
    began = time.monotonic()
    assert {client.get("/api/tasks").status_code for _ in range(requests)} <= {200, 429}
    return time.monotonic() - began


def test_health_answers_at_once_while_requests_wait(
    serve: Serve, server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """A frozen Redis holds up those who count in it, all at once and for a moment, and never the event loop."""
    with serve(rate_limit_storage_uri=server.uri) as api:
        server.send(signal.SIGSTOP)
        began = time.monotonic()
        waiting = Thread(target=statuses, args=([api.port], 20), kwargs={"connections": 20})
        waiting.start()
        slowest = max(httpx.get(f"{api.url}/health/live").elapsed.total_seconds() for _ in range(5))
        waiting.join(10)
        assert time.monotonic() - began < 3
        assert slowest < SLACK_S
        assert len(transitions(caplog)) == 1
        thaw(server)
        wait_for(lambda: len(transitions(caplog)) == 2, "Redis is not used again", BACK_S)
        assert server.used("fresh") <= 10  # who waited for a thread in vain is not sent later


def test_a_redis_that_cannot_count_stays_out(serve: Serve, server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """One that answers PING and takes no writes is asked in the background, and not used again for its answering."""
    with serve(rate_limit_storage_uri=server.uri) as api, api.client() as alice:
        make_replica(server)
        alice.get("/api/tasks")
        asked = int(server.run("INFO", "commandstats")["cmdstat_evalsha"]["calls"])
        wait_for(lambda: int(server.run("INFO", "commandstats")["cmdstat_evalsha"]["calls"]) > asked, "never asked")
        assert alice.get("/api/tasks").status_code == 200
        assert len(transitions(caplog)) == 1


def test_the_deadline_is_absolute(serve: Serve, server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """Round trips that are each in time do not add up to a wait: a new connection that needs several is left alone.

    Once it stands, one round trip is enough, and Redis is used.
    """
    with slow_proxy(server.path) as (port, delay):
        delay.append(0.07)
        with serve(rate_limit_storage_uri=f"redis://127.0.0.1:{port}/1"):
            assert ["NoAnswer" in line for line in transitions(caplog)] == [True]
            wait_for(lambda: len(transitions(caplog)) == 2, "Redis is not used", BACK_S)


def test_a_slow_redis_is_left(serve: Serve, server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that takes 500 ms is none: nobody goes on waiting for it, and Redis is used when it is fast again."""
    with slow_proxy(server.path) as (port, delay):
        uri = f"redis://127.0.0.1:{port}"
        with serve(rate_limit_storage_uri=uri) as api, api.client() as alice:
            assert alice.get("/api/tasks").status_code == 200
            assert server.used("alice") == 1
            delay.append(0.5)
            assert answered_in(alice) < SLACK_S
            assert time_of(20, alice) < 20 * 0.15
            delay.clear()
            wait_for(lambda: len(transitions(caplog)) == 2, "Redis is not used again", BACK_S)


@contextmanager
def slow_proxy(path: Path) -> Iterator[tuple[int, list[float]]]:
    """Pass TCP connections on to the unix socket at `path`, each piece after as many seconds as `delay` holds."""
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


def test_an_unreachable_redis_is_no_reason_not_to_start(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The API starts on local limits and says so; not even its first request waits."""
    with serve(rate_limit="3/minute", rate_limit_storage_uri="redis://127.0.0.1:1") as api, api.client() as alice:
        assert len(transitions(caplog)) == 1
        assert [alice.get("/api/tasks").status_code for _ in range(4)] == [200, 200, 200, 429]
        assert len(transitions(caplog)) == 1


def test_a_restarted_redis_is_used_on(serve: Serve, server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """A restart between two requests goes unnoticed: connections are made anew, scripts loaded again."""
    with serve(rate_limit_storage_uri=server.uri) as api, api.client() as alice:
        alice.get("/api/tasks")
        server.stop()
        server.start()
        assert alice.get("/api/tasks").status_code == 200
        assert server.used("alice") == 1
        assert transitions(caplog) == []


@pytest.mark.parametrize("password", ["s3cret/with@odd:characters", "wrong-s3cret"])
def test_passwords_are_used_and_never_told(
    serve: Serve, server: Redis, caplog: pytest.LogCaptureFixture, password: str
) -> None:
    """A percent-encoded password in the URI works; a wrong one means local limits. No log line holds either."""
    caplog.set_level(logging.DEBUG)
    server.run("CONFIG", "SET", "requirepass", "s3cret/with@odd:characters")
    quoted = httpx.URL(f"http://:{password.replace('@', '%40').replace('/', '%2F').replace(':', '%3A')}@x").userinfo
    uri = f"redis+unix://{quoted.decode()}@{server.path}"
    with serve(rate_limit_storage_uri=uri) as api, api.client() as alice:
        assert [alice.get("/api/tasks").status_code for _ in range(3)] == [200, 200, 200]
        assert len(transitions(caplog)) == ("wrong" in password)
    assert "s3cret" not in caplog.text


def test_redis_over_tls(serve: Serve, server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """A `rediss://` URI encrypts and checks the certificate: one that is not trusted means local limits."""
    folder = server.path.parent
    certify(folder)
    with create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server.stop()
    names = ("--tls-cert-file", "certificate", "--tls-key-file", "key", "--tls-ca-cert-file", "certificate")
    files = [name if name.startswith("--") else str(folder / name) for name in names]
    server.start("--tls-port", str(port), "--tls-auth-clients", "no", *files)
    create_connection(("127.0.0.1", port), 5).close()
    trusting = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={folder}/certificate"
    with serve(rate_limit_storage_uri=trusting) as api, api.client() as alice:
        until(lambda: alice.get("/api/tasks").is_success and server.used("alice"))  # a handshake may take over 0.2 s
    used = server.used("alice")
    caplog.clear()
    with serve(rate_limit_storage_uri=f"rediss://127.0.0.1:{port}") as api, api.client() as alice:
        assert alice.get("/api/tasks").status_code == 200
    assert server.used("alice") == used
    assert len(transitions(caplog)) == 1


def certify(folder: Path) -> None:
    """Write a key and a certificate for 127.0.0.1 that signs itself."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    assert ssl.create_default_context(cafile=folder / "certificate")
