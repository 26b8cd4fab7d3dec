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

from benchmarks import peers, studies
from benchmarks.calls import CALLS, Calls, insert_examples, open_cursor
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
COMPARED = ("off", "on", "textbook off", "textbook on", "floor")
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
    """How much is measured: rounds of seconds a call, starts, requests for memory, examples for lists."""

    rounds: int
    seconds: float
    starts: int
    requests: int
    examples: int


FULL = Length(rounds=5, seconds=2.0, starts=5, requests=1_000_000, examples=1_000_000)
QUICK = Length(rounds=3, seconds=0.7, starts=2, requests=100_000, examples=50_000)


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
            summaries = {name: summarise(costs, name, server.running.rss_mib()) for name, server in servers.items()}
        capacity = costs["on"]["get"].median("per_second")
        pair = {name: MODES[name] for name in ("off", "on")}
        with start_servers(bench, pair, show) as servers:
            steady = studies.measure_steady_load(servers, capacity / 2, length.rounds, length.seconds * 2, show)
            near = studies.measure_overload(servers["on"], capacity, 0.7, length.rounds, length.seconds * 2, show)
            beyond = studies.measure_overload(servers["on"], capacity, 3, length.rounds, length.seconds * 2, show)
            memory = studies.measure_memory(servers["on"], length.requests, show)
            lists = measure_pages(servers["on"].running, bench.superuser_url("tasks"), 1000, length.examples, show)
        start = studies.measure_start(
            {name: MODES[name] for name in ("on", "textbook on")}, bench.urls, bench.receiver, length.starts, show
        )
    return {
        "machine": describe_machine(),
        "packages": {name: version(name) for name in PACKAGES},
        "length": vars(length),
        "ratios": ratios(cpu_us(costs)),
        "costs": summaries,
        "start": start,
        "memory": memory,
        "lists": lists,
        "steady": steady,
        "70 %": near,
        "3 times": beyond,
    }


def measure_ratios(length: Length, show: Show) -> dict[str, float]:
    """Measure only what the ratios need. Return them."""
    with start_bench() as bench, start_servers(bench, {name: MODES[name] for name in COMPARED}, show) as servers:
        return ratios(cpu_us(measure_costs(servers, MEASURED, length.rounds, length.seconds, show)))


def measure_instructions(show: Show) -> dict[str, dict[str, float]]:
    """Return the thousands of instructions a request in each mode that is compared.

    Raises:
        NoValgrind: it is not installed.
    """
    modes = {name: MODES[name] for name in (*COMPARED, "on at 10 %")}
    with start_bench() as bench:
        with start_servers(bench, modes, show) as servers:  # the textbook makes its own table
            calls = {modes[name].database: server.calls for name, server in servers.items()}
        return count_instructions(modes, bench.urls, bench.receiver, calls, show)


def cpu_us(costs: Costs) -> dict[str, dict[str, float]]:
    """Return the CPU a request in each mode of each call."""
    return {mode: {call: cost.median("cpu_us") for call, cost in found.items()} for mode, found in costs.items()}


def summarise(costs: Costs, mode: str, rss_mib: float) -> dict[str, Any]:
    """Return the medians and the memory of a mode, as they are written."""
    names = [found.name for found in fields(Cost)]
    calls = {
        call: {name: round(cost.median(name), 2) for name in names} | {"spread": round(cost.spread(), 3)}
        for call, cost in costs[mode].items()
    }
    return {"calls": calls, "rss_mib": round(rss_mib, 1)}


def describe_machine() -> str:
    """Return one line about this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    return f"{os.cpu_count()} cores of {processor}, {platform.system()}, Python {platform.python_version()}"
