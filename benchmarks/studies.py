"""What is measured beside the CPU of single calls: start, memory and steady load."""

import subprocess
import sys
import time
from collections.abc import Mapping
from statistics import median
from typing import Any

from benchmarks import load
from benchmarks.load import Load
from benchmarks.rounds import CONNECTIONS, Server, Show
from benchmarks.servers import ROOT, Mode, run_server

Study = dict[str, Any]

STEADY_CONNECTIONS = 32


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
    """Return the memory of the process after each 50,000 requests of all users."""
    mixed = server.calls.requests("mix")
    held: list[tuple[int, float]] = []
    answered = 0
    while answered < requests:
        show(f"memory: {answered:,} of {requests:,} requests")
        answered += load.run(Load(server.running.port, mixed, CONNECTIONS).run_closed(5)).statuses.total()
        if answered // 50_000 > len(held):
            held.append((answered, server.running.rss_mib()))
    return {"rss_mib": held, "growth": held[-1][1] / held[0][1] if held else None}


def measure_steady_load(servers: Mapping[str, Server], rounds: int, seconds: float, show: Show) -> Study:
    """Return the latency of reads of independent users, each mode at half of its own capacity, measured just before.

    One rate for all modes would compare queues: half the capacity of one is a quarter of another's.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in ("per_second", "p50_ms", "p99_ms")}
    for number in range(1, rounds + 1):
        for mode, server in servers.items():
            show(f"steady load, round {number} of {rounds}: {mode}")
            reads, port = server.calls.requests("get"), server.running.port
            closed = load.run(Load(port, reads, CONNECTIONS).run_closed(seconds / 4))
            rate = closed.statuses.total() / closed.seconds / 2
            arrivals = load.poisson_arrivals(rate, seconds, seed=number)
            outcome = load.run(Load(port, reads, STEADY_CONNECTIONS).run_open(arrivals))
            taken = {"per_second": rate, "p50_ms": outcome.percentile_ms(50), "p99_ms": outcome.percentile_ms(99)}
            for name, value in taken.items():
                found[name].setdefault(mode, []).append(value)
    middle = {name: {mode: median(values) for mode, values in modes.items()} for name, modes in found.items()}
    return middle | {"p99_ratio": middle["p99_ms"]["on"] / middle["p99_ms"]["off"]}
