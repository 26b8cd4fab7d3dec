"""Tokens that no issuer would sign, and valid tokens with an error in them."""

import base64
import json
import random
import time
from typing import Any

import jwt

from tests.support import SECRET


def segment(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(header: Any, payload: Any, algorithm: str = "HS256") -> str:
    """Return a token with a valid signature over any header and payload."""
    message = f"{segment(header)}.{segment(payload)}".encode()
    signature = jwt.get_algorithm_by_name(algorithm).sign(message, SECRET.encode())
    return f"{message.decode()}.{segment(signature)}"


def claims(**changed: Any) -> dict[str, Any]:
    """Return valid claims, apart from those given."""
    return {"sub": "alice", "exp": int(time.time()) + 600} | changed


def mutate(token: str, chance: random.Random) -> str:
    """Return the token with one random change."""
    place, other = chance.randrange(len(token)), chance.randrange(len(token))
    character = chance.choice("AZaz09-_.=+/!,;\xe9")
    return chance.choice(
        [
            token[:place] + character + token[place + 1 :],
            token[:place] + character + token[place:],
            token[:place] + token[place + 1 :],
            token[:place] + token[place] + token[place:],
            token[: min(place, other)] + token[max(place, other) :] + "x",
            token[:place] + token[place].swapcase() + token[place + 1 :],
            token[:place],
            token + character,
        ]
    )


def equivalents(token: str) -> set[str]:
    """Return the tokens that mean the same: the last character of a signature has two bits that are not used."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(token[-1])
    return {token[:-1] + alphabet[last | spare] for spare in range(4)}
