"""The ratios that the project promises, each from one run."""

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

Costs = Mapping[str, Mapping[str, float]]  # mode, then call: CPU us a request

MEASURED = ("get", "list", "post")
BOUNDS = {
    "on / textbook on": 0.35,
    "on / textbook off": 1.0,
    "on / off": 1.75,
    "on at 10 % / off": 1.45,
    "off / floor": 1.6,
    "on / fastify on": 1.0,
}
PAIRS = [(name.partition(" / ")[0], name.partition(" / ")[2]) for name in BOUNDS]
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
    """Return the ratios that a change can make worse, by name: geometric means of the calls of MEASURED."""
    measured = [(over, under) for over, under in PAIRS if under in cpu_us]
    return {f"{over} / {under}": geometric_mean(cpu_us[over], cpu_us[under]) for over, under in measured}


def ratios_by_call(costs: Costs) -> dict[str, float]:
    """Return the same of each call of MEASURED: what is steady enough to be compared so."""
    return {
        f"{over} / {under}, {call}": costs[over][call] / costs[under][call]
        for over, under in PAIRS
        if under in costs
        for call in MEASURED
    }


def worse(recorded: Mapping[str, float], found: Mapping[str, float]) -> list[str]:
    """Return the names of the ratios that are more than a tenth above the recorded ones."""
    return [name for name, ratio in recorded.items() if found[name] > ratio * WORSE]


def geometric_mean(over: Mapping[str, float], under: Mapping[str, float]) -> float:
    """Return the geometric mean of the calls' ratios."""
    return float(prod(over[call] / under[call] for call in MEASURED) ** (1 / len(MEASURED)))


def targets(results: Mapping[str, Any]) -> list[Target]:
    """Return the promises and what a run of all measurements found."""
    named, times, last = results["ratios"], results["overload"]["times"], results["length"]["requests"]
    return [
        *(Target(f"CPU a request: {name}", ratio, BOUNDS[name]) for name, ratio in named.items()),
        Target("p99 of independent users at half of its own capacity, on / off", results["steady"]["p99_ratio"], 1.2),
        Target("good answers in time at 3 times the capacity, of it", times["3"]["good_share"], 0.8, at_least=True),
        Target("good answers in time at 10 times the capacity, of it", times["10"]["good_share"], 0.5, at_least=True),
        Target("longest wait at 10 times the capacity, s", times["10"]["longest_s"], 2.5),
        Target("CPU of a refusal, us", results["overload"]["refusal_us"], 40),
        Target("page 500 of a million / page 1 of a thousand", results["lists"]["ratio"], 1.2),
        Target(f"memory after {last:,} requests / after 50,000", results["memory"]["growth"], 1.05),
        Target("start to ready, s", results["start"]["ready_s"]["on"], 1.5),
    ]
