"""Rules of our own: users' rows are protected and reached, and what commits comes first in its migration."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from devtools.lint import hidden
from devtools.lint.emission import Finding, Migration
from devtools.lint.tables import changes_of

FIRST_WORD = re.compile(r"\s*(\w*)")
ORDER = (
    "backfill(), create_index(…, concurrently=True) and drop_index(…, concurrently=True) commit, so they come first:"
    " what stands before belongs in a migration of its own."
)


def find(migrations: Sequence[Migration]) -> Iterator[Finding]:
    """Yield what breaks a rule in the migrations, which are in order."""
    for migration in migrations:
        yield from migration.faults
        yield from _late_steps(migration)
    yield from _unprotected_tables(migrations)
    yield from hidden.find(migrations)


def _late_steps(migration: Migration) -> Iterator[Finding]:
    """Yield the first step outside of the transaction that changes stand before: it would raise NotFirst."""
    in_transaction, is_changed = True, False
    for statement in migration.statements:
        found = FIRST_WORD.match(statement.sql)
        word = found[1].upper() if found and statement.line else ""
        if is_changed and (statement.is_backfill or word == "COMMIT"):
            yield Finding(migration.file, statement.line, "not-first", ORDER)
            return
        if word in {"BEGIN", "COMMIT"}:
            in_transaction = word == "BEGIN"
        elif statement.line and word != "SET" and not statement.is_backfill:
            is_changed |= in_transaction


def _unprotected_tables(migrations: Sequence[Migration]) -> Iterator[Finding]:
    """Yield each table of users' rows that has no policy after the last migration."""
    tables: dict[str, Finding | None] = {}  # None is one that has
    for migration in migrations:
        for statement in migration.statements:
            for names in changes_of(statement.sql):
                _follow(tables, names, partial(Finding, migration.file, statement.line, "unprotected-table"))
    yield from filter(None, tables.values())


def _follow(tables: dict[str, Finding | None], names: dict[str, str], finding: Callable[[str], Finding]) -> None:
    """Note what a change means for the table that it names."""
    match names:
        case {"created": name} | {"altered": name}:
            fault = finding(f'{name} has a user_id or an org_id, and no migration says protect("{name}").')
            tables.setdefault(name, fault)
        case {"protected": name}:
            tables[name] = None
        case {"dropped": name}:
            tables.pop(name, None)
        case {"renamed": name, "new": new} if name in tables:
            tables[new] = tables.pop(name)
