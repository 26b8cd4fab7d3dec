"""The runbook's statements for psql, on a PostgreSQL with a session that holds a row, one that waits, and a slot."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.observability.sources import RUNBOOK
from tests.postmaster import Postmaster
from tests.support import wait_until

BLOCKS = re.findall(r"^## (\w+)$|^```sql\n(.*?)^```", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL)
HOLD = "BEGIN; UPDATE example SET title = 'held'"
WAIT = "UPDATE example SET title = 'awaited'"
WAITS = "SELECT 1 FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
CULPRITS = {
    "LocksAwaitedInVain": rf"idle in transaction.*{HOLD}",
    "ConnectionsNearlyExhausted": "postgres.*idle in transaction",
    "TransactionStaysOpen": rf"idle in transaction.*{HOLD}",
    "DeadRowsPileUp": rf"idle in transaction: {HOLD}",
    "WalPilesUp": "standby.*physical.*False.*reserved",
    "DatabaseGrowsFast": "example.*kB",
    "DatabaseCannotWrite": r"default_transaction_read_only=on",
}


def statements() -> Iterator[tuple[str, str]]:
    """Each statement, with the alert of its section."""
    alert = ""
    for heading, block in BLOCKS:
        alert = heading or alert
        yield from ((alert, statement) for statement in block.split(";\n") if statement.strip())


@pytest.fixture
def troubled(postmaster: Postmaster) -> Iterator[str]:
    """A database in trouble, by its name."""
    name = postmaster.new_database()
    postmaster.ask("INSERT INTO example (user_id, title, completed) VALUES ('alice', 'one', false)", name)
    postmaster.ask("SELECT pg_create_physical_replication_slot('standby', true)")
    with ThreadPoolExecutor(1) as waiting, closing(postmaster.connect(name)) as holder:
        holder.cursor().execute(HOLD)
        waiting.submit(postmaster.ask, WAIT, name)
        wait_until(lambda: postmaster.ask(WAITS))
        postmaster.ask(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        yield name
        holder.close()
    postmaster.ask("SELECT pg_drop_replication_slot('standby')")


def test_the_statements_find_the_culprit(postmaster: Postmaster, troubled: str) -> None:
    """Each runs as it stands on the page, and its section's rows name who is to blame."""
    found: dict[str, str] = {}
    for alert, statement in statements():
        rows = postmaster.ask(statement, troubled)
        found[alert] = found.get(alert, "") + "\n".join(map(str, rows))
    assert found.keys() >= CULPRITS.keys()
    missing = {alert: found[alert] for alert, culprit in CULPRITS.items() if not re.search(culprit, found[alert])}
    assert not missing
