"""More requests than a process can answer: how many are answered well all the same, and what a refusal costs."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from socket import create_connection
from statistics import median

from app.settings import Settings
from benchmarks import load
from benchmarks.calls import make_token, open_cursor, request
from benchmarks.load import GRACE_S, Load
from benchmarks.rounds import CONNECTIONS, WARM_UP_S, Cost, Server, Show, measure_call
from benchmarks.servers import LIMIT, PROJECT, Mode
from benchmarks.studies import Study

OBJECTIVE_S = 0.25  # of observability/prometheus
MANY = 400  # connections
TIMES = (0.7, 3, 10)
CALL = "mix"
PATIENT = Mode(PROJECT, LIMIT | {"REQUEST_DEADLINE_MS": "60000"})  # so that what holds the places waits long enough
PLACES: int = Settings.model_fields["max_in_flight"].default


def measure_overload(server: Server, rounds: int, seconds: float, show: Show) -> Study:
    """Return the capacity of the mix, and what becomes of requests at so many times that, evenly spaced."""
    usual = Cost()
    for number in range(1, rounds + 1):
        show(f"capacity of the mix, round {number} of {rounds}")
        measure_call(server, CALL, seconds, usual)
    capacity = usual.median("per_second")
    found = {f"{times:g}": _measure(server, capacity, times, rounds, seconds, show) for times in TIMES}
    return {"capacity": capacity, "cpu_us": usual.median("cpu_us"), "times": found}


def _measure(server: Server, capacity: float, times: float, rounds: int, seconds: float, show: Show) -> Study:
    shares, longest = [], []
    statuses: Counter[int] = Counter()
    for number in range(1, rounds + 1):
        show(f"{times:g} times the capacity, round {number} of {rounds}")
        mixed = Load(server.running.port, server.calls.requests(CALL), MANY)
        outcome = load.run(mixed.run_open(load.even_arrivals(capacity * times, seconds)))
        in_time = sum(latency <= OBJECTIVE_S for latency in outcome.successes)
        shares.append(in_time / seconds / (capacity * min(times, 1)))
        waits = [latency for latencies in outcome.latencies.values() for latency in latencies]
        longest.append(GRACE_S if outcome.unanswered else max(waits))
        statuses += outcome.statuses
    return {
        "good_share": median(shares),
        "refused_share": statuses[503] / statuses.total(),
        "longest_s": max(longest),
        "statuses": {str(status): number for status, number in statuses.items()},
    }


def measure_refusal(server: Server, superuser_url: str, rounds: int, seconds: float, show: Show) -> float:
    """Return the CPU us of one refusal, while changes that wait for a row have all places of a PATIENT server."""
    user, example = server.calls.examples[0]
    reads, port = server.calls.requests("get"), server.running.port
    found = []
    with locked(superuser_url, example), full(port, user, example):
        load.run(Load(port, reads, CONNECTIONS).run_closed(WARM_UP_S))
        for number in range(1, rounds + 1):
            show(f"refusals, round {number} of {rounds}")
            before = server.running.cpu_s()
            outcome = load.run(Load(port, reads, CONNECTIONS).run_closed(seconds))
            if outcome.statuses.keys() != {HTTPStatus.SERVICE_UNAVAILABLE}:
                raise RuntimeError(f"not every request was refused: {dict(outcome.statuses)}")
            found.append((server.running.cpu_s() - before) / outcome.statuses.total() * 1e6)
    return median(found)


@contextmanager
def locked(superuser_url: str, example: int) -> Iterator[None]:
    """Keep a row from being changed."""
    with open_cursor(superuser_url) as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT FROM example WHERE id = %s FOR UPDATE", (example,))
        yield


@contextmanager
def full(port: int, user: str, example: int) -> Iterator[None]:
    """Have as many changes of a row on their way as the server lets in."""
    change = request("PATCH", f"/api/examples/{example}", make_token(user), b'{"title": "held"}')
    with ExitStack() as stack:
        for _ in range(PLACES):
            stack.enter_context(create_connection(("127.0.0.1", port))).sendall(change)
        yield
