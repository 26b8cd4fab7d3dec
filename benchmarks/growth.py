"""How cost grows with what a team adds: routes, attributes of spans, users of the limiter, rows."""

import tracemalloc
from collections.abc import Mapping
from itertools import repeat
from time import perf_counter
from typing import Any

from app.ratelimit.limiter import MemoryStorage
from app.settings.types import parse_limits
from benchmarks import load
from benchmarks.calls import SEARCHER, insert_owned, make_token, open_cursor, request
from benchmarks.load import Load
from benchmarks.rounds import Cost, Server, Show, measure_call, measure_requests
from benchmarks.servers import LIMIT, PROJECT, Mode
from benchmarks.studies import Study

ROUTES = (8, 80, 400)
ATTRIBUTES = (0, 8, 32, 96)  # the SDK keeps 128 a span
USERS = (1, 100, 10_000, 100_000, 1_000_000)
FEW = 100  # rows of the user who asks, however many others have
COUNTED = 200_000
LIMITS = parse_limits("1000000000/minute")
ROWS, ROWS_S = (1_000, 10_000, 100_000, 1_000_000, 10_000_000), 1.5


def route_modes() -> Mapping[str, Mode]:
    """Return a mode for each number of routes, flat and nested, before the ones that are called."""
    return {f"{kind} {n}": Mode((*PROJECT, f"--{kind}", str(n)), LIMIT) for kind in ("flat", "nested") for n in ROUTES}


def measure_routes(servers: Mapping[str, Server], rounds: int, seconds: float, show: Show) -> Study:
    """Return the CPU us of reading one example behind so many routes of others."""
    costs = {name: Cost() for name in servers}
    for number in range(1, rounds + 1):
        for name, server in servers.items():
            show(f"routes, round {number} of {rounds}: {name}")
            measure_call(server, "get", seconds, costs[name])
    found = {name: cost.median("cpu_us") for name, cost in costs.items()}
    return {kind: {str(n): found[f"{kind} {n}"] for n in ROUTES} for kind in ("flat", "nested")}


def measure_attributes(server: Server, rounds: int, seconds: float, show: Show) -> Study:
    """Return the CPU us of a request that sets so many attributes on its span."""
    token, costs = make_token(SEARCHER), {n: Cost() for n in ATTRIBUTES}
    for number in range(1, rounds + 1):
        for n, cost in costs.items():
            show(f"attributes, round {number} of {rounds}: {n}")
            sent = repeat(request("GET", f"/api/team/attributes/{n}", token))
            measure_requests(server, f"{n} attributes", sent, seconds, cost)
    return {str(n): cost.median("cpu_us") for n, cost in costs.items()}


def measure_users(show: Show) -> Study:
    """Return what counting a request takes in the process's own table, in us, and what the table holds, in MiB."""
    found: dict[str, dict[str, float]] = {"us": {}, "MiB": {}}
    for users in USERS:
        show(f"users of the limiter: {users:,}")
        storage = MemoryStorage()
        tracemalloc.start()
        _count(storage, users, users)
        found["MiB"][str(users)] = tracemalloc.get_traced_memory()[0] / 2**20
        tracemalloc.stop()
        found["us"][str(users)] = min(_count(storage, users, COUNTED) for _ in range(3)) / COUNTED * 1e6
    return found


def _count(storage: MemoryStorage, users: int, requests: int) -> float:
    """Count requests of so many users in turn. Return the seconds."""
    names = (f"user-{number % users}" for number in range(requests))
    begun = perf_counter()
    for name in names:
        storage.count(name, LIMITS)
    return perf_counter() - begun


def measure_rows(server: Server, superuser_url: str, most: int, show: Show) -> Study:
    """Return the median ms of one user's calls in a table with so many rows, all but a few of them of another user."""
    found: dict[str, dict[str, float]] = {"read one": {}, "list 50": {}}
    with open_cursor(superuser_url) as cursor:
        cursor.execute("TRUNCATE example")
        wanted = _requests(insert_owned(cursor, "few", FEW))
        held = FEW
        for rows in (n for n in ROWS if n <= most):
            show(f"rows: {rows:,}")
            _insert_many(cursor, rows - held)
            held = rows
            for name, sent in wanted.items():
                outcome = load.run(Load(server.running.port, repeat(sent), 1).run_closed(ROWS_S))
                found[name][str(rows)] = outcome.percentile_ms(50)
    return found


def _requests(newest: int) -> dict[str, bytes]:
    token = make_token("few")
    return {
        "read one": request("GET", f"/api/examples/{newest}", token),
        "list 50": request("GET", "/api/examples?limit=50", token),
    }


def _insert_many(cursor: Any, rows: int) -> None:
    """Insert rows of another user without the indexes, which are built afterwards: that is several times as fast."""
    cursor.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'example'")
    indexes = [(name, definition) for name, definition in cursor.fetchall() if name != "example_pkey"]
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}")
    insert_owned(cursor, "many", rows)
    for _, definition in indexes:
        cursor.execute(definition)
    cursor.execute("VACUUM ANALYZE example")
