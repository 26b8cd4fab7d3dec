"""Who may ask: the rules for tokens signed with the shared secret."""

import json
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from tests.support import Api, make_token
from tests.tokens import claims, equivalents, mutate, sign
from tests.web.raw import exchange, request

HEADER = {"alg": "HS256"}
Serve = Callable[..., AbstractContextManager[Api]]


def ask(client: httpx.Client, token: str, scheme: str = "Bearer") -> httpx.Response:
    return client.get("/api/examples", headers=[(b"Authorization", f"{scheme} {token}".encode("latin-1"))])


def assert_refused(response: httpx.Response, code: str = "token_invalid") -> None:
    assert response.status_code == 401
    assert response.json()["code"] == code
    assert response.headers["www-authenticate"].startswith('Bearer error="invalid_token"')


def test_a_good_token_is_enough(stranger: httpx.Client) -> None:
    """`exp` and `sub` alone, and whatever other claims an issuer adds."""
    assert ask(stranger, make_token(iat=None)).status_code == 200
    assert ask(stranger, make_token(email="a@example.com", role=None, extra={"a": [1]})).status_code == 200


@pytest.mark.parametrize(("claim", "offset"), [("exp", -25), ("nbf", 25), ("iat", 25), ("nbf", -600), ("iat", -600)])
def test_clocks_may_differ_by_30_seconds(stranger: httpx.Client, claim: str, offset: int) -> None:
    """A token may have run out or begin 30 s apart from the server's clock."""
    assert ask(stranger, sign(HEADER, claims(**{claim: int(time.time()) + offset}))).status_code == 200
    assert ask(stranger, sign(HEADER, claims(**{claim: time.time() + offset + 0.5}))).status_code == 200


@pytest.mark.parametrize(("claim", "offset"), [("exp", -31), ("exp", -600), ("nbf", 35), ("iat", 35), ("nbf", 86400)])
def test_clocks_may_not_differ_by_more(stranger: httpx.Client, claim: str, offset: int) -> None:
    """Beyond the 30 s a token is refused, an expired one with a code of its own."""
    code = "token_expired" if claim == "exp" else "token_invalid"
    assert_refused(ask(stranger, sign(HEADER, claims(**{claim: int(time.time()) + offset}))), code)


@pytest.mark.parametrize("missing", ["exp", "sub"])
def test_a_token_says_whose_it_is_and_until_when(stranger: httpx.Client, missing: str) -> None:
    """Without `exp` or `sub` a token is refused."""
    assert_refused(ask(stranger, sign(HEADER, {k: v for k, v in claims().items() if k != missing})))


@pytest.mark.parametrize("sub", ["a", "x" * 64, "AZaz09_-", "-", "1", "00000000-0000-4000-8000-000000000000"])
def test_users_have_opaque_ids(shared_api: Api, sub: str) -> None:
    """1 to 64 letters, digits, `_` and `-`."""
    with shared_api.client(sub) as client:
        assert client.post("/api/examples", json={"title": "t"}).json()["user_id"] == sub


ODD_TEXTS = ["", "x" * 65, "alice\n", "\nalice", " alice", "alice\0", "a@example.com", "é", "a/b", "a'b", "\u0661"]


@pytest.mark.parametrize("sub", [*ODD_TEXTS, 5, 1.5, True, None, [], {}, ["a"]])
def test_nothing_else_is_a_user(stranger: httpx.Client, sub: Any) -> None:
    """No white space, e-mail address, other script, 65 characters, and nothing but text."""
    assert_refused(ask(stranger, sign(HEADER, claims(sub=sub))))


@pytest.mark.parametrize("exp", ["9999999999", "", True, False, None, [], {}, "never"])
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_times_are_numbers(stranger: httpx.Client, claim: str, exp: Any) -> None:
    """Text, booleans and null are no times, even where they could be read as one."""
    token = sign(HEADER, claims(**{claim: exp}))
    response = ask(stranger, token)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith('Bearer error="invalid_token"')


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 5000])
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_times_are_finite(stranger: httpx.Client, claim: str, literal: str) -> None:
    """What JSON readers take beyond numbers is refused, and so is a number that no float can hold."""
    payload = json.dumps(claims(**{claim: 0.5})).replace(f'"{claim}": 0.5', f'"{claim}": {literal}').encode()
    assert ask(stranger, sign(HEADER, payload)).status_code == 401


def test_a_far_future_is_a_time(stranger: httpx.Client) -> None:
    """A token may last longer than any clock counts."""
    assert ask(stranger, make_token(exp=2**62)).status_code == 200
    assert ask(stranger, make_token(exp=1e300)).status_code == 200


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_no_other_algorithm_will_do(stranger: httpx.Client, algorithm: str) -> None:
    """The mode names the algorithm, not the token: another is refused though the secret is right."""
    token = sign({"alg": algorithm, "typ": "JWT"}, claims(), algorithm)
    assert_refused(ask(stranger, token))


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "", "RS256", "ES256", "EdDSA", "hs256", "HS256 ", None, 5, ["HS256"]]
)
def test_the_token_does_not_choose_the_algorithm(stranger: httpx.Client, alg: Any) -> None:
    """Neither none at all, nor a public-key one over the secret, nor anything that is no algorithm."""
    token = sign({"alg": alg, "typ": "JWT"}, claims())
    assert_refused(ask(stranger, token))
    response = ask(stranger, f"{token.rpartition('.')[0]}.")
    assert response.status_code == 401


def test_a_token_without_a_named_algorithm_is_refused(stranger: httpx.Client) -> None:
    """`alg` is required (RFC 7515, 4.1.1)."""
    assert_refused(ask(stranger, sign({"typ": "JWT"}, claims())))


@pytest.mark.parametrize(
    "header", [{"crit": ["exp"]}, {"crit": []}, {"crit": ["b64"], "b64": True}, {"b64": False}, {"crit": None}]
)
def test_no_extension_is_understood(stranger: httpx.Client, header: dict[str, Any]) -> None:
    """A token that names critical extensions is refused (RFC 7515, 4.1.11)."""
    assert_refused(ask(stranger, sign({"alg": "HS256"} | header, claims())))


@pytest.mark.parametrize(
    ("typ", "status"),
    [
        ("JWT", 200),
        ("jwt", 200),
        ("at+jwt", 200),
        ("AT+JWT", 200),
        *((typ, 401) for typ in ("JWE", "", "dpop+jwt", "logout+jwt", None, 5, ["JWT"])),
    ],
)
def test_tokens_for_other_purposes_are_refused(stranger: httpx.Client, typ: Any, status: int) -> None:
    """`typ` is JWT or at+jwt (RFC 9068) where it is there at all."""
    assert ask(stranger, sign({"alg": "HS256", "typ": typ}, claims())).status_code == status
    assert ask(stranger, sign(HEADER, claims())).status_code == 200


def test_the_wrong_secret_is_refused(stranger: httpx.Client) -> None:
    """Whatever else the token says, and whether or not it has expired."""
    assert_refused(ask(stranger, make_token(key="another-secret-that-is-long-enough")))
    assert_refused(ask(stranger, make_token(key="another-secret-that-is-long-enough", exp=1)))


def test_a_token_has_a_size(stranger: httpx.Client) -> None:
    """8 KiB are taken, a byte more is not."""
    spare = 8192 - len(make_token(padding=""))
    sizes = {
        len(token): token
        for token in (make_token(padding="x" * n) for n in range(spare * 3 // 4 - 4, spare * 3 // 4 + 9))
    }
    assert {size: ask(stranger, token).status_code for size, token in sizes.items()} == {
        size: 200 if size <= 8192 else 401 for size in sizes
    }
    assert min(sizes) <= 8192 < max(sizes)


NOT_TOKENS = "x . .. ... a.b a.b.c a.b.c.d null {} e30.e30.e30 e30.e30. .e30. eyJhbGciOiJub25lIn0.e30.".split()
NOT_OBJECTS: list[Any] = [[], "HS256", None, 5, b"", b"\xff", b"[" * 5000, b'{"sub":"alice"', b"NaN", b"\xef\xbb\xbf{}"]


@pytest.mark.parametrize("token", NOT_TOKENS)
def test_garbage_is_refused(stranger: httpx.Client, token: str) -> None:
    """Whatever is sent in a token's place."""
    assert_refused(ask(stranger, token))


@pytest.mark.parametrize("part", NOT_OBJECTS)
def test_signed_garbage_is_refused(stranger: httpx.Client, part: Any) -> None:
    """Neither header nor claims can be anything but an object, even where the signature is good."""
    assert_refused(ask(stranger, sign(part, claims())))
    assert_refused(ask(stranger, sign(HEADER, part)))


def test_no_mutation_of_a_good_token_is_good(stranger: httpx.Client) -> None:
    """A character changed, dropped, doubled, added or swapped, anywhere: refused, each of them."""
    chance = random.Random(7)  # noqa: S311  mutations, the same each time
    token = make_token()
    for mutant in {mutate(token, chance) for _ in range(400)} - equivalents(token):
        assert ask(stranger, mutant).status_code == 401, mutant
    assert ask(stranger, token).status_code == 200


def test_issuer_and_audience_count_where_they_are_set(serve: Serve) -> None:
    """Then both must be in the token, exactly; an audience may be one of several (RFC 7519, 4.1.3)."""
    issuer, audience = "https://auth.example.com", "tasks"
    other_issuers: list[Any] = [None, f"{issuer}/", "https://evil.test", 5, [issuer]]
    other_audiences: list[Any] = [None, "Tasks", "", [], ["other"], 5, ["tasks", 5], {"tasks": 1}]
    with serve(jwt_issuer=issuer, jwt_audience=audience) as api, api.client(None) as client:
        for aud in (audience, ["other", audience]):
            assert ask(client, make_token(iss=issuer, aud=aud)).status_code == 200
        for iss in other_issuers:
            assert_refused(ask(client, sign(HEADER, claims(iss=iss, aud=audience))))
        for aud in other_audiences:
            assert_refused(ask(client, sign(HEADER, claims(iss=issuer, aud=aud))))
        assert_refused(ask(client, make_token(iss=issuer)))
        assert_refused(ask(client, make_token(aud=audience)))


def test_issuer_and_audience_do_not_count_otherwise(stranger: httpx.Client) -> None:
    """A token may name any."""
    assert ask(stranger, make_token(iss="https://anyone.test", aud=["x", "y"])).status_code == 200
    assert ask(stranger, make_token(iss=None, aud="z")).status_code == 200


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Token abc", "bearer", "Bearer,abc"])
def test_without_a_token_the_challenge_names_no_error(shared_api: Api, value: str | None) -> None:
    """RFC 6750, 3.1: a client that sent no bearer token is told the scheme alone."""
    headers = [] if value is None else [f"Authorization: {value}"]
    answer = exchange(shared_api.port, request("GET", "/api/examples", *headers))
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["code"] == "token_missing"


def test_the_challenge_tells_an_expired_token_from_a_bad_one(stranger: httpx.Client) -> None:
    """An expired token is worth a refresh, a bad one is not: challenge and code say which."""
    expired, bad = ask(stranger, make_token(exp=1)), ask(stranger, "a.b.c")
    assert expired.headers["www-authenticate"] == (
        'Bearer error="invalid_token", error_description="The access token has expired"'
    )
    assert bad.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert (expired.json()["code"], bad.json()["code"]) == ("token_expired", "token_invalid")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_the_scheme_has_no_case(stranger: httpx.Client, scheme: str) -> None:
    """RFC 9110, 11.1."""
    assert ask(stranger, make_token(), scheme).status_code == 200
