"""A run of all measurements: what it starts, in which order it measures, and what it returns."""

import fcntl
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import growth, overload, peers, studies
from benchmarks.calls import CALLS, HEAVY, Calls, insert_examples, insert_searched, open_cursor
from benchmarks.instructions import count_instructions
from benchmarks.lists import measure_pages
from benchmarks.rounds import Cost, Costs, Server, Show, measure_costs
from benchmarks.servers import MODES, OTHER_CORES, ROOT, Mode, free_port, pin, run_process, run_server
from benchmarks.targets import MEASURED, ratios
from devtools.examples.schema import migrate
from devtools.postgres import Server as Postgres
from devtools.postgres import postgres
from devtools.postgres.home import try_lock

STATE = ROOT / ".dev" / "bench"
DATABASES = ("tasks", "textbook")
COMPARED = ("off", "on", "textbook off", "textbook on", "floor", "on at 10 %")
PAIR = ("off", "on")
BURDENED = ("off", "on", "textbook off", "textbook on")  # the floor has no other calls
PACKAGES = (
    "fastapi",
    "starlette",
    "pydantic",
    "sqlalchemy",
    "sqlmodel",
    "psycopg2-binary",
    "uvicorn",
    "uvloop",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-fastapi",
    "prometheus-fastapi-instrumentator",
    "slowapi",
)


@dataclass(frozen=True)
class Length:
    """How much is measured: rounds of seconds a call, starts, requests for memory, examples for lists and growth."""

    rounds: int
    seconds: float
    starts: int
    requests: int
    examples: int
    rows: int


FULL = Length(rounds=5, seconds=2.0, starts=5, requests=200_000, examples=1_000_000, rows=10_000_000)
QUICK = Length(rounds=3, seconds=0.7, starts=2, requests=100_000, examples=50_000, rows=100_000)


@dataclass(frozen=True)
class Bench:
    """What the servers need: databases, and the URL of a receiver of spans."""

    postgres: Postgres
    receiver: str

    @property
    def urls(self) -> dict[str, str]:
        """The URLs of the databases, with the servers' login."""
        return {name: self.postgres.url(f"bench_{name}") for name in DATABASES}

    def superuser_url(self, name: str) -> str:
        """Return a database's URL with a login that may insert rows of any user."""
        return self.postgres.superuser_url(f"bench_{name}")


@contextmanager
def start_bench() -> Iterator[Bench]:
    """Start a PostgreSQL with empty databases, and a receiver of spans, on the other cores.

    Raises:
        RuntimeError: another benchmark runs in this checkout. It would change the numbers.
    """
    pin(os.getpid(), OTHER_CORES)
    port = free_port()
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        if not try_lock(stack.enter_context((STATE / "bench.lock").open("ab")), fcntl.LOCK_EX):
            raise RuntimeError("another benchmark runs in this checkout")
        server = stack.enter_context(postgres(STATE))
        stack.enter_context(
            run_process([sys.executable, "-m", "benchmarks.sink", str(port)], {"PATH": os.environ["PATH"]}, OTHER_CORES)
        )
        with open_cursor(server.superuser_url()) as cursor:
            for name in DATABASES:
                cursor.execute(f"DROP DATABASE IF EXISTS bench_{name} WITH (FORCE)")
                cursor.execute(f"CREATE DATABASE bench_{name} OWNER tasks")
        bench = Bench(server, f"http://127.0.0.1:{port}")
        migrate(bench.urls["tasks"])
        yield bench


@contextmanager
def start_servers(bench: Bench, modes: Mapping[str, Mode], show: Show) -> Iterator[dict[str, Server]]:
    """Start a server in each mode. All databases have the same examples."""
    calls: dict[str, Calls] = {}
    with ExitStack() as stack:
        servers = {}
        for name, mode in modes.items():
            show(f"starting {name}")
            server = stack.enter_context(run_server(mode, bench.urls, bench.receiver))
            if mode.database not in calls:
                calls[mode.database] = insert_examples(bench.superuser_url(mode.database))
            servers[name] = Server(server, calls[mode.database])
        yield servers


def measure_all(length: Length, show: Show, *, with_peers: bool = False) -> dict[str, Any]:
    """Measure everything. Return what is written as JSON.

    Raises:
        NoPeer: Fastify is wanted, and cannot be installed.
    """
    with start_bench() as bench:
        others = peers.modes(peers.install(STATE / "fastify"), bench.urls["textbook"]) if with_peers else {}
        with start_servers(bench, {**MODES, **others}, show) as servers:
            costs = measure_costs(servers, CALLS, length.rounds, length.seconds, show)
            summaries = {name: summarise(costs, name) for name in servers}
            held = {name: round(server.running.rss_mib(), 1) for name, server in servers.items()}
            for name in DATABASES:
                insert_searched(bench.superuser_url(name))
            burdened = {name: servers[name] for name in BURDENED}
            heavy = measure_costs(burdened, HEAVY, length.rounds, length.seconds, show)
        return {
            "machine": describe_machine(),
            "packages": {name: version(name) for name in PACKAGES},
            "length": vars(length),
            "ratios": ratios(cpu_us(costs)),
            "costs": summaries,
            "rss_mib": held,
            "heavy": {name: summarise(heavy, name) for name in burdened},
            **measure_growth(bench, length, show),
            **measure_studies(bench, length, show),
        }


def measure_growth(bench: Bench, length: Length, show: Show) -> dict[str, Any]:
    """Measure how cost grows with what a team adds, but for rows."""
    with start_servers(bench, growth.route_modes(), show) as servers:
        routes = growth.measure_routes(servers, length.rounds, length.seconds, show)
        fewest = next(iter(servers.values()))
        attributes = growth.measure_attributes(fewest, length.rounds, length.seconds, show)
    return {"routes": routes, "attributes": attributes, "users": growth.measure_users(show)}


def measure_studies(bench: Bench, length: Length, show: Show) -> dict[str, Any]:
    """Measure latency, overload, memory, start, and what many rows cost. The last one leaves no examples."""
    rounds, seconds = length.rounds, length.seconds * 2
    url = bench.superuser_url("tasks")
    with start_servers(bench, {mode: MODES[mode] for mode in PAIR}, show) as servers:
        on = servers["on"]
        found = {
            "steady": studies.measure_steady_load(servers, rounds, seconds * 2, show),
            "overload": overload.measure_overload(on, rounds, seconds, show),
            "memory": studies.measure_memory(on, length.requests, show),
            "lists": measure_pages(on.running, url, 1000, length.examples, show),
            "rows": growth.measure_rows(on, url, length.rows, show),
        }
    with start_servers(bench, {"patient": overload.PATIENT}, show) as servers:
        patient = servers["patient"]
        found["overload"]["refusal_us"] = overload.measure_refusal(patient, url, rounds, length.seconds, show)
    starting = {name: MODES[name] for name in ("on", "textbook on")}
    return found | {"start": studies.measure_start(starting, bench.urls, bench.receiver, length.starts, show)}


def measure_ratios(length: Length, show: Show) -> dict[str, float]:
    """Measure only what the ratios need. Return them."""
    with start_bench() as bench, start_servers(bench, {name: MODES[name] for name in COMPARED}, show) as servers:
        return ratios(cpu_us(measure_costs(servers, MEASURED, length.rounds, length.seconds, show)))


def measure_instructions(show: Show) -> dict[str, dict[str, float]]:
    """Return the thousands of instructions a request in each mode that is compared.

    Raises:
        NoValgrind: it is not installed.
    """
    modes = {name: MODES[name] for name in COMPARED}
    with start_bench() as bench:
        with start_servers(bench, modes, show) as servers:  # the textbook makes its own table
            calls = {modes[name].database: server.calls for name, server in servers.items()}
        return count_instructions(modes, bench.urls, bench.receiver, calls, show)


def cpu_us(costs: Costs) -> dict[str, dict[str, float]]:
    """Return the CPU a request in each mode of each call."""
    return {mode: {call: cost.median("cpu_us") for call, cost in found.items()} for mode, found in costs.items()}


def summarise(costs: Costs, mode: str) -> dict[str, Any]:
    """Return the medians of a mode, by call, as they are written."""
    names = [found.name for found in fields(Cost)]
    return {
        call: {name: round(cost.median(name), 2) for name in names} | {"spread": round(cost.spread(), 3)}
        for call, cost in costs[mode].items()
    }


def describe_machine() -> str:
    """Return one line about this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    return f"{os.cpu_count()} cores of {processor}, {platform.system()}, Python {platform.python_version()}"
