"""Which migrations a database has, and what their files said when they were applied.

`alembic_version` has only the name of the last one. So the comment of this table keeps a fingerprint of each. It is
written in the migration's own transaction. SQL that is run by hand does not write it.
"""

import ast
import hashlib
import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlmodel import SQLModel

READ = text("SELECT obj_description(to_regclass('alembic_version'), 'pg_class')")


def read(connection: Connection) -> dict[str, str]:
    """Return the fingerprints of the applied migrations, by revision."""
    with suppress(ValueError):
        found = json.loads(connection.scalar(READ) or "{}")
        return found if isinstance(found, dict) else {}
    return {}


def keep(connection: Connection, script: ScriptDirectory, heads: Collection[str]) -> dict[str, str]:
    """Keep a fingerprint of each migration that led to `heads`, and no others. One that is there stays. Return all.

    Where none was kept yet, the database had them all: nothing else can be known.
    """
    before = read(connection)
    kept = {step.revision: before.get(step.revision) or fingerprint(Path(step.path)) for step in line(script, heads)}
    if kept != before:
        connection.exec_driver_sql("COMMENT ON TABLE alembic_version IS %s", (json.dumps(kept),))
    return kept


def find_skipped(connection: Connection, script: ScriptDirectory, heads: Collection[str]) -> list[Script]:
    """Return the migrations before `heads` that the database never had, the newest first.

    It is unknown, and so none, where what was kept does not name `heads`: somebody ran SQL by hand.
    """
    kept = read(connection)
    known = {step.revision for step in script.walk_revisions()}
    if not set(heads) <= kept.keys() & known:
        return []
    return [step for step in line(script, heads) if step.revision not in kept]


def find_lacking(connection: Connection, script: ScriptDirectory, heads: Collection[str]) -> list[Script] | None:
    """Return the migrations of the files that a database at `heads` never had, the newest first.

    It is unknown, and so None, where what was kept does not name `heads`: somebody ran SQL by hand.
    """
    kept = read(connection)
    if not set(heads) <= kept.keys():
        return None
    return [step for step in script.walk_revisions() if step.revision not in kept]


def has_tables(connection: Connection) -> bool:
    """Tell whether a database has any table of the application's entities; without entities it need not."""
    expected = SQLModel.metadata.tables.keys()
    return not expected or not expected.isdisjoint(inspect(connection).get_table_names())


def line(script: ScriptDirectory, heads: Collection[str]) -> list[Script]:
    """Return the migrations that lead to `heads`, the newest first."""
    return [*script.iterate_revisions(tuple(heads), "base")] if heads else []


def fingerprint(file: Path) -> str:
    """Return a digest of what a migration does: its comments, docstrings and layout do not count."""
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]
