"""A token that was verified is good without another look at its signature, for as long as it lasts."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from app.auth import MAX_VERIFIED, Principal, VerifiedTokens
from tests.key_server import (
    ED,
    KeyServer,
    get_tasks,
    wait_for_status,
)
from tests.support import Api, make_token

Serve = Callable[..., AbstractContextManager[Api]]


@pytest.mark.parametrize("mode", ["keys", "secret"])
def test_a_token_that_was_good_expires(issuer: KeyServer, serve: Serve, mode: str) -> None:
    """A token is remembered no longer than it lasts (and LEEWAY_S)."""
    url = issuer.url if mode == "keys" else None
    with serve(better_auth_url=url) as api:
        exp = int(time.time()) - 27
        token = ED.token(issuer.url, exp=exp) if url else make_token(exp=exp)
        assert get_tasks(api, token).status_code == 200
        assert wait_for_status(401, api, token, within=6).json()["code"] == "token_expired"


def test_few_tokens_are_remembered() -> None:
    """The oldest make room, so that no number of tokens grows the process; a token counts for its own keys alone."""
    tokens, keys, alice = VerifiedTokens(), object(), Principal("alice")
    for number in range(MAX_VERIFIED + 1):
        tokens.add(f"token-{number}", keys, {"exp": time.time() + 60}, alice)
    assert tokens.get("token-0", keys) is None
    assert tokens.get("token-1", keys) == tokens.get(f"token-{MAX_VERIFIED}", keys) == alice
    assert tokens.get("token-1", object()) is None
