"""The public keys at BETTER_AUTH_URL (RFC 7517), cached: a user whose key is known never waits.

PyJWT's own client holds a lock across its request, has no bound on size or total time and asks again for each unknown
key id, so one stranger or one slow key server would stall every user.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from threading import Thread
from time import monotonic
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from app.auth.fetches import EMPTY, OK, BadAnswer, clock_offset, explain
from app.auth.tokens import InvalidToken
from app.errors import Unavailable

FRESH_S = 300  # a key that was removed is refused after this and one fetch
STALE_S = 3600  # how long a key server may be out of reach; a stolen key must not live on behind a blocked one
COOLDOWN_S = 2  # between fetches: a new key is accepted within this and one fetch, whoever asks for what
DEADLINE_S = 2
CONNECT_S = 1  # and as much for TLS
MAX_BODY_BYTES = 64 * 1024
CLOCK_OFF_S = 20  # before tokens are refused for it (app.auth.tokens.LEEWAY_S)
MAX_WAITING = 8  # requests that wait for an unknown key: strangers may not fill the server with theirs
ALGORITHMS = {"EdDSA": Ed25519PublicKey, "ES256": EllipticCurvePublicKey, "RS256": RSAPublicKey}

KeysById = dict[str | None, jwt.PyJWK]

logger = logging.getLogger(__name__)


class AuthUnavailable(Unavailable):
    """The keys have never been read, or not for too long: nobody can say whether the token is good."""

    code, detail = "auth_unavailable", "The keys that tokens are verified with cannot be read at the moment."


class KeySet:
    """The keys at one URL: renewed in the background once FRESH_S old, in use until STALE_S, one fetch at a time.

    `fetches` are counted by outcome; `clock_offset_s` is how far the key server's clock is ahead of ours.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._tls = httpx.create_ssl_context()
        self._unknown = asyncio.Semaphore(MAX_WAITING)
        self._fetch: asyncio.Task[None] | None = None
        self._keys = KeysById()
        self._fetched = self._ended = float("-inf")
        self._started = monotonic()
        self.fetches: Counter[str] = Counter()
        self.clock_offset_s = 0.0

    @property
    def age_s(self) -> float:
        """Seconds since the keys were read; since the start, where they never were."""
        return monotonic() - max(self._fetched, self._started)

    def current(self) -> KeysById:
        """Return the keys of the last fetch, none once they are too old; begin to renew old ones. Never waits."""
        age = monotonic() - self._fetched
        if age > FRESH_S:
            self._begin_fetch()
        return self._keys if age <= STALE_S else {}

    async def find(self, token: str) -> jwt.PyJWK:
        """Return the key that `token` names, or the only one there is; wait only if it is not cached.

        Raises:
            InvalidToken: the key server has no such key.
            AuthUnavailable: there are no keys, and none to be had within DEADLINE_S.
        """
        key_id, keys = _key_id(token), self.current()
        if not keys:
            await self._wait_for_fetch()
        elif key_id not in keys and not self._unknown.locked():
            async with self._unknown:
                await self._wait_for_fetch()
        keys = self.current()
        if not keys:
            raise AuthUnavailable(retry_after=COOLDOWN_S)
        if key_id not in keys:
            raise InvalidToken
        return keys[key_id]

    async def _wait_for_fetch(self) -> None:
        self._begin_fetch()
        if self._fetch is not None:
            await asyncio.wait({self._fetch})

    def _begin_fetch(self) -> None:
        """Begin a fetch, unless one is under way, or ended less than COOLDOWN_S ago."""
        if self._fetch is None and monotonic() - self._ended >= COOLDOWN_S:
            self._fetch = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        try:
            self._keys = usable_keys(await self._download())
            self._fetched = monotonic()
            self.fetches[OK if self._keys else EMPTY] += 1
            if not self._keys:
                logger.warning("%s serves no key that can verify a token", self._url)
        except Exception as error:  # noqa: BLE001  after any error the cached keys stay
            outcome, reason = explain(error)
            self.fetches[outcome] += 1
            logger.warning("the keys at %s cannot be read: %s", self._url, reason)
        finally:
            self._fetch, self._ended = None, monotonic()

    async def _download(self) -> bytes:
        """Return the document, within DEADLINE_S in all.

        In a thread that ends with the process: nothing cuts the look-up of a name short, and the event loop would wait
        for one of its own before the process may end.
        """
        document: Future[bytes] = Future()
        Thread(target=self._read_into, args=(document,), name="keys", daemon=True).start()
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.wrap_future(document)

    def _read_into(self, document: "Future[bytes]") -> None:
        document.set_running_or_notify_cancel()
        try:
            document.set_result(self._read())
        except Exception as error:  # noqa: BLE001  it belongs to who waits
            document.set_exception(error)

    def _read(self) -> bytes:
        """Return the document: from this very URL, never inflated. Each step has its own time-out."""
        headers, end = {"Accept": "application/json", "Accept-Encoding": "identity"}, monotonic() + DEADLINE_S
        with (
            httpx.Client(verify=self._tls, timeout=httpx.Timeout(DEADLINE_S, connect=CONNECT_S)) as client,
            client.stream("GET", self._url, headers=headers) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise BadAnswer("status", f"status {answer.status_code}")
            self._note_clock(answer.headers)
            body = bytearray()
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise BadAnswer("content", f"over {MAX_BODY_BYTES} bytes")
                if monotonic() > end:
                    raise TimeoutError
            return bytes(body)

    def _note_clock(self, headers: Mapping[str, str]) -> None:
        offset = clock_offset(headers)
        if offset is None:
            return
        self.clock_offset_s = offset
        if abs(offset) > CLOCK_OFF_S:
            side = "ahead of" if offset > 0 else "behind"
            text = "the clock of %s is %.0f s %s ours: good tokens count as expired, or as not valid yet"
            logger.warning(text, self._url, abs(offset), side)


def usable_keys(body: bytes) -> KeysById:
    """Return the usable keys of a JWK set (RFC 7517, 5) by their ids; the only one of its set also by None."""
    listed = json.loads(body)["keys"]
    if not isinstance(listed, list):
        raise TypeError("not a list of keys")
    usable = [key for key in map(_usable_key, listed) if key is not None]
    by_id: KeysById = {key.key_id: key for key in usable if key.key_id}
    return by_id | {None: usable[0]} if len(usable) == 1 else by_id


def _usable_key(jwk: Any) -> jwt.PyJWK | None:
    """Return the key if it is public, for signatures, and of an algorithm, curve and length that we accept."""
    try:
        key = jwt.PyJWK(jwk)
        key.Algorithm.prepare_key(key.key)  # refuses a curve that is not its algorithm's
        is_ours = isinstance(key.key, ALGORITHMS[key.algorithm_name]) and not key.Algorithm.check_key_length(key.key)
        is_usable = is_ours and isinstance(jwk.get("kid", ""), str) and _may_verify(jwk)
    except Exception:  # noqa: BLE001  a key that cannot be read must not cost the others; PyJWT raises many kinds
        return None
    return key if is_usable else None


def _may_verify(jwk: dict[str, Any]) -> bool:
    """Tell whether the key is meant to verify (RFC 7517, 4.2 and 4.3), as one is that does not say."""
    operations = jwk.get("key_ops", ["verify"])
    are_names = isinstance(operations, list) and all(isinstance(operation, str) for operation in operations)
    return are_names and "verify" in operations and jwk.get("use", "sig") == "sig"


def _key_id(token: str) -> str | None:
    """Return the `kid` of the token's header (RFC 7515, 4.1.4), the one thing read before the token is verified."""
    try:
        key_id: str | None = jwt.get_unverified_header(token).get("kid")
    except Exception:  # noqa: BLE001  as in app.auth.tokens.verify_token
        raise InvalidToken from None
    return key_id
