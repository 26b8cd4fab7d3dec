"""More requests than a process can answer: how many are answered well all the same, and what a refusal costs."""

from collections import Counter
from statistics import median

from benchmarks import load
from benchmarks.load import Load, Outcome
from benchmarks.rounds import Cost, Server, Show, measure_call
from benchmarks.studies import Study

OBJECTIVE_S = 0.25  # of observability/prometheus
CONNECTIONS = 400
TIMES = (0.7, 3, 10)
CALL = "mix"


def measure_overload(server: Server, rounds: int, seconds: float, show: Show) -> Study:
    """Return the capacity of the mix, and what becomes of requests at so many times that, evenly spaced."""
    usual = Cost()
    for number in range(1, rounds + 1):
        show(f"capacity of the mix, round {number} of {rounds}")
        measure_call(server, CALL, seconds, usual)
    capacity, cpu_us = usual.median("per_second"), usual.median("cpu_us")
    found = {f"{times:g}": _measure(server, capacity, times, cpu_us, rounds, seconds, show) for times in TIMES}
    return {"capacity": capacity, "cpu_us": cpu_us, "times": found}


def _measure(
    server: Server, capacity: float, times: float, cpu_us: float, rounds: int, seconds: float, show: Show
) -> Study:
    shares, longest, refusal_us = [], [], []
    statuses: Counter[int] = Counter()
    for number in range(1, rounds + 1):
        show(f"{times:g} times the capacity, round {number} of {rounds}")
        before = server.running.cpu_s()
        mixed = Load(server.running.port, server.calls.requests(CALL), CONNECTIONS)
        outcome = load.run(mixed.run_open(load.even_arrivals(capacity * times, seconds)))
        spent = server.running.cpu_s() - before
        in_time = sum(latency <= OBJECTIVE_S for latency in outcome.successes)
        shares.append(in_time / seconds / (capacity * min(times, 1)))
        longest.append(max(latency for latencies in outcome.latencies.values() for latency in latencies))
        statuses += outcome.statuses + Counter({0: outcome.unanswered})
        refusal_us += _refusal_us(outcome, spent, cpu_us)
    return {
        "good_share": median(shares),
        "longest_s": max(longest),
        "refusal_us": median(refusal_us) if refusal_us else None,
        "statuses": {str(status): number for status, number in statuses.items()},
    }


def _refusal_us(outcome: Outcome, cpu_s: float, cpu_us: float) -> list[float]:
    """Return the CPU of one refusal: what the good answers do not explain, or nothing where few were refused."""
    refused, good = outcome.statuses[503], len(outcome.successes)
    return [(cpu_s * 1e6 - good * cpu_us) / refused] if refused > good else []
