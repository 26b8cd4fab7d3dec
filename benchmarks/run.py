"""A whole run: what is started for it, what is measured in which order, and what is kept."""

import fcntl
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app import migrations
from app.settings import Settings
from benchmarks import studies
from benchmarks.calls import CALLS, Calls, cursor_at, seeded
from benchmarks.lists import pages
from benchmarks.rounds import Cost, Costs, Server, Tell, measured
from benchmarks.servers import MODES, OTHER_CORES, ROOT, Mode, free_port, pin, process, running
from benchmarks.targets import MEASURED, ratios
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
    """How much is measured: rounds of seconds a call, starts, requests for memory, tasks for lists."""

    rounds: int
    seconds: float
    starts: int
    requests: int
    tasks: int


FULL = Length(rounds=5, seconds=2.0, starts=5, requests=1_000_000, tasks=1_000_000)
QUICK = Length(rounds=3, seconds=0.7, starts=2, requests=100_000, tasks=50_000)


@dataclass(frozen=True)
class Bench:
    """What the servers need: databases, and a receiver of spans."""

    postgres: Postgres
    receiver: str

    @property
    def urls(self) -> dict[str, str]:
        """The databases, as the servers' login."""
        return {name: self.postgres.url(f"bench_{name}") for name in DATABASES}

    def superuser_url(self, name: str) -> str:
        """Return a database's URL as whoever may insert for anybody."""
        return self.postgres.superuser_url(f"bench_{name}")


@contextmanager
def bench() -> Iterator[Bench]:
    """Start a PostgreSQL with empty databases, and a receiver; all of it on the other cores, with us.

    Raises:
        RuntimeError: another one runs in this checkout: both would measure each other.

    """
    pin(os.getpid(), OTHER_CORES)
    port = free_port()
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        if not try_lock(stack.enter_context((STATE / "bench.lock").open("ab")), fcntl.LOCK_EX):
            raise RuntimeError("another benchmark runs in this checkout")
        server = stack.enter_context(postgres(STATE))
        stack.enter_context(process(["-m", "benchmarks.sink", str(port)], {"PATH": os.environ["PATH"]}, OTHER_CORES))
        with cursor_at(server.superuser_url()) as cursor:
            for name in DATABASES:
                cursor.execute(f"DROP DATABASE IF EXISTS bench_{name} WITH (FORCE)")
                cursor.execute(f"CREATE DATABASE bench_{name} OWNER tasks")
        found = Bench(server, f"http://127.0.0.1:{port}")
        migrations.migrate(Settings(database_url=found.urls["tasks"]))
        yield found


@contextmanager
def started(bench: Bench, modes: Mapping[str, Mode], tell: Tell) -> Iterator[dict[str, Server]]:
    """Start a server in each mode, on databases with the same tasks."""
    calls: dict[str, Calls] = {}
    with ExitStack() as stack:
        servers = {}
        for name, mode in modes.items():
            tell(f"starting {name}")
            server = stack.enter_context(running(mode, bench.urls, bench.receiver))
            if mode.database not in calls:
                calls[mode.database] = seeded(bench.superuser_url(mode.database))
            servers[name] = Server(server, calls[mode.database])
        yield servers


def whole(length: Length, tell: Tell) -> dict[str, Any]:
    """Measure everything; the result is what is written as JSON."""
    with bench() as ready:
        with started(ready, MODES, tell) as servers:
            costs = measured(servers, CALLS, length.rounds, length.seconds, tell)
            kept = {name: kept_of(costs, name, server.running.rss_mib()) for name, server in servers.items()}
        capacity = costs["on"]["get"].middle("per_second")
        pair = {name: MODES[name] for name in ("off", "on")}
        with started(ready, pair, tell) as servers:
            steady = studies.steady(servers, capacity / 2, length.rounds, length.seconds * 2, tell)
            near = studies.pressed(servers["on"], capacity, 0.7, length.rounds, length.seconds * 2, tell)
            beyond = studies.pressed(servers["on"], capacity, 3, length.rounds, length.seconds * 2, tell)
            memory = studies.memory(servers["on"], length.requests, tell)
            lists = pages(servers["on"].running, ready.superuser_url("tasks"), 1000, length.tasks, tell)
        start = studies.start(
            {name: MODES[name] for name in ("on", "textbook on")}, ready.urls, ready.receiver, length.starts, tell
        )
    return {
        "machine": machine(),
        "packages": {name: version(name) for name in PACKAGES},
        "length": vars(length),
        "ratios": ratios(cpu_us(costs)),
        "costs": kept,
        "start": start,
        "memory": memory,
        "lists": lists,
        "steady": steady,
        "70 %": near,
        "3 times": beyond,
    }


def compared(length: Length, tell: Tell) -> dict[str, float]:
    """Measure only what the ratios need."""
    with bench() as ready, started(ready, {name: MODES[name] for name in COMPARED}, tell) as servers:
        return ratios(cpu_us(measured(servers, MEASURED, length.rounds, length.seconds, tell)))


def cpu_us(costs: Costs) -> dict[str, dict[str, float]]:
    """Return the CPU a request in each mode of each call."""
    return {mode: {call: cost.middle("cpu_us") for call, cost in found.items()} for mode, found in costs.items()}


def kept_of(costs: Costs, mode: str, rss_mib: float) -> dict[str, Any]:
    """Return what is kept of a mode."""
    names = [found.name for found in fields(Cost)]
    calls = {
        call: {name: round(cost.middle(name), 2) for name in names} | {"spread": round(cost.spread(), 3)}
        for call, cost in costs[mode].items()
    }
    return {"calls": calls, "rss_mib": round(rss_mib, 1)}


def machine() -> str:
    """Return one line on where this ran."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = named[0] if named else platform.processor()
    return f"{os.cpu_count()} cores of {processor}, {platform.system()}, Python {platform.python_version()}"
