"""Which tokens are good where the keys are those at BETTER_AUTH_URL."""

import json
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.key_server import (
    EC,
    ED,
    INVALID,
    RSA,
    UNAVAILABLE,
    KeyServer,
    SigningKey,
    ed25519_key,
    get_examples,
    key_server,
    outcome,
    publish,
    rsa_key,
)
from tests.support import SECRET, Api, make_token

Serve = Callable[..., AbstractContextManager[Api]]


@pytest.mark.parametrize("key", [ED, EC, RSA], ids=lambda key: key.algorithm)
@pytest.mark.parametrize("names_algorithm", [True, False])
def test_each_algorithm(serve: Serve, key: SigningKey, names_algorithm: bool) -> None:  # noqa: FBT001
    """EdDSA, ES256 and RS256 by the key's own `alg`, or by its type where it names none; `sub` is the user."""
    jwk = key.jwk() if names_algorithm else key.jwk(alg=None)
    with key_server(publish(jwk)) as server, serve(better_auth_url=f"{server.url}/", better_auth_secret=None) as api:
        headers = {"Authorization": f"Bearer {key.token(server.url, 'carol')}"}
        created = httpx.post(f"{api.url}/api/examples", headers=headers, json={"title": "mine"})
    assert (created.status_code, created.json()["user_id"]) == (201, "carol")


WRONG_CLAIMS: list[dict[str, Any]] = [
    {"iss": "https://elsewhere.example"},
    {"iss": None},
    {"aud": "https://elsewhere.example"},
    {"aud": None},
    {"sub": None},
    {"sub": "alice@example.com"},
    {"exp": None},
    {"nbf": int(time.time()) + 3600},
]


@pytest.mark.parametrize("claims", WRONG_CLAIMS, ids=lambda claims: next(iter(claims)))
def test_wrong_claims(issuer_api: Api, issuer: KeyServer, claims: dict[str, Any]) -> None:
    """Another issuer or audience, or none, is refused; the rules of `sub` and of times are those of every token."""
    assert outcome(issuer_api, ED.token(issuer.url, **claims)) == INVALID
    assert outcome(issuer_api, ED.token(issuer.url)) == (200, None)


def test_issuer_and_audience_may_differ_from_the_url(issuer: KeyServer, serve: Serve) -> None:
    """JWT_ISSUER and JWT_AUDIENCE stand in for the URL, which then is no longer taken."""
    with serve(better_auth_url=issuer.url, jwt_issuer="https://auth.example", jwt_audience="tasks") as api:
        assert outcome(api, ED.token("https://auth.example", aud="tasks")) == (200, None)
        assert outcome(api, ED.token(issuer.url)) == INVALID


def test_the_keys_may_be_at_another_path(serve: Serve) -> None:
    """Where Better Auth has a `basePath` or a `jwksPath` of its own; the issuer is the URL without it."""
    path = "/sign-in/.well-known/jwks.json"
    with key_server(publish(ED.jwk()), path) as server:
        with serve(better_auth_url=server.url, better_auth_jwks_path=path) as api:
            assert outcome(api, ED.token(server.url)) == (200, None)
        with serve(better_auth_url=server.url) as api:
            assert outcome(api, ED.token(server.url)) == UNAVAILABLE


def test_the_secret_signs_nothing(issuer_api: Api, issuer: KeyServer) -> None:
    """A token of the secret is refused, whether it names no key or a real one: Better Auth's session cookie is such."""
    named = {"iss": issuer.url, "aud": issuer.url}
    assert outcome(issuer_api, make_token(**named)) == INVALID
    assert outcome(issuer_api, make_token(headers={"kid": "ed"}, **named)) == INVALID


def test_start_up_says_that_the_secret_is_not_used(
    issuer: KeyServer, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """One line, and only where both are set."""
    with caplog.at_level(logging.INFO, "app"):
        with serve(better_auth_url=issuer.url, better_auth_secret=None):
            assert "BETTER_AUTH_SECRET" not in caplog.text
        with serve(better_auth_url=issuer.url):
            assert caplog.text.count("BETTER_AUTH_SECRET is not used") == 1


def forged(issuer: str) -> dict[str, str]:
    """Tokens of someone who knows all that is public."""
    claims = {"sub": "alice", "iss": issuer, "aud": issuer, "exp": int(time.time()) + 600}
    public = RSA.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    x = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    mine = ed25519_key("ed")
    header = {"kid": "ed", "jwk": mine.jwk(), "jku": f"{issuer}/mine", "x5u": f"{issuer}/mine"}
    return {
        "HS256 with the public key as PEM": hs256(claims, pem),
        "HS256 with the public key as DER": hs256(claims, x),
        "no algorithm": jwt.encode(claims, "", "none", {"kid": "rsa"}),
        "EdDSA with the id of the RSA key": ED.token(issuer, headers={"kid": "rsa"}),
        "RS256 with the id of the EdDSA key": RSA.token(issuer, headers={"kid": "ed"}),
        "a key of its own, named in jwk, jku and x5u": mine.token(issuer, headers=header),
        "no kid, and several keys": SigningKey(None, "EdDSA", ED.private).token(issuer),
        "a kid that is no string": ED.token(issuer).replace(ED.token(issuer).split(".")[0], segment({"kid": 1})),
        "an unknown crit": ED.token(issuer, headers={"crit": ["x"], "x": 1}),
        "the type of Better Auth's session cookie": ED.token(issuer, headers={"typ": "better-auth.session-cache+jwt"}),
        "no JSON": "x.y.z",
        "nested JSON": segment("[" * 3000, raw=True) + ".e30.AA",
    }


def segment(value: Any, *, raw: bool = False) -> str:
    text = value if raw else json.dumps({"alg": "EdDSA", "typ": "JWT"} | value)
    return jwt.utils.base64url_encode(text.encode()).decode()


def hs256(claims: dict[str, Any], secret: bytes) -> str:
    """PyJWT itself refuses to sign with a public key."""
    unsigned = f"{segment({'alg': 'HS256', 'kid': 'rsa'})}.{jwt.encode(claims, SECRET, 'HS256').split('.')[1]}"
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(unsigned.encode(), secret)
    return f"{unsigned}.{jwt.utils.base64url_encode(signature).decode()}"


@pytest.mark.parametrize("name", list(forged("")))
def test_forged_tokens(issuer_api: Api, issuer: KeyServer, name: str) -> None:
    """The algorithm and the key come from the key set alone; no address or key inside a token is ever looked at."""
    assert get_examples(issuer_api, ED.token(issuer.url)).status_code == 200
    fetches = issuer.fetches
    assert outcome(issuer_api, forged(issuer.url)[name]) == INVALID
    assert issuer.fetches - fetches <= 1


def test_a_token_without_key_id(serve: Serve) -> None:
    """Is verified with the only key of a set, with or without an id of its own."""
    for key in (ed25519_key(None), ED):
        with key_server(publish(key.jwk())) as server, serve(better_auth_url=server.url) as api:
            assert outcome(api, SigningKey(None, "EdDSA", key.private).token(server.url)) == (200, None)
            assert outcome(api, ed25519_key(None).token(server.url)) == INVALID


OTHERS: list[Any] = [
    rsa_key("short", 1024).jwk(),
    SigningKey("p384", "ES384", ec.generate_private_key(ec.SECP384R1())).jwk(),
    SigningKey("lying", "ES384", ec.generate_private_key(ec.SECP384R1())).jwk(alg="ES256"),
    SigningKey("ed448", "EdDSA", ed448.Ed448PrivateKey.generate()).jwk(),
    {"kty": "oct", "k": jwt.utils.base64url_encode(SECRET.encode()).decode(), "kid": "oct", "alg": "HS256"},
    {"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "x"},
    {"kty": "RSA", "n": "!", "e": 5, "kid": "broken"},
    {"kty": ["RSA"], "alg": {}, "kid": []},
    ED.jwk(kid=["ed"]),
    "text",
    None,
    [],
]


OPERATIONS = [["sign"], [], ["Verify"], ["verify", 1], "verify", {"verify": True}, 1, False]
UNFIT = {"enc": ED.jwk(kid="enc", use="enc")} | {
    f"ops-{number}": ED.jwk(kid=f"ops-{number}", key_ops=operations) for number, operations in enumerate(OPERATIONS)
}
UNFIT["null"] = ED.jwk(kid="null") | {"key_ops": None}


def test_keys_of_no_use_are_skipped(serve: Serve) -> None:
    """Keys for another use, of other types, too short or broken neither verify a token nor cost the good ones."""
    good = EC.jwk(use="sig", key_ops=["sign", "verify"])
    with key_server(publish(*OTHERS, *UNFIT.values(), good)) as server, serve(better_auth_url=server.url) as api:
        assert outcome(api, EC.token(server.url)) == (200, None)
        for kid in UNFIT:
            assert outcome(api, SigningKey(kid, "EdDSA", ED.private).token(server.url)) == INVALID, kid
        oct_token = make_token(headers={"kid": "oct"}, iss=server.url, aud=server.url)
        assert outcome(api, oct_token) == INVALID
