"""What happens again and again is logged once."""

MAX_SEEN = 100


class Seen:
    """Remembers things. After MAX_SEEN of them, nothing is new any more."""

    def __init__(self) -> None:
        self._things: set[object] = set()

    def is_new(self, thing: object) -> bool:
        """Tell whether it is seen for the first time."""
        if thing in self._things or len(self._things) >= MAX_SEEN:
            return False
        self._things.add(thing)
        return True
