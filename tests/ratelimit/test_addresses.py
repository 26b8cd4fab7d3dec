"""Failed authentication: limited by the address that it comes from."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from socket import AF_UNIX, socket
from tempfile import TemporaryDirectory

import httpx

from app.settings import Settings
from tests.support import SECRET, Api, make_token, run_on

Serve = Callable[..., AbstractContextManager[Api]]

BAD = {"Authorization": "Bearer not.a.token"}


def test_failures_are_limited_and_good_tokens_pass(serve: Serve) -> None:
    """Past the limit a failure is 429 whatever its kind; a user behind the same address never notices."""
    with serve(rate_limit_unauthenticated="3/hour") as api, api.client() as alice:
        answers = [alice.get("/api/examples", headers=BAD) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
        assert answers[0].headers["ratelimit"] == '"unauthenticated";r=2;t=3600'
        assert 3590 <= int(answers[-1].headers["retry-after"]) <= 3600
        assert answers[-1].json()["code"] == "rate_limited"
        with api.client(None) as stranger:
            assert stranger.get("/api/examples").status_code == 429
        good = alice.get("/api/examples")
        assert good.status_code == 200
        assert good.headers["ratelimit-policy"] == '"default";q=1000000;w=60'


def test_an_expired_token_is_no_attempt(serve: Serve) -> None:
    """Its signature was good: its user, one of many behind the address perhaps, hears that it is time to refresh."""
    expired = {"Authorization": f"Bearer {make_token(exp=1)}"}
    with serve(rate_limit_unauthenticated="1/hour") as api, api.client(None) as client:
        answers = [client.get("/api/examples", headers=expired) for _ in range(3)]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(401, "token_expired")}


def test_successes_are_no_failures(serve: Serve) -> None:
    """Good requests leave an address's budget for failures whole."""
    with serve(rate_limit_unauthenticated="1/hour") as api, api.client() as alice:
        assert {alice.get("/api/examples").status_code for _ in range(5)} == {200}
        assert alice.get("/api/examples", headers=BAD).status_code == 401


def test_a_forged_address_changes_nothing(serve: Serve) -> None:
    """Nobody's X-Forwarded-For is believed by default, not even from loopback."""
    with serve(rate_limit_unauthenticated="2/hour") as api, api.client(None) as client:
        forged = [BAD | {"X-Forwarded-For": f"203.0.113.{number}"} for number in range(4)]
        assert [client.get("/api/examples", headers=headers).status_code for headers in forged] == [401, 401, 429, 429]


def test_a_trusted_proxy_names_the_address(serve: Serve) -> None:
    """Behind FORWARDED_ALLOW_IPS strangers are told apart: IPv4 by address, IPv6 by /64, however they are written.

    The address is the last that no trusted proxy wrote, so a client gains nothing by sending the header itself. What
    is no address shares one key.
    """
    trusted = {"rate_limit_unauthenticated": "1/hour", "forwarded_allow_ips": "10.1.0.0/16,127.0.0.1"}
    with serve(**trusted) as api, api.client(None) as client:

        def status(forwarded: str) -> int:
            return client.get("/api/examples", headers=BAD | {"X-Forwarded-For": forwarded}).status_code

        assert [status("203.0.113.1"), status("203.0.113.2"), status("203.0.113.1")] == [401, 401, 429]
        assert status("198.51.100.9, 203.0.113.1, 10.1.2.3") == 429
        assert status("::ffff:203.0.113.1") == 429
        assert [status("2001:db8::1"), status("2001:db8:0:0:ffff::2"), status("2001:db8:0:1::1")] == [401, 429, 401]
        assert [status("unknown"), status("x" * 5000), status("[")] == [401, 429, 429]


def test_a_peer_without_an_address_is_served(database_url: str) -> None:
    """On a unix socket there is no address: failures share one budget, users have theirs."""
    settings = Settings(database_url=database_url, better_auth_secret=SECRET, rate_limit_unauthenticated="1/hour")
    with serving_on_a_socket(settings) as client:
        assert [client.get("/api/examples", headers=BAD).status_code for _ in range(2)] == [401, 429]
        good = {"Authorization": f"Bearer {make_token()}"}
        assert client.get("/api/examples", headers=good).status_code == 200


@contextmanager
def serving_on_a_socket(settings: Settings) -> Iterator[httpx.Client]:
    with TemporaryDirectory(prefix="s") as folder, socket(AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        transport = httpx.HTTPTransport(uds=f"{folder}/s")
        with (
            run_on(listener, settings),
            httpx.Client(transport=transport, base_url="http://test", timeout=30) as client,
        ):
            yield client
