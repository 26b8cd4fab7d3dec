"""What is measured beside the CPU of single calls: start, memory, steady load, and overload."""

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
from benchmarks.rounds import CONNECTIONS, Server, Show
from benchmarks.servers import ROOT, Mode, run_server

Study = dict[str, Any]

OBJECTIVE_S = 0.25  # of observability/prometheus
STEADY_CONNECTIONS = 32
OVERLOAD_CONNECTIONS = 256


def measure_start(
    modes: Mapping[str, Mode], databases: Mapping[str, str], receiver: str, times: int, show: Show
) -> Study:
    """Return the seconds until a new process answers with success, and for importing the project."""
    ready: dict[str, list[float]] = {name: [] for name in modes}
    imports = []
    for number in range(1, times + 1):
        show(f"start {number} of {times}")
        for name, mode in modes.items():
            with run_server(mode, databases, receiver) as server:
                ready[name].append(server.ready_s)
        begun = time.monotonic()
        subprocess.run([sys.executable, "-c", "import app.serving"], cwd=ROOT, check=True)
        imports.append(time.monotonic() - begun)
    return {"ready_s": {name: median(found) for name, found in ready.items()}, "import_s": median(imports)}


def measure_memory(server: Server, requests: int, show: Show) -> Study:
    """Return the memory of the process after each 50,000 requests: reads and lists of all users."""
    mixed = _mixed(server.calls)
    held: list[tuple[int, float]] = []
    answered = 0
    while answered < requests:
        show(f"memory: {answered:,} of {requests:,} requests")
        answered += load.run(Load(server.running.port, mixed, CONNECTIONS).run_closed(5)).statuses.total()
        if answered // 50_000 > len(held):
            held.append((answered, server.running.rss_mib()))
    return {"rss_mib": held, "growth": held[-1][1] / held[0][1] if held else None}


def _mixed(calls: Calls) -> Iterator[bytes]:
    reads, lists = calls.requests("get"), calls.requests("list")
    while True:
        yield from (next(reads), next(reads), next(reads), next(lists))


def measure_steady_load(servers: Mapping[str, Server], rate: float, rounds: int, seconds: float, show: Show) -> Study:
    """Return the latency of reads at a fixed rate, for even arrivals and for those of independent users."""
    arrivals = {"even": load.even_arrivals, "poisson": load.poisson_arrivals}
    p50: dict[str, list[float]] = {}
    p99: dict[str, list[float]] = {}
    for number in range(1, rounds + 1):
        for spacing, arrive in arrivals.items():
            for mode, server in servers.items():
                show(f"steady load, round {number} of {rounds}: {rate:.0f} a second, {spacing}, {mode}")
                reads = Load(server.running.port, server.calls.requests("get"), STEADY_CONNECTIONS)
                outcome = load.run(reads.run_open(arrive(rate, seconds)))
                p50.setdefault(f"{mode}, {spacing}", []).append(outcome.percentile_ms(50))
                p99.setdefault(f"{mode}, {spacing}", []).append(outcome.percentile_ms(99))
    middle = {name: median(found) for name, found in p99.items()}
    return {
        "per_second": rate,
        "p50_ms": {name: median(found) for name, found in p50.items()},
        "p99_ms": middle,
        "p99_ratio": {spacing: middle[f"on, {spacing}"] / middle[f"off, {spacing}"] for spacing in arrivals},
    }


def measure_overload(server: Server, capacity: float, times: float, rounds: int, seconds: float, show: Show) -> Study:
    """Return the share of reads that succeed in time at so many times the capacity, and the statuses of all."""
    shares, p99 = [], []
    statuses: Counter[int] = Counter()
    for number in range(1, rounds + 1):
        show(f"{times:g} times the capacity, round {number} of {rounds}")
        reads = Load(server.running.port, server.calls.requests("get"), OVERLOAD_CONNECTIONS)
        outcome = load.run(reads.run_open(load.even_arrivals(capacity * times, seconds)))
        in_time = sum(latency <= OBJECTIVE_S for latency in outcome.successes)
        shares.append(in_time / seconds / (capacity * min(times, 1)))
        p99.append(outcome.percentile_ms(99))
        statuses += outcome.statuses
    return {"good_share": median(shares), "p99_ms": median(p99), "statuses": {str(s): n for s, n in statuses.items()}}
