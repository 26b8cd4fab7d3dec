"""What spans and log lines call a statement, its failure, and the code that sent it.

https://opentelemetry.io/docs/specs/semconv/database/postgresql/
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from traceback import walk_stack
from typing import Any

from opentelemetry.util.types import AttributeValue
from sqlalchemy import Compiled, Select, Table, UpdateBase
from sqlalchemy.engine import URL
from sqlalchemy.sql.compiler import SQLCompiler

from app.telemetry.plans import mask

LOCK_NOT_AVAILABLE = "55P03"
POSTGRES_PORT = 5432
APP = Path(__file__).parents[1]
BELOW = (f"{APP}/telemetry/", f"{APP}/db/")  # what the application's own code sends statements through

Attributes = dict[str, AttributeValue]


def server_attributes(url: URL) -> Attributes:
    """Return what all statements of a database have in common."""
    attributes: Attributes = {"db.system.name": "postgresql", "db.namespace": url.database or ""}
    host = url.host or url.query.get("host")
    if isinstance(host, str):
        attributes |= {"server.address": host, "server.port": url.port or POSTGRES_PORT}
    return attributes


def statement_attributes(
    compiled: Compiled | str, operation: str, tables: Sequence[str], function: str | None
) -> Attributes:
    """Return what all runs of a statement have in common."""
    attributes: Attributes = {
        "db.operation.name": operation,
        "db.query.summary": " ".join((operation, *tables)),
        "db.query.text": mask(" ".join(str(compiled).split())),
    }
    if len(tables) == 1:
        attributes["db.collection.name"] = tables[0]
    if function:
        attributes["code.function.name"] = function
    return attributes


def operation_of(compiled: Compiled | str) -> str:
    """Return the SQL command."""
    if isinstance(compiled, SQLCompiler):
        commands = {"INSERT": compiled.isinsert, "UPDATE": compiled.isupdate, "DELETE": compiled.isdelete}
        if found := [command for command, is_it in commands.items() if is_it]:
            return found[0]
    return (str(compiled).split(None, 1) or ["?"])[0].upper()


def tables_of(compiled: Compiled | str) -> tuple[str, ...]:
    """Return the tables that a statement reads or writes, without parsing it."""
    statement = getattr(compiled, "statement", None)
    sources: Sequence[Any] = ()
    if isinstance(statement, UpdateBase):
        sources = [statement.table]
    elif isinstance(statement, Select):
        sources = statement.get_final_froms()
    return tuple(source.name for source in sources if isinstance(source, Table))


def failure_attributes(error: BaseException) -> Attributes:
    """Return what a failure is called: its SQLSTATE, or the driver's name for what has none."""
    sqlstate = getattr(error, "pgcode", None)
    if sqlstate is None:
        return {"error.type": type(error).__name__}
    waited = {"app.db.lock_wait": True} if sqlstate == LOCK_NOT_AVAILABLE else {}
    return {"db.response.status_code": sqlstate, "error.type": sqlstate, **waited}


def find_caller() -> Attributes:
    """Return the line of the application that sent the statement. Walking the stack is dear: only for slow ones."""
    for frame, _ in walk_stack(sys._getframe(1)):
        filename = frame.f_code.co_filename
        if filename.startswith(f"{APP}/") and not filename.startswith(BELOW):
            return {
                "code.function.name": f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}",
                "code.file.path": str(Path(filename).relative_to(APP.parent)),
                "code.line.number": frame.f_lineno,
            }
    return {}
