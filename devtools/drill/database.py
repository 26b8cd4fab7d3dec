"""Incidents of the database."""

from collections.abc import Iterator
from contextlib import contextmanager

from devtools.drill.incident import BUDGET, Incident, Load, Sign, Step, series
from devtools.drill.target import FAULTY_CODE, Target
from devtools.traffic.actions import User, asking

HEAVY, LOCKED = "heavy", "locked"
MANY = 100_000
NOWHERE = "Number 77 of nothing"  # in no row, so that each row is looked at
INSERT = """
    INSERT INTO {table} (user_id, title, description, completed)
    SELECT '{user}', 'Row ' || n, repeat('Number ' || n || ' of many. ', 10), false FROM generate_series(1, {rows}) n
"""
DELETE = "DELETE FROM {table} WHERE user_id = '{user}'"
TIME_OF_STATEMENTS = (
    'topk(5, sum by (operation, table) (rate(db_client_operation_duration_seconds_sum{job="task-api"}[5m])))'
)
LOCK = "SELECT id FROM {table} WHERE user_id = '{user}' FOR UPDATE"


@contextmanager
def rows_of(target: Target, user: str, rows: int) -> Iterator[None]:
    """Give a user so many rows, until the block ends."""
    names = {"table": target.table, "user": user, "rows": rows}
    delete = DELETE.format(**names)
    with target.altered([delete, INSERT.format(**names), f"ANALYZE {target.table}"], [delete]):
        yield


async def search_many(user: User) -> None:
    """Search for a text that no row has."""
    await user.send("search", "GET", params={"q": NOWHERE})


@contextmanager
def row_locked(target: Target) -> Iterator[None]:
    """Hold a row in a transaction that never ends, as a forgotten psql does."""
    with rows_of(target, LOCKED, 1), target.session("BEGIN", LOCK.format(table=target.table, user=LOCKED)):
        yield


async def change_first(user: User) -> None:
    """Change the user's newest row."""
    page = await user.send("list", "GET", params={"limit": "1"})
    for row in page.json() if page and page.is_success else ():
        await user.send("change", "PATCH", f"/{row['id']}", json={"title": "Changed"})


SLOW_SEARCH = Incident(
    name="slow-search",
    sentence="A user has so many rows that a search, which no index serves, reads them all.",
    alert="QueriesSlow",
    signs=(Sign("span", "app.db.plan.seq_scan_tables", "{table}"), Sign("span", "app.db.plan.rows_removed", r"\d{4,}")),
    steps=(Step("db_slow_queries_total", series(operation="SELECT", table="{table}")),),
    also=BUDGET,
    inject=lambda target: rows_of(target, HEAVY, MANY),
    load=Load(search_many, 1.6, HEAVY),
)

ROW_LOCKED = Incident(
    name="row-locked",
    sentence="A session holds a row in a transaction that it never ends, and changes wait for it in vain.",
    alert="LocksAwaitedInVain",
    signs=(Sign("span", "db.response.status_code", "55P03"), Sign("line", "code", "database_busy")),
    steps=(
        Step("db_errors_total", series(code="55P03")),
        Step("pg_blocking_pids", "idle in transaction.*SELECT id FROM {table}"),
    ),
    also=BUDGET | {"QueriesSlow", "TransactionStaysOpen"},
    inject=row_locked,
    load=Load(change_first, 0.8, LOCKED),
)

POOL_FULL = Incident(
    name="pool-full",
    sentence="A release asks with a statement that takes so long that all connections of the pool are busy.",
    alert="PoolSaturated",
    signs=(Sign("span", "code.function.name", "ask_slowly"), Sign("line", "longest_query", "SELECT {table}")),
    steps=(Step(TIME_OF_STATEMENTS, series("[3-9].*|1.*", operation="SELECT", table="{table}")),),
    also=BUDGET | {"QueriesSlow"},
    needs=frozenset({FAULTY_CODE}),
    load=Load(asking("/api/drill/slow-statement"), 13),
)

INCIDENTS = (SLOW_SEARCH, ROW_LOCKED, POOL_FULL)
