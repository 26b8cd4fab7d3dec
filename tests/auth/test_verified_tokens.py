"""A token that was verified is good without another look at its signature, for as long as it lasts."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import jwt
import pytest
from starlette.datastructures import Headers

from app.auth.authenticator import MAX_REMEMBERED, Authenticator, Secret
from tests.key_server import (
    ED,
    KeyServer,
    get_examples,
    wait_for_status,
)
from tests.support import SECRET, Api, make_token

Serve = Callable[..., AbstractContextManager[Api]]


@pytest.mark.parametrize("mode", ["keys", "secret"])
def test_a_token_that_was_good_expires(issuer: KeyServer, serve: Serve, mode: str) -> None:
    """A token is remembered no longer than it lasts (and LEEWAY_S)."""
    url = issuer.url if mode == "keys" else None
    with serve(better_auth_url=url) as api:
        exp = int(time.time()) - 27
        token = ED.token(issuer.url, exp=exp) if url else make_token(exp=exp)
        assert get_examples(api, token).status_code == 200
        assert wait_for_status(401, api, token, within=6).json()["code"] == "token_expired"


class CountingSecret(Secret):
    """Counts how often a token is verified; `known` is what the keys are said to be."""

    verifications = 0
    known: object = None

    def current(self) -> object:
        return self.known

    async def find(self, token: str) -> jwt.PyJWK:
        self.verifications += 1
        return await super().find(token)


def test_few_tokens_are_remembered() -> None:
    """The oldest make room, so that no number of tokens grows the process; a token counts only for its own keys."""
    keys = CountingSecret(SECRET)
    authenticate = Authenticator(keys, None, None)
    tokens = [make_token(f"user-{number}") for number in range(MAX_REMEMBERED + 1)]

    async def authenticate_users(chosen: Iterable[str]) -> int:
        before = keys.verifications
        for token in chosen:
            await authenticate(Headers({"Authorization": f"Bearer {token}"}))
        return keys.verifications - before

    def verifications(*chosen: str) -> int:
        return asyncio.run(authenticate_users(chosen))

    assert verifications(*tokens) == len(tokens)
    assert verifications(tokens[1], tokens[-1]) == 0
    assert verifications(tokens[0]) == 1
    keys.known = object()
    assert verifications(tokens[-1]) == 1
