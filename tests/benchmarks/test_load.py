"""The load generator: what it sends, when, and which latencies it reports."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from itertools import pairwise, repeat
from statistics import mean
from threading import Event
from time import monotonic

import pytest

from benchmarks import load
from benchmarks.calls import request
from benchmarks.load import Load
from tests.support import Api, make_token, run_handler

HEALTH = request("GET", "/health/live")


@contextmanager
def run_stalling_server(answers: int, seconds: float) -> Iterator[int]:
    """Run a server that sends the first answers at once, and the others `seconds` after the first. Yield its port."""
    started: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            started.append(monotonic())
            if len(started) > answers:
                Event().wait(max(0.0, started[0] + seconds - monotonic()))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with run_handler(Handler) as port:
        yield port


def test_a_closed_loop_keeps_each_connection_busy(shared_api: Api) -> None:
    """Every answer is counted once, under its status."""
    outcome = load.run(Load(shared_api.port, repeat(HEALTH), 3).run_closed(0.5))
    assert outcome.statuses.keys() == {200}
    assert len(outcome.successes) == outcome.statuses[200] > 10
    assert outcome.percentile_ms(50) <= outcome.percentile_ms(99) < 1000


def test_refusals_are_told_from_successes(shared_api: Api) -> None:
    """A percentile counts only successes: refusals are quick."""
    requests = iter([request("GET", "/api/examples"), request("GET", "/api/examples", make_token("alice"))] * 10_000)
    outcome = load.run(Load(shared_api.port, requests, 1).run_closed(0.3))
    assert outcome.statuses.keys() == {200, 401}
    assert len(outcome.successes) == outcome.statuses[200]


def test_an_open_loop_sends_what_was_due(shared_api: Api) -> None:
    """There are as many requests as arrivals, however long the answers take."""
    outcome = load.run(Load(shared_api.port, repeat(HEALTH), 4).run_open(load.even_arrivals(100, 0.5)))
    assert (outcome.statuses, outcome.unanswered) == ({200: 50}, 0)


def test_waiting_for_a_slow_server_counts() -> None:
    """The only connection stalls for half a second. The latency of each request that was due then counts the wait."""
    with run_stalling_server(answers=5, seconds=0.6) as port:
        outcome = load.run(Load(port, repeat(HEALTH), 1).run_open(load.even_arrivals(100, 0.4)))
    assert outcome.statuses == {200: 40}
    assert sum(seconds > 0.15 for seconds in outcome.successes) > 30


@pytest.mark.parametrize("arrive", [load.even_arrivals, load.poisson_arrivals])
def test_arrivals_keep_the_rate(arrive: load.Arrivals) -> None:
    """Arrivals are in order, within the time, and about as many as the rate says."""
    arrivals = list(arrive(500, 4))
    assert arrivals == sorted(arrivals)
    assert 1800 < len(arrivals) < 2200
    assert arrivals[-1] < 4


def test_independent_users_come_in_bursts() -> None:
    """The gaps of Poisson arrivals are exponential: a tenth of them is at most a tenth of the mean."""
    gaps = [later - earlier for earlier, later in pairwise(load.poisson_arrivals(500, 4))]
    assert 0.05 < mean(gap < mean(gaps) / 10 for gap in gaps) < 0.15
    assert list(load.poisson_arrivals(500, 4)) == list(load.poisson_arrivals(500, 4))
