"""Rate limits: so many requests a user, so many failed authentications a client address.

Counting is by fixed windows that begin with a key's first request. It is exact: of 1,000 concurrent requests 100 pass,
in one process or in several that share a Redis. Across two windows it is not: who spends one budget at the end of a
window and the next one at once sends up to twice the limit within the length of one window. Of several limits the
shortest refuses first, and the longer are not charged.
"""

from typing import NamedTuple


class Usage(NamedTuple):
    """A window of one limit: requests in it so far, refused ones too, and the seconds until it ends."""

    used: int
    left: float
