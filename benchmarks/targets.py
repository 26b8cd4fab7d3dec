"""The ratios that the project promises, each from one run."""

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

Costs = Mapping[str, Mapping[str, float]]  # mode, then call: CPU us a request

MEASURED = ("get", "list", "post")
VERDICT = {True: "holds", False: "missed"}
WORSE = 1.1  # two runs differ by less


class Target(NamedTuple):
    """One promise: the measured number and its bound, which is an upper one unless `at_least` is set."""

    name: str
    found: float
    bound: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return self.found >= self.bound if self.at_least else self.found <= self.bound


def ratios(cpu_us: Costs) -> dict[str, float]:
    """Return the ratios that a change can make worse, by name."""
    found: dict[str, float] = {}
    for over, under in (("on", "textbook on"), ("on", "textbook off")):
        found |= {f"{over} / {under}, {call}": cpu_us[over][call] / cpu_us[under][call] for call in MEASURED}
    for over, under in (("on", "off"), ("off", "floor")):
        found[f"{over} / {under}, geometric mean"] = geometric_mean(cpu_us[over], cpu_us[under])
    return found


def worse(recorded: Mapping[str, float], found: Mapping[str, float]) -> list[str]:
    """Return the names of the ratios that are more than a tenth above the recorded ones."""
    return [name for name, ratio in recorded.items() if found[name] > ratio * WORSE]


def geometric_mean(over: Mapping[str, float], under: Mapping[str, float]) -> float:
    """Return the geometric mean of the calls' ratios."""
    return float(prod(over[call] / under[call] for call in MEASURED) ** (1 / len(MEASURED)))


def targets(results: Mapping[str, Any]) -> list[Target]:
    """Return the promises and what a run of all measurements found."""
    bounds = {"on / textbook on": 0.3, "on / textbook off": 0.5, "on / off": 2.0, "off / floor": 1.7}
    named = results["ratios"].items()
    return [
        *(Target(f"CPU a request: {name}", ratio, bounds[name.partition(",")[0]]) for name, ratio in named),
        Target("p99 at half the capacity, on / off, evenly spaced", results["steady"]["p99_ratio"]["even"], 1.5),
        Target(
            "good answers in time at 3 times the capacity, of it", results["3 times"]["good_share"], 0.8, at_least=True
        ),
        Target("page 500 of a million / page 1 of a thousand", results["lists"]["ratio"], 1.2),
        Target("memory after 1,000,000 requests / after 50,000", results["memory"]["growth"], 1.05),
        Target("start to ready, s", results["start"]["ready_s"]["on"], 1.5),
    ]
