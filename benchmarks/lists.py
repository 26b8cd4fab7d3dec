"""Long lists: the first page of few examples against a late page of many, in time and in blocks that are read."""

from itertools import repeat
from statistics import median
from typing import Any

from sqlalchemy import create_engine

from app.db.pool import PREAMBLES
from app.db.roles import ROLE
from benchmarks import load
from benchmarks.calls import insert_owned, make_token, open_cursor, request
from benchmarks.load import Load
from benchmarks.rounds import Show
from benchmarks.servers import ServerProcess
from benchmarks.studies import Study
from devtools.examples.queries import LIST

LATE = 500
LENGTH = 50
ROUNDS = 5
SECONDS = 1.5

_ENGINE = create_engine("postgresql+psycopg2://")  # only compiles a statement; it does not connect


def measure_pages(server: ServerProcess, superuser_url: str, few: int, many: int, show: Show) -> Study:
    """Return what the first and a late page cost: the median time in ms, and the blocks of table and index."""
    show(f"lists: inserting {few + many:,} examples")
    with open_cursor(superuser_url) as cursor:
        last = {examples: insert_owned(cursor, _owner(examples), examples) for examples in (few, many)}
        cursor.execute("VACUUM ANALYZE example")
        after = last[many] - (LATE - 1) * LENGTH + 1
        wanted = {"first of few": (few, None), "first of many": (many, None), "late of many": (many, after)}
        blocks = {name: _blocks(cursor, *page) for name, page in wanted.items()}
    times: dict[str, list[float]] = {name: [] for name in wanted}
    for number in range(1, ROUNDS + 1):
        show(f"lists: round {number} of {ROUNDS}")
        for name, page in wanted.items():
            times[name].append(
                load.run(Load(server.port, repeat(_request(*page)), 1).run_closed(SECONDS)).percentile_ms(50)
            )
    p50 = {name: median(found) for name, found in times.items()}
    return {
        "few": few,
        "many": many,
        "p50_ms": p50,
        "blocks": blocks,
        "ratio": p50["late of many"] / p50["first of few"],
    }


def _owner(examples: int) -> str:
    return f"owner-of-{examples}"


def _request(examples: int, after: int | None) -> bytes:
    cursor = f"&cursor={LIST.orders['newest'].encode({'id': after})}" if after else ""
    return request("GET", f"/api/examples?limit={LENGTH}{cursor}", make_token(_owner(examples)))


def _blocks(cursor: Any, examples: int, after: int | None) -> int:
    statement = LIST.page("newest", ("cursor",) if after else ()).compile(_ENGINE)
    cursor.execute("BEGIN")
    cursor.execute(PREAMBLES[ROLE], (_owner(examples), "60000", "1000"))
    parameters = {"owner": _owner(examples), "page_limit": LENGTH + 1, "after_id": after}
    cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
    plan = cursor.fetchone()[0][0]["Plan"]
    cursor.execute("ROLLBACK")
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
