"""The comparison: every mode under every call in turn, round after round, so that the machine's moods meet them all."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from benchmarks import load
from benchmarks.calls import Calls
from benchmarks.load import Load
from benchmarks.servers import Running

Tell = Callable[[str], None]

CONNECTIONS = 4
WARM_UP_S = 0.3
SETTLE_S = 0.3  # until the exporter has sent what the last requests left


@dataclass(frozen=True)
class Server:
    """A running mode and the calls that its database can answer."""

    running: Running
    calls: Calls


@dataclass
class Cost:
    """What one call cost in one mode, a number for each round."""

    cpu_us: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def middle(self, name: str) -> float:
        """Return the median of the rounds."""
        return float(median(getattr(self, name)))

    def spread(self) -> float:
        """Return how far the CPU a request of the rounds lies apart, as a part of the median."""
        return (max(self.cpu_us) - min(self.cpu_us)) / median(self.cpu_us)


Costs = dict[str, dict[str, Cost]]


def measured(servers: Mapping[str, Server], calls: tuple[str, ...], rounds: int, seconds: float, tell: Tell) -> Costs:
    """Return what each call costs in each mode."""
    costs: Costs = {mode: {call: Cost() for call in calls} for mode in servers}
    for number in range(1, rounds + 1):
        for call in calls:
            for mode, server in servers.items():
                tell(f"round {number} of {rounds}: {call}, {mode}")
                measure(server, call, seconds, costs[mode][call])
    return costs


def measure(server: Server, call: str, seconds: float, cost: Cost) -> None:
    """Add one measurement to `cost`.

    Raises:
        RuntimeError: an answer was no success.

    """
    requests = server.calls.of(call)
    port = server.running.port
    load.run(Load(port, requests, CONNECTIONS).closed(WARM_UP_S))
    time.sleep(SETTLE_S)
    before = server.running.cpu_s()
    outcome = load.run(Load(port, requests, CONNECTIONS).closed(seconds))
    time.sleep(SETTLE_S)
    cpu_s = server.running.cpu_s() - before
    answers = outcome.statuses.total()
    if len(outcome.successes) < answers:
        raise RuntimeError(f"{call}: not every answer was a success: {dict(outcome.statuses)}")
    cost.cpu_us.append(cpu_s / answers * 1e6)
    cost.per_second.append(answers / outcome.seconds)
    for percent in (50, 95, 99):
        getattr(cost, f"p{percent}_ms").append(outcome.percentile_ms(percent))
