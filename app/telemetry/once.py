"""What happens again and again is logged once."""

MAX_SEEN = 100


class Once:
    """Knows what was seen before; after MAX_SEEN things nothing is new any more."""

    def __init__(self) -> None:
        self._seen: set[object] = set()

    def is_new(self, thing: object) -> bool:
        """Tell whether it is seen for the first time."""
        if thing in self._seen or len(self._seen) >= MAX_SEEN:
            return False
        self._seen.add(thing)
        return True
