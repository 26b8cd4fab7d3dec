"""Budgets in a Redis that processes share: one budget while it answers, and never an outage when it does not."""

import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from socket import create_connection, create_server
from threading import Thread

import httpx
import pytest

from tests.redis_server import (
    Redis,
    allow_writing,
    certify,
    fill,
    forbid_writing,
    freeze,
    make_primary,
    make_replica,
    make_room,
    serve_with_redis,
    slow_proxy,
    thaw,
)
from tests.support import Api, statuses, wait_until

if not shutil.which("redis-server") and not os.environ.get("CI"):
    pytest.skip("redis-server is missing (Debian package redis-server)", allow_module_level=True)

Serve = Callable[..., AbstractContextManager[Api]]

SLACK_S = 0.6  # for a wait of 0.2 s, on a noisy machine
BACK_S = 10


def transitions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("app.ratelimit")]


def test_the_count_is_in_redis(serve: Serve, redis_server: Redis) -> None:
    """A user's budget outlives the process; every answer tells it, and a refusal is the same as in memory."""
    with serve(rate_limit="3/minute", rate_limit_storage_uri=redis_server.uri) as api, api.client() as alice:
        assert [alice.get("/api/examples").status_code for _ in range(2)] == [200, 200]
    with serve(rate_limit="3/minute", rate_limit_storage_uri=redis_server.uri) as api, api.client() as alice:
        last, refused = alice.get("/api/examples"), alice.get("/api/examples")
        assert (last.status_code, refused.status_code) == (200, 429)
        assert last.headers["ratelimit"].startswith('"default";r=0;t=')
        assert 55 <= int(refused.headers["retry-after"]) <= 60


def test_a_window_in_redis_ends(serve: Serve, redis_server: Redis) -> None:
    """After Retry-After a request passes; what the shortest limit refuses is not charged to the longer one."""
    with serve(rate_limit="2/3second;50/minute", rate_limit_storage_uri=redis_server.uri) as api, api.client() as alice:
        answers = [alice.get("/api/examples") for _ in range(5)]
        asked = time.monotonic()
        assert [answer.status_code for answer in answers] == [200, 200, 429, 429, 429]
        assert '"minute";r=48;' in answers[-1].headers["ratelimit"]
        seconds = int(answers[-1].headers["retry-after"])
        assert 1 <= seconds <= 3
        time.sleep(max(0.0, asked + seconds - time.monotonic()))
        assert alice.get("/api/examples").status_code == 200
        assert redis_server.used("alice") == 3


def test_two_processes_share_one_budget(database_url: str, redis_server: Redis) -> None:
    """Of 400 requests of a user, spread over two processes, 100 pass."""
    with ExitStack() as stack:
        ports = [stack.enter_context(serve_with_redis(database_url, redis_server.uri)) for _ in range(2)]
        assert statuses(ports, requests=400) == {200: 100, 429: 300}


TROUBLE: dict[str, tuple[Callable[[Redis], None], Callable[[Redis], None]]] = {
    "killed": (Redis.stop, Redis.start),
    "frozen": (freeze, thaw),
    "full": (fill, make_room),
    "read-only": (make_replica, make_primary),
    "forbidden to write": (forbid_writing, allow_writing),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_with_redis_is_not_ours(
    serve: Serve, redis_server: Redis, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    """Whatever becomes of Redis: every request is answered, the first within a moment and the others at once.

    Local limits apply meanwhile. It is said once when Redis is left and once when it counts again, soon after it can.
    """
    begin, end = TROUBLE[trouble]
    with serve(rate_limit="20/minute", rate_limit_storage_uri=redis_server.uri) as api, api.client() as alice:
        assert alice.get("/api/examples").status_code == 200
        begin(redis_server)
        assert answered_in(alice) < SLACK_S
        assert time_of(20, alice) < 20 * 0.15  # each would take 0.2 s if it waited
        assert httpx.get(f"{api.url}/health/live").elapsed.total_seconds() < SLACK_S
        assert alice.get("/api/examples").status_code == 429
        assert len(transitions(caplog)) == 1
        end(redis_server)
        wait_until(lambda: len(transitions(caplog)) == 2, BACK_S)
        before = redis_server.used("bob")
        with api.client("bob") as bob:
            assert bob.get("/api/examples").status_code == 200
        assert redis_server.used("bob") == before + 1
    left, back = transitions(caplog)[:2]  # without a free CPU a later answer may take the 0.2 s that it has
    assert "Redis does not count" in left
    assert "Redis counts again" in back


def answered_in(client: httpx.Client) -> float:
    began = time.monotonic()
    assert client.get("/api/examples").status_code == 200
    return time.monotonic() - began


def time_of(requests: int, client: httpx.Client) -> float:
    began = time.monotonic()
    assert {client.get("/api/examples").status_code for _ in range(requests)} <= {200, 429}
    return time.monotonic() - began


def test_health_answers_at_once_while_requests_wait(
    serve: Serve, redis_server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """A frozen Redis holds up those who count in it, all at once and for a moment, and never the event loop."""
    with serve(rate_limit_storage_uri=redis_server.uri) as api:
        redis_server.send(signal.SIGSTOP)
        began = time.monotonic()
        waiting = Thread(target=statuses, args=([api.port], 20), kwargs={"connections": 20})
        waiting.start()
        slowest = max(httpx.get(f"{api.url}/health/live").elapsed.total_seconds() for _ in range(5))
        waiting.join(10)
        assert time.monotonic() - began < 3
        assert slowest < SLACK_S
        assert len(transitions(caplog)) == 1
        thaw(redis_server)
        wait_until(lambda: len(transitions(caplog)) == 2, BACK_S)
        assert redis_server.used("fresh") <= 10  # who waited for a thread in vain is not sent later


def test_a_redis_that_cannot_count_stays_out(
    serve: Serve, redis_server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """One that answers PING and takes no writes is asked in the background, and not used again for its answering."""
    with serve(rate_limit_storage_uri=redis_server.uri) as api, api.client() as alice:
        make_replica(redis_server)
        alice.get("/api/examples")
        asked = int(redis_server.run("INFO", "commandstats")["cmdstat_evalsha"]["calls"])
        wait_until(
            lambda: int(redis_server.run("INFO", "commandstats")["cmdstat_evalsha"]["calls"]) > asked, seconds=15
        )
        assert alice.get("/api/examples").status_code == 200
        assert len(transitions(caplog)) == 1


def test_the_deadline_is_absolute(serve: Serve, redis_server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """Round trips that are each in time do not add up to a wait: a new connection that needs several is left alone.

    Once it stands, one round trip is enough, and Redis is used.
    """
    with slow_proxy(redis_server.path) as (port, delay):
        delay.append(0.07)
        with serve(rate_limit_storage_uri=f"redis://127.0.0.1:{port}/1"):
            assert ["NoAnswer" in line for line in transitions(caplog)] == [True]
            wait_until(lambda: len(transitions(caplog)) == 2, BACK_S)


def test_a_slow_redis_is_left(serve: Serve, redis_server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that takes 500 ms is none: nobody goes on waiting for it, and Redis is used when it is fast again."""
    with slow_proxy(redis_server.path) as (port, delay):
        uri = f"redis://127.0.0.1:{port}"
        with serve(rate_limit_storage_uri=uri) as api, api.client() as alice:
            assert alice.get("/api/examples").status_code == 200
            assert redis_server.used("alice") == 1
            delay.append(0.5)
            assert answered_in(alice) < SLACK_S
            assert time_of(20, alice) < 20 * 0.15
            delay.clear()
            wait_until(lambda: len(transitions(caplog)) == 2, BACK_S)


def test_an_unreachable_redis_is_no_reason_not_to_start(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The API starts on local limits and says so; not even its first request waits."""
    with serve(rate_limit="3/minute", rate_limit_storage_uri="redis://127.0.0.1:1") as api, api.client() as alice:
        assert len(transitions(caplog)) == 1
        assert [alice.get("/api/examples").status_code for _ in range(4)] == [200, 200, 200, 429]
        assert len(transitions(caplog)) == 1


def test_a_restarted_redis_is_used_on(serve: Serve, redis_server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """A restart between two requests goes unnoticed: connections are made anew, scripts loaded again."""
    with serve(rate_limit_storage_uri=redis_server.uri) as api, api.client() as alice:
        alice.get("/api/examples")
        redis_server.stop()
        redis_server.start()
        assert alice.get("/api/examples").status_code == 200
        assert redis_server.used("alice") == 1
        assert transitions(caplog) == []


@pytest.mark.parametrize("password", ["s3cret/with@odd:characters", "wrong-s3cret"])
def test_passwords_are_used_and_never_told(
    serve: Serve, redis_server: Redis, caplog: pytest.LogCaptureFixture, password: str
) -> None:
    """A percent-encoded password in the URI works; a wrong one means local limits. No log line holds either."""
    caplog.set_level(logging.DEBUG)
    redis_server.run("CONFIG", "SET", "requirepass", "s3cret/with@odd:characters")
    quoted = httpx.URL(f"http://:{password.replace('@', '%40').replace('/', '%2F').replace(':', '%3A')}@x").userinfo
    uri = f"redis+unix://{quoted.decode()}@{redis_server.path}"
    with serve(rate_limit_storage_uri=uri) as api, api.client() as alice:
        assert [alice.get("/api/examples").status_code for _ in range(3)] == [200, 200, 200]
        assert len(transitions(caplog)) == ("wrong" in password)
    assert "s3cret" not in caplog.text


def test_redis_over_tls(serve: Serve, redis_server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """A `rediss://` URI encrypts and checks the certificate: one that is not trusted means local limits."""
    folder = redis_server.path.parent
    certify(folder)
    with create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    redis_server.stop()
    names = ("--tls-cert-file", "certificate", "--tls-key-file", "key", "--tls-ca-cert-file", "certificate")
    files = [name if name.startswith("--") else str(folder / name) for name in names]
    redis_server.start("--tls-port", str(port), "--tls-auth-clients", "no", *files)
    create_connection(("127.0.0.1", port), 5).close()
    trusting = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={folder}/certificate"
    with serve(rate_limit_storage_uri=trusting) as api, api.client() as alice:
        wait_until(
            lambda: alice.get("/api/examples").is_success and redis_server.used("alice")
        )  # a handshake may take over 0.2 s
    used = redis_server.used("alice")
    caplog.clear()
    with serve(rate_limit_storage_uri=f"rediss://127.0.0.1:{port}") as api, api.client() as alice:
        assert alice.get("/api/examples").status_code == 200
    assert redis_server.used("alice") == used
    assert len(transitions(caplog)) == 1
