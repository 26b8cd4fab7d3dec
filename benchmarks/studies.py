"""What one number a call does not tell: starting, memory, steady load, and load beyond what there is room for."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from benchmarks import load
from benchmarks.calls import Calls
from benchmarks.load import Load
from benchmarks.rounds import CONNECTIONS, Server, Tell
from benchmarks.servers import ROOT, Mode, running

Study = dict[str, Any]

BEARABLE_S = 0.25  # the objective of observability/prometheus
STEADY_CONNECTIONS = 32
PRESSED_CONNECTIONS = 256


def start(modes: Mapping[str, Mode], databases: Mapping[str, str], receiver: str, times: int, tell: Tell) -> Study:
    """Return the seconds from a process's start to its first good answer, and for importing all of the project."""
    ready: dict[str, list[float]] = {name: [] for name in modes}
    imports = []
    for number in range(1, times + 1):
        tell(f"start {number} of {times}")
        for name, mode in modes.items():
            with running(mode, databases, receiver) as server:
                ready[name].append(server.ready_s)
        begun = time.monotonic()
        subprocess.run([sys.executable, "-c", "import app.serving"], cwd=ROOT, check=True)
        imports.append(time.monotonic() - begun)
    return {"ready_s": {name: median(found) for name, found in ready.items()}, "import_s": median(imports)}


def memory(server: Server, requests: int, tell: Tell) -> Study:
    """Return the memory the process holds after 50,000 requests and every 50,000 more: reads and lists of all users."""
    mixed = _mixed(server.calls)
    held: list[tuple[int, float]] = []
    answered = 0
    while answered < requests:
        tell(f"memory: {answered:,} of {requests:,} requests")
        answered += load.run(Load(server.running.port, mixed, CONNECTIONS).closed(5)).statuses.total()
        if answered // 50_000 > len(held):
            held.append((answered, server.running.rss_mib()))
    return {"rss_mib": held, "growth": held[-1][1] / held[0][1] if held else None}


def _mixed(calls: Calls) -> Iterator[bytes]:
    reads, lists = calls.of("get"), calls.of("list")
    while True:
        yield from (next(reads), next(reads), next(reads), next(lists))


def steady(servers: Mapping[str, Server], rate: float, rounds: int, seconds: float, tell: Tell) -> Study:
    """Return the latency of reads at a rate of their own, evenly spaced and as independent users come."""
    arrivals = {"even": load.even, "poisson": load.poisson}
    p50: dict[str, list[float]] = {}
    p99: dict[str, list[float]] = {}
    for number in range(1, rounds + 1):
        for spacing, arrive in arrivals.items():
            for mode, server in servers.items():
                tell(f"steady load, round {number} of {rounds}: {rate:.0f} a second, {spacing}, {mode}")
                asked = Load(server.running.port, server.calls.of("get"), STEADY_CONNECTIONS)
                outcome = load.run(asked.at(arrive(rate, seconds)))
                p50.setdefault(f"{mode}, {spacing}", []).append(outcome.percentile_ms(50))
                p99.setdefault(f"{mode}, {spacing}", []).append(outcome.percentile_ms(99))
    middle = {name: median(found) for name, found in p99.items()}
    return {
        "per_second": rate,
        "p50_ms": {name: median(found) for name, found in p50.items()},
        "p99_ms": middle,
        "p99_ratio": {spacing: middle[f"on, {spacing}"] / middle[f"off, {spacing}"] for spacing in arrivals},
    }


def pressed(server: Server, capacity: float, times: float, rounds: int, seconds: float, tell: Tell) -> Study:
    """Return what becomes of reads at so many times the capacity: good answers in time, and what the others got."""
    shares, p99 = [], []
    statuses: Counter[int] = Counter()
    for number in range(1, rounds + 1):
        tell(f"{times:g} times the capacity, round {number} of {rounds}")
        asked = Load(server.running.port, server.calls.of("get"), PRESSED_CONNECTIONS)
        outcome = load.run(asked.at(load.even(capacity * times, seconds)))
        in_time = sum(taken <= BEARABLE_S for taken in outcome.successes)
        shares.append(in_time / seconds / (capacity * min(times, 1)))
        p99.append(outcome.percentile_ms(99))
        statuses += outcome.statuses
    return {"good_share": median(shares), "p99_ms": median(p99), "statuses": {str(s): n for s, n in statuses.items()}}
