"""The project without rate limits, to measure what they cost: `python -m benchmarks.unlimited`."""

from app import main
from app.ratelimit.limiter import RateLimits
from app.record import Record
from app.serving import serve
from app.settings import Settings
from devtools.examples.routes import router as examples


class Unlimited(RateLimits):
    """Refuses nobody."""

    async def admit(self, record: Record) -> None:
        """Count nothing."""


def remove_limits() -> None:
    """Let applications that are created from now on count nothing."""
    vars(main)["RateLimits"] = Unlimited  # the project has no switch for it, and needs none


if __name__ == "__main__":
    remove_limits()
    main.ENTITIES = (examples, *main.ENTITIES)
    serve(Settings.load())
