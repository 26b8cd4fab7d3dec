"""Who is near the end of a budget, or over it: a line a minute, which names ten users at most. No metric names any."""

import logging
from asyncio import Handle, get_running_loop
from collections.abc import Sequence
from contextvars import Context
from dataclasses import asdict, dataclass
from heapq import nlargest

from limits import RateLimitItem

from app.ratelimit import Usage

NEAR = 0.8  # of a budget
TELL_EVERY_S = 60.0
MAX_TOLD = 10
MAX_KEPT = 1000

logger = logging.getLogger("app.limits")


@dataclass(slots=True)
class Heavy:
    """The fullest window of a user, and how many requests were refused since the last line."""

    user_id: str
    used: int
    limit: str
    share: float
    refused: int = 0


class Heaviest:
    """Keeps the users that used over NEAR of a budget, until the next line. For one thread: the event loop's."""

    def __init__(self) -> None:
        self._users: dict[str, Heavy] = {}
        self._next: Handle | None = None

    def note(self, user_id: str, limits: Sequence[RateLimitItem], usages: Sequence[Usage]) -> None:
        """Note the windows of a user's request, if one is nearly full; the first line comes at once."""
        for limit, usage in zip(limits, usages, strict=True):
            if usage.used > NEAR * limit.amount:
                self._keep(user_id, limit, usage.used)

    def _keep(self, user_id: str, limit: RateLimitItem, used: int) -> None:
        share, heavy = round(used / limit.amount, 2), self._users.get(user_id)
        if heavy is None:
            if len(self._users) >= MAX_KEPT:
                self._users = {one.user_id: one for one in self._top()}
            heavy = self._users[user_id] = Heavy(user_id, used, str(limit), share)
        elif share >= heavy.share:
            heavy.used, heavy.limit, heavy.share = used, str(limit), share
        heavy.refused += used > limit.amount
        if self._next is None:
            self._next = get_running_loop().call_soon(self._tell, context=Context())  # it is no request's line

    def _top(self) -> list[Heavy]:
        return nlargest(MAX_TOLD, self._users.values(), key=lambda one: (one.refused, one.share))

    def _tell(self) -> None:
        """Write the line, and the next one in TELL_EVERY_S, if there is somebody to name."""
        if not self._users:
            self._next = None
            return
        named = [asdict(one) for one in self._top()]
        logger.info("%d users are near their limit, or over it", len(self._users), extra={"users": named})
        self._users = {}
        self._next = get_running_loop().call_later(TELL_EVERY_S, self._tell, context=Context())

    def close(self) -> None:
        """Write no more lines."""
        if self._next:
            self._next.cancel()
            self._next = None
