"""The comparison: in each round, every mode answers every call, so that noise of the machine affects all modes."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from benchmarks import load
from benchmarks.calls import Calls
from benchmarks.load import Load
from benchmarks.servers import ServerProcess

Show = Callable[[str], None]

CONNECTIONS = 4
WARM_UP_S = 0.3
SETTLE_S = 0.3  # until the exporter has sent the last spans


@dataclass(frozen=True)
class Server:
    """A server in one mode, and the calls that its database can answer."""

    running: ServerProcess
    calls: Calls


@dataclass
class Cost:
    """What one call costs in one mode, a number for each round."""

    cpu_us: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def median(self, name: str) -> float:
        """Return the median of the rounds."""
        return float(statistics.median(getattr(self, name)))

    def spread(self) -> float:
        """Return the range of the rounds' CPU a request, divided by the median."""
        return (max(self.cpu_us) - min(self.cpu_us)) / statistics.median(self.cpu_us)


Costs = dict[str, dict[str, Cost]]


def measure_costs(
    servers: Mapping[str, Server], calls: tuple[str, ...], rounds: int, seconds: float, show: Show
) -> Costs:
    """Return what each call costs in each mode."""
    costs: Costs = {mode: {call: Cost() for call in calls} for mode in servers}
    for number in range(1, rounds + 1):
        for call in calls:
            for mode, server in servers.items():
                show(f"round {number} of {rounds}: {call}, {mode}")
                measure_call(server, call, seconds, costs[mode][call])
    return costs


def measure_call(server: Server, call: str, seconds: float, cost: Cost) -> None:
    """Add one measurement of a call to `cost`. Raise RuntimeError if an answer was no success."""
    measure_requests(server, call, server.calls.requests(call), seconds, cost)


def measure_requests(server: Server, named: str, requests: Iterator[bytes], seconds: float, cost: Cost) -> None:
    """Add one measurement of `requests` to `cost`. Raise RuntimeError if an answer was no success."""
    port = server.running.port
    load.run(Load(port, requests, CONNECTIONS).run_closed(WARM_UP_S))
    time.sleep(SETTLE_S)
    before = server.running.cpu_s()
    outcome = load.run(Load(port, requests, CONNECTIONS).run_closed(seconds))
    time.sleep(SETTLE_S)
    cpu_s = server.running.cpu_s() - before
    answers = outcome.statuses.total()
    if len(outcome.successes) < answers:
        raise RuntimeError(f"{named}: not every answer was a success: {dict(outcome.statuses)}")
    cost.cpu_us.append(cpu_s / answers * 1e6)
    cost.per_second.append(answers / outcome.seconds)
    for percent in (50, 95, 99):
        getattr(cost, f"p{percent}_ms").append(outcome.percentile_ms(percent))
