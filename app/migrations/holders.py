"""Who has the lock that a migration waits for, and what to do about it."""

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text

from app.telemetry.plans import mask

HIDDEN = "<insufficient privilege>"  # what pg_stat_activity shows of other logins' statements
MAX_QUERY = 80  # characters of a query that a line shows
PREAMBLE = re.compile(r"^(/\*[^*]*\*/\s*)?(SELECT set_config\('role'(?:[^';]|'[^']*')*; )?")
UNMASKED = re.compile(r"[EeUu]&?'|\$\w*\$|--|/\*|\*/|\\")  # begins or escapes what `mask` does not know
DESCRIBED = "holder.pid, a.usename, a.query, date_trunc('second', a.xact_start)::text AS since"
OTHER_MIGRATION = text(f"""
    SELECT {DESCRIBED} FROM pg_locks AS holder JOIN pg_stat_activity AS a USING (pid)
    WHERE (locktype, classid, objid, objsubid, granted) = ('advisory', 0, :key, 1, true)
      AND datname = current_database()
""")  # noqa: S608  both parts are ours
BLOCKING = text(f"""
    SELECT {DESCRIBED}, a.usesysid IS NULL AS is_background, (
        SELECT relation::regclass::text FROM pg_locks WHERE pid = waiting.pid AND NOT granted LIMIT 1
    ) AS relation FROM pg_stat_activity AS waiting, unnest(pg_blocking_pids(waiting.pid)) AS holder (pid)
    LEFT JOIN pg_stat_activity AS a ON a.pid = holder.pid
    WHERE waiting.application_name = :name AND waiting.datname = current_database()
      AND waiting.wait_event_type = 'Lock'
""")  # noqa: S608  both parts are ours


@dataclass
class Holder:
    """Who has a lock, and what to do about it."""

    who: str = "somebody who was not seen"
    remedy: str = ""


def describe(holder: Row[Any]) -> str:
    """Return who holds a lock: process, login, since when, and the beginning of the last statement without literals."""
    if not holder.pid:
        return "a prepared transaction (pg_prepared_xacts)"
    if holder.usename is None:
        return f"pid {holder.pid}, which is autovacuum or another background process"
    session = f"pid {holder.pid}, user {holder.usename}"
    if holder.query is None or holder.query == HIDDEN:
        return f"{session} (GRANT pg_read_all_stats would show since when, and its statement)"
    beginning = UNMASKED.split(PREAMBLE.sub("", holder.query))[0]
    statement = mask(" ".join(beginning.split())).partition("'")[0]  # the server may have cut a literal
    return f"{session}, since {holder.since}, last statement `{statement[:MAX_QUERY].strip()}`"


def remedy(holder: Row[Any]) -> str:
    """Return the sentence that says how to end it."""
    if not holder.pid:
        return " COMMIT PREPARED or ROLLBACK PREPARED ends it."
    if holder.usename is None:
        return " It ends by itself, or an administrator ends it."
    return f" End that transaction, or run SELECT pg_terminate_backend({holder.pid})."
