"""Keys that come and go, and strangers who ask for keys that never were."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from threading import Event

import pytest

from app.auth import key_set
from tests.key_server import (
    EC,
    ED,
    INVALID,
    KeyServer,
    ed25519_key,
    get_examples,
    get_examples_promptly,
    hang,
    key_server,
    outcome,
    publish,
    wait_for_status,
)
from tests.support import Api

Serve = Callable[..., AbstractContextManager[Api]]


@contextmanager
def flood(api: Api, issuer: str) -> Iterator[list[int]]:
    """Strangers who send about 150 unknown key ids a second, and the statuses they get."""
    over, statuses = Event(), list[int]()

    def attack(number: int) -> None:
        count = 0
        while not over.wait(0.05):
            count += 1
            statuses.append(get_examples(api, ED.token(issuer, headers={"kid": f"{number}-{count}"})).status_code)

    with ThreadPoolExecutor(12) as strangers:
        attacks = [strangers.submit(attack, number) for number in range(12)]
        try:
            yield statuses
        finally:
            over.set()
    for done in attacks:
        done.result()


@pytest.mark.parametrize("server_hangs", [False, True])
def test_a_flood_of_unknown_keys(issuer_api: Api, issuer: KeyServer, server_hangs: bool) -> None:  # noqa: FBT001
    """Costs the key server a fetch now and then, and users of a known key nothing, even while it hangs."""
    assert get_examples(issuer_api, ED.token(issuer.url)).status_code == 200
    if server_hangs:
        issuer.behave = hang
    before, begin = issuer.fetches, time.monotonic()
    with flood(issuer_api, issuer.url) as statuses:
        while len(statuses) < 300:
            get_examples_promptly(issuer_api, EC.token(issuer.url, f"user-{len(statuses)}"))
            assert time.monotonic() - begin < 60
    assert set(statuses) == {401}
    assert issuer.fetches - before <= 2 + (time.monotonic() - begin) / key_set.COOLDOWN_S


def test_few_wait_for_an_unknown_key(issuer_api: Api, issuer: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the key server hangs, all but MAX_WAITING of the strangers are refused at once: they hold no place."""
    monkeypatch.setattr(key_set, "COOLDOWN_S", 0)
    assert get_examples(issuer_api, ED.token(issuer.url)).status_code == 200
    issuer.behave = hang
    tokens = [ED.token(issuer.url, headers={"kid": f"stranger-{number}"}) for number in range(20)]
    with ThreadPoolExecutor(20) as strangers:
        asked = [strangers.submit(get_examples, issuer_api, token) for token in tokens]
        waiting = wait(asked, timeout=key_set.DEADLINE_S - 0.5).not_done
    assert 1 <= len(waiting) <= key_set.MAX_WAITING
    assert {request.result().status_code for request in asked} == {401}


def test_a_new_key_is_accepted_at_once(issuer_api: Api, issuer: KeyServer) -> None:
    """A key that appeared is found by the first token that names it, and one that appears right after within 5 s."""
    assert get_examples(issuer_api, ED.token(issuer.url)).status_code == 200
    first, second = ed25519_key("first"), ed25519_key("second")
    until_cool = time.monotonic() + key_set.COOLDOWN_S
    issuer.behave = publish(ED.jwk(), first.jwk())
    while time.monotonic() < until_cool:
        time.sleep(0.05)
    assert get_examples(issuer_api, first.token(issuer.url)).status_code == 200
    issuer.behave = publish(first.jwk(), second.jwk())
    wait_for_status(200, issuer_api, second.token(issuer.url), within=5)
    assert outcome(issuer_api, ED.token(issuer.url)) == INVALID


def test_a_new_key_is_accepted_during_a_flood(issuer_api: Api, issuer: KeyServer) -> None:
    """Within 30 s; here within one cool-down and one fetch."""
    new = ed25519_key("new")
    with flood(issuer_api, issuer.url) as statuses:
        while len(statuses) < 50:
            time.sleep(0.05)
        issuer.behave = publish(new.jwk())
        wait_for_status(200, issuer_api, new.token(issuer.url), within=30)


def test_a_key_that_was_taken_away(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is refused once the keys were renewed, also with a token that was good a moment ago; so is a set emptied."""
    monkeypatch.setattr(key_set, "FRESH_S", 0)
    with key_server(publish(ED.jwk(), EC.jwk())) as server, serve(better_auth_url=server.url) as api:
        assert outcome(api, ED.token(server.url)) == outcome(api, EC.token(server.url)) == (200, None)
        token = ED.token(server.url)
        assert get_examples(api, token).status_code == 200
        server.behave = publish(EC.jwk())
        wait_for_status(401, api, token, within=5)
        assert get_examples(api, EC.token(server.url)).status_code == 200
        server.behave = publish()
        wait_for_status(503, api, EC.token(server.url), within=5)
