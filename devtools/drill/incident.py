"""What an incident is: what goes wrong, which alert tells of it, and what leads from the alert to the cause."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple

from devtools.drill.target import Target
from devtools.traffic.actions import Action

Inject = Callable[[Target], AbstractContextManager[object]]
BUDGET = frozenset({"ErrorBudgetBurnsFast", "ErrorBudgetBurnsSlowly"})  # true beside many another alert: users notice


class Sign(NamedTuple):
    """Where the cause shows: an attribute of a span, a field of a log line, or a label of the alert.

    `value` is a regular expression for the whole value. In it `{table}` is the table that the traffic uses.
    """

    where: Literal["span", "line", "label"]
    key: str
    value: str


class Step(NamedTuple):
    """A query of the alert's section in the runbook, known by a part of it, and what a line of its answer holds.

    `answer` is a regular expression. In it `{table}` is the table that the traffic uses. Prometheus answers with a line
    a series, its labels and its value, such as `{"code":"55P03"} 7`: see `series`.
    """

    query: str
    answer: str


class Load(NamedTuple):
    """What is sent: an action, how often a second, and by whom; without a `user`, by many in turn."""

    action: Action
    rate: float
    user: str | None = None


def series(value: str = "(?!0$).+", **labels: str) -> str:
    """Return the pattern of a series that has these labels, and a value: by itself one that is not 0."""
    wanted = "".join(f'(?=.*"{name}":"{text}")' for name, text in labels.items())
    return f"^{wanted}.*}} {value}$"


def nothing(_: Target) -> AbstractContextManager[None]:
    """Change nothing: the load is the fault."""
    return nullcontext()


@dataclass(frozen=True)
class Incident:
    """One thing that goes wrong. `inject` makes it so until its block ends."""

    name: str
    sentence: str
    alert: str
    signs: tuple[Sign, ...]
    steps: tuple[Step, ...]  # three at most
    also: frozenset[str] = frozenset()  # alerts that may fire beside it, since they are true as well
    needs: frozenset[str] = frozenset()  # of the target: see Target.changes
    inject: Inject = nothing
    load: Load | None = None  # beside the ordinary traffic
