"""Which line of code is at work, in OpenTelemetry's words.

https://opentelemetry.io/docs/specs/semconv/registry/attributes/code/
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from traceback import FrameSummary, StackSummary
from types import FrameType

from app.telemetry.shapes import Attributes

PROJECT = Path(__file__).parents[2]
SERVING = tuple(f"{PROJECT}/app/{package}/" for package in ("db", "telemetry", "web"))  # below whatever a request does
MAX_FRAMES = 12  # of a stack in the log

Stack = list[tuple[FrameType, int]]  # the innermost frame first, as `traceback.walk_stack` gives them, and its line


def find_own(stack: Iterable[tuple[FrameType, int]]) -> Attributes:
    """Return the project's innermost line, those aside that serve all others."""
    return next((describe(frame, line) for frame, line in stack if is_of_team(frame.f_code.co_filename)), {})


def find_best(stack: Stack) -> Attributes:
    """Return the line of a stack that tells most; see `choose`."""
    place = choose([(frame.f_code.co_filename, number) for number, (frame, _) in enumerate(stack)])
    return describe(*stack[place[1]])


def choose(places: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """Return the first of the places, the innermost first, that is the project's own, better not below all requests.

    Where none is, the innermost.
    """
    own = [place for place in places if is_own(place[0])]
    return next((place for place in own if is_of_team(place[0])), (own or places)[0])


def describe(frame: FrameType, line: int) -> Attributes:
    """Return what names this line of code."""
    return {
        "code.function.name": f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}",
        "code.file.path": shorten(frame.f_code.co_filename),
        "code.line.number": line,
    }


def is_of_team(filename: str) -> bool:
    """Tell whether a file is the project's own, and none of those that serve all others."""
    return is_own(filename) and not filename.startswith(SERVING)


def is_own(filename: str) -> bool:
    """Tell whether a file of code is the project's, and no package that is installed below its folder."""
    return filename.startswith(f"{PROJECT}/") and "/site-packages/" not in filename


def shorten(filename: str) -> str:
    """Return a file's name by the project's folder, if it is below that."""
    return filename.removeprefix(f"{PROJECT}/")


def as_text(stack: Stack) -> str:
    """Return the innermost frames, the last one last, as Python writes them."""
    innermost = [
        FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in stack[:MAX_FRAMES]
    ]
    return "".join(StackSummary.from_list(innermost[::-1]).format())
