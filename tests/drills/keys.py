"""The identity provider of the drills: what breaks of it, and the tokens that it signs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from time import time

from tests.certificates import certificate
from tests.key_server import ED, Behaviour, KeyServer, answer, dated, key_server

GOOD, EXPIRED = "good.pem", "expired.pem"
KEYS = json.dumps({"keys": [ED.jwk()]}).encode()
AHEAD_S = 95


@contextmanager
def behaving(keys: KeyServer, behave: Behaviour) -> Iterator[None]:
    """Let the key server answer in another way."""
    before, keys.behave = keys.behave, behave
    try:
        yield
    finally:
        keys.behave = before


@contextmanager
def expired(keys: KeyServer, folder: Path) -> Iterator[None]:
    """Let the key server show a certificate that has expired."""
    keys.tls.load_cert_chain(folder / EXPIRED)
    try:
        yield
    finally:
        keys.tls.load_cert_chain(folder / GOOD)


@contextmanager
def fast(keys: KeyServer) -> Iterator[None]:
    """Let the key server's clock be ahead, by which it signs as well."""
    with behaving(keys, dated(KEYS, {"Date": formatdate(time() + AHEAD_S, usegmt=True)})):
        keys.ahead_s = AHEAD_S
        try:
            yield
        finally:
            keys.ahead_s = 0


def token(keys: KeyServer, user: str) -> str:
    """Return a token of the user, signed at the key server's own time."""
    return ED.token(keys.url, user, iat=int(time()) + keys.ahead_s)


@contextmanager
def run_keys(folder: Path) -> Iterator[KeyServer]:
    """Run the key server, with a certificate that `trust` names."""
    with key_server(answer(KEYS), certificate=certificate(folder, GOOD)) as keys:
        yield keys


def trust(folder: Path) -> Path:
    """Write the certificates that the application trusts: the good one, and one that has expired."""
    both = [folder / GOOD, certificate(folder, EXPIRED, begins=-3, ends=-1)]
    trusted = folder / "trusted.pem"
    trusted.write_text("".join(path.read_text() for path in both))
    return trusted
