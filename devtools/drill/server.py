"""Incidents of the database's server, and of others who use it."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from devtools.drill.database import HEAVY, rows_of
from devtools.drill.incident import BUDGET, Incident, Load, Sign, Step, series
from devtools.drill.target import FAULTY_CODE, Target
from devtools.traffic.actions import User

STORM = "report"  # what the sessions of another program are called
TAKE_ALL = f"""DO $$ DECLARE
    address text := format('dbname=%L user=tasks host=%L port=%L application_name={STORM}', current_database(),
        split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'));
BEGIN
    FOR number IN 1..500 LOOP
        PERFORM dblink_connect(gen_random_uuid()::text, address);
    END LOOP;
EXCEPTION WHEN OTHERS THEN NULL;  -- there are no more
END $$"""
END_OURS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'task-api'"
READ_ONLY = "ALTER ROLE tasks {} default_transaction_read_only"
REFUSE_ROOM = """CREATE FUNCTION drill_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION USING errcode = '53100', message = 'could not extend file: No space left on device';
END $$"""
REFUSE_INSERTS = "CREATE TRIGGER drill_refuse BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION drill_refuse()"
DEAD = 60_000
READ = "SELECT count(*) FROM {}"
CHANGE = "UPDATE {table} SET title = title WHERE user_id = '{user}'"
SLOT = "drill"
WRITE_WAL = [f"SELECT pg_logical_emit_message(true, '{SLOT}', 'a segment of WAL')", "SELECT pg_switch_wal()"]
DROP_SLOT = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'drill'"
SEGMENTS = 8  # of 16 MB
SMALL = ["ALTER SYSTEM SET min_wal_size = '32MB'", "ALTER SYSTEM SET max_wal_size = '32MB'"]
USUAL = ["ALTER SYSTEM RESET min_wal_size", "ALTER SYSTEM RESET max_wal_size"]
RELOAD = "SELECT pg_reload_conf()"


@contextmanager
def connections_taken(target: Target) -> Iterator[None]:
    """Take every connection that is free, as a program does that opens one for each of its own requests."""
    with _with_dblink(target), target.session(TAKE_ALL):
        yield


@contextmanager
def connections_lost(target: Target) -> Iterator[None]:
    """Take every connection, those of the application as well."""
    with _with_dblink(target), target.session(TAKE_ALL, *[END_OURS, TAKE_ALL] * 5):
        yield


@contextmanager
def _with_dblink(target: Target) -> Iterator[None]:
    with target.altered(["CREATE EXTENSION IF NOT EXISTS dblink"], ["DROP EXTENSION IF EXISTS dblink"]):
        yield


@contextmanager
def read_only(target: Target) -> Iterator[None]:
    """Let the application's sessions read only, as those of a standby do."""
    do = f"{READ_ONLY.format('SET')} = on"
    with target.altered([do, END_OURS], [READ_ONLY.format("RESET"), END_OURS]):
        yield


@contextmanager
def no_room(target: Target) -> Iterator[None]:
    """Refuse new rows as a server does whose disk is full."""
    undo = [f"DROP TRIGGER IF EXISTS drill_refuse ON {target.table}", "DROP FUNCTION IF EXISTS drill_refuse"]
    with target.altered([*undo, REFUSE_ROOM, REFUSE_INSERTS.format(target.table)], undo):
        yield


@contextmanager
def transaction_open(target: Target) -> Iterator[None]:
    """Read a row in a transaction that nobody ends."""
    with target.session("BEGIN ISOLATION LEVEL REPEATABLE READ", READ.format(target.table)):
        yield


@contextmanager
def vacuum_held_back(target: Target) -> Iterator[None]:
    """Change many rows again and again, while a transaction may still need each of their versions."""
    with ExitStack() as stack:
        stack.enter_context(rows_of(target, HEAVY, DEAD))
        stack.enter_context(transaction_open(target))
        target.ask(*[CHANGE.format(table=target.table, user=HEAVY)] * 3)
        yield


@contextmanager
def wal_kept(target: Target) -> Iterator[None]:
    """Keep WAL in a replication slot that nobody reads."""
    do = [*SMALL, RELOAD, f"SELECT pg_create_physical_replication_slot('{SLOT}', true)", *WRITE_WAL * SEGMENTS]
    with target.altered(do, [DROP_SLOT, *USUAL, RELOAD, *WRITE_WAL, "CHECKPOINT", *WRITE_WAL, "CHECKPOINT"]):
        yield


async def cross(user: User) -> None:
    """Send two requests, each of which takes first what the other one wants next."""
    paths = (f"/api/drill/crossed?first={first}" for first in (1, 2))
    await asyncio.gather(*(user.visit(path, path) for path in paths))


FROZEN = Incident(
    name="postgres-frozen",
    sentence="PostgreSQL is frozen: connections stay open, and nothing comes back.",
    alert="DatabaseUnanswering",
    signs=(
        Sign("label", "step", "connect"),
        Sign("span", "app.waited_for", "a new connection to PostgreSQL"),
        Sign("line", "unanswered", "connect"),
    ),
    steps=(
        Step("db_client_connection_checks_total", series(step="connect", outcome="unanswered")),
        Step("select(.unanswered)", "connect /api/"),
    ),
    also=BUDGET | {"TargetDown"},
    needs=frozenset({"freeze postgres"}),
    inject=lambda target: target.change("freeze postgres"),
)

CONNECTIONS_TAKEN = Incident(
    name="connections-taken",
    sentence="Another program opens so many connections that the server has hardly one left.",
    alert="ConnectionsNearlyExhausted",
    signs=(Sign("label", "job", "postgres"),),
    steps=(
        Step("topk(5, sum by (usename, application_name, state)", series(r"\d\d", application_name=STORM)),
        Step("client_addr, state, count(*)", rf"^tasks\|{STORM}\|.*\|idle\|\d\d"),
    ),
    inject=connections_taken,
)

CONNECTIONS_LOST = Incident(
    name="connections-refused",
    sentence="Another program has every connection of the server, and so the application gets none.",
    alert="DatabaseRefusesConnections",
    signs=(Sign("label", "step", "connect"), Sign("line", "message", "the database is unavailable: Refused 53300")),
    steps=(
        Step("sum by (code)", series(code="53300")),
        Step("topk(5, sum by (usename, application_name, state)", series(r"\d\d", application_name=STORM)),
    ),
    also=BUDGET | {"ConnectionsNearlyExhausted", "DatabaseUnobserved"},
    inject=connections_lost,
)

READ_ONLY_DATABASE = Incident(
    name="database-read-only",
    sentence="The database is read-only, as after a fail-over: reads go on, and readiness is healthy.",
    alert="DatabaseCannotWrite",
    signs=(
        Sign("label", "code", "25006"),
        Sign("span", "db.response.status_code", "25006"),
        Sign("line", "message", "the database is unavailable: ReadOnlySqlTransaction 25006"),
    ),
    steps=(
        Step("sum by (code)", series(code="25006")),
        Step("default_transaction_read_only", "tasks .*default_transaction_read_only=on"),
    ),
    also=BUDGET,
    inject=read_only,
)

DISK_FULL = Incident(
    name="disk-full",
    sentence="The disk of the database is full, so what needs room is refused.",
    alert="DatabaseCannotWrite",
    signs=(Sign("label", "code", "53100"), Sign("span", "db.response.status_code", "53100")),
    steps=(Step("sum by (code)", series(code="53100")), Step("pg_total_relation_size", r"^{table}\|\d+ [kM]B")),
    also=BUDGET,
    inject=no_room,
)

TRANSACTION_OPEN = Incident(
    name="transaction-open",
    sentence="A session of psql leaves its transaction open, and does nothing.",
    alert="TransactionStaysOpen",
    signs=(Sign("label", "application_name", "psql"), Sign("label", "state", "idle in transaction")),
    steps=(
        Step("pg_stat_activity_max_tx_duration", series(application_name="psql", state="idle in transaction")),
        Step(
            "FROM pg_stat_activity WHERE xact_start", r"psql\|.*idle in transaction\|.*SELECT count\(\*\) FROM {table}"
        ),
    ),
    inject=transaction_open,
)

VACUUM_HELD_BACK = Incident(
    name="vacuum-held-back",
    sentence="A transaction stays open, so vacuum removes none of the rows that changed since.",
    alert="DeadRowsPileUp",
    signs=(Sign("label", "relname", "{table}"),),
    steps=(
        Step("pg_stat_activity_max_tx_duration", series(application_name="psql", state="idle in transaction")),
        Step("'session '", r"^session \d+ of .*idle in transaction: SELECT count\(\*\) FROM {table}"),
    ),
    also=BUDGET | {"TransactionStaysOpen", "QueriesSlow"},
    inject=vacuum_held_back,
)

WAL_KEPT = Incident(
    name="wal-kept",
    sentence="A replication slot that nobody reads keeps the WAL, and the disk fills.",
    alert="WalPilesUp",
    signs=(Sign("label", "job", "postgres"),),
    steps=(
        Step("pg_replication_slots_pg_wal_lsn_diff", series(slot_name=SLOT)),
        Step("pg_wal_lsn_diff(pg_current_wal_lsn()", rf"^{SLOT}\|physical\|f\|"),
    ),
    inject=wal_kept,
)

DEADLOCK = Incident(
    name="deadlock",
    sentence="Two transactions of a release take the same things in a different order, and wait for each other.",
    alert="LocksAwaitedInVain",
    signs=(
        Sign("label", "code", "40P01"),
        Sign("span", "db.response.status_code", "40P01"),
        Sign("line", "route", "/api/drill/crossed"),
    ),
    steps=(Step("sum by (code)", series(code="40P01")), Step('"database_busy"', "/api/drill/crossed")),
    also=BUDGET | {"QueriesSlow"},
    needs=frozenset({FAULTY_CODE}),
    load=Load(cross, 2),
)

INCIDENTS = (
    FROZEN,
    CONNECTIONS_TAKEN,
    CONNECTIONS_LOST,
    READ_ONLY_DATABASE,
    DISK_FULL,
    TRANSACTION_OPEN,
    VACUUM_HELD_BACK,
    WAL_KEPT,
    DEADLOCK,
)
