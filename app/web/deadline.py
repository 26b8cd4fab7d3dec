"""How long a route may take, where REQUEST_DEADLINE_MS is too short or too long for it."""

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi.dependencies.models import Dependant

from app.record import current

SHORTEST_S, LONGEST_S = 0.2, 60.0  # as of REQUEST_DEADLINE_MS


@dataclass(frozen=True, eq=False)
class Deadline:
    """A dependency that gives the requests of a route `seconds`, from 0.2 to 60, in place of REQUEST_DEADLINE_MS.

    `@router.get("/report", dependencies=[Depends(Deadline(seconds=10))])`. On a router it holds for each of its routes,
    but for those that have one of their own. Waits for a thread and a connection end at it, and so do statements.

    Raises:
        RefusedRoute: at the start, for other `seconds`.
    """

    seconds: float

    async def __call__(self) -> None:
        current().extend(self.seconds)

    @property
    def is_good(self) -> bool:
        """Whether it is within the bounds."""
        return isinstance(self.seconds, int | float) and SHORTEST_S <= self.seconds <= LONGEST_S


def deadlines_of(dependant: Dependant) -> Iterator[Deadline]:
    """Give the deadlines among the dependencies of an endpoint."""
    for child in dependant.dependencies:
        if isinstance(child.call, Deadline):
            yield child.call
        yield from deadlines_of(child)
