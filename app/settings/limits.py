"""What RATE_LIMIT, RATE_LIMIT_UNAUTHENTICATED and RATE_LIMIT_STORAGE_URI may say."""

import re
from urllib.parse import urlsplit

from limits import RateLimitItem, parse_many

MAX_AMOUNT = 10**9  # an RFC 9651 integer has 15 digits
MAX_WINDOW_S = 366 * 24 * 3600
MEMORY = "memory://"
ZERO = re.compile(r"(?<!\d)0")  # `limits` also takes 100/0minute, for 100/minute
PATHS = {"redis": r"/?\d*", "rediss": r"/?\d*", "redis+unix": "/.+"}


def parse_limits(text: str) -> tuple[RateLimitItem, ...]:
    """Return the limits that `text` names, the shortest window first.

    Raises:
        ValueError: it is none, one of them allows nothing, or two have the same window.

    """
    try:
        limits = sorted(parse_many(text), key=RateLimitItem.get_expiry)
    except ValueError:
        raise ValueError(
            "must be limits such as 100/minute or 10/second;1000/hour (second, minute, hour, day, month, year)"
        ) from None
    windows = {limit.get_expiry() for limit in limits}
    if len(windows) < len(limits):
        raise ValueError("two limits have the same window")
    if ZERO.search(text) or max(limit.amount for limit in limits) > MAX_AMOUNT or max(windows) > MAX_WINDOW_S:
        raise ValueError(f"each limit must allow 1 to {MAX_AMOUNT} requests in at most a year")
    return tuple(limits)


def refuse_malformed(uri: str) -> None:
    """Check the address of a storage, and connect to nothing.

    Raises:
        ValueError: it is neither `memory://` nor a Redis; the message holds no part of it, for the password's sake.

    """
    if uri != MEMORY and not _is_redis(uri):
        raise ValueError(
            "must be memory://, redis[s]://[user:password@]host[:port][/database] or redis+unix:///path/to/socket;"
            " percent-encode what is special in a password"
        )


def _is_redis(uri: str) -> bool:
    """Tell whether redis-py would connect to what `uri` says: it takes a bad database for 0, no host for localhost."""
    try:
        url = urlsplit(uri)
        if not re.fullmatch(PATHS[url.scheme], url.path) or bool(url.hostname) == (url.scheme == "redis+unix"):
            return False
        from redis import ConnectionPool  # noqa: PLC0415  takes 0.3 s, of which only those who use Redis should know

        ConnectionPool.from_url(uri.replace("redis+unix", "unix", 1)).make_connection()
    except Exception:  # noqa: BLE001  ValueError, KeyError, TypeError for unknown options, RedisError for bad ones
        return False
    return True
