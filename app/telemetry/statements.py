"""What is known of a statement: named and described once for each shape, looked up in the code when it was slow.

https://opentelemetry.io/docs/specs/semconv/database/postgresql/
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from traceback import walk_stack
from typing import Any, cast

from opentelemetry.util.types import AttributeValue
from sqlalchemy import Compiled, Select, Table, UpdateBase
from sqlalchemy.engine import URL
from sqlalchemy.sql.compiler import SQLCompiler

from app.auth.users import Administrator, Principal
from app.telemetry import plans

LOCK_NOT_AVAILABLE = "55P03"
POSTGRES_PORT = 5432
APP = Path(__file__).parents[1]
ROOT = APP.parent

Attributes = dict[str, AttributeValue]
Shape = Compiled | str


@dataclass(frozen=True, slots=True)
class Statement:
    """One run of a statement, as the driver got it."""

    text: str
    parameters: Any
    context: Any
    seconds: float
    failure: Mapping[str, AttributeValue] = field(default_factory=dict)

    @property
    def principal(self) -> Principal:
        """Who asked."""
        principal: Principal = self.context.execution_options["principal"]
        return principal

    @property
    def function(self) -> str | None:
        """The store's method, where the statement names it."""
        return cast(str | None, self.context.execution_options.get("function"))

    @property
    def explainable(self) -> bool:
        """Whether EXPLAIN would change nothing, and there is a server that answers: a failure has its SQLSTATE."""
        answered = not self.failure or "db.response.status_code" in self.failure
        return answered and self.text.startswith("SELECT") and "principal" in self.context.execution_options


def administrator_of(context: Any) -> Administrator | None:
    """Return the administrator for whom a statement is run, alone or in a transaction."""
    options = context.execution_options
    principal = options.get("principal") or options.get("bound_to")
    return principal if isinstance(principal, Administrator) else None


def static_attributes(url: URL) -> Attributes:
    """Return what all statements of a database have in common."""
    attributes: Attributes = {"db.system.name": "postgresql", "db.namespace": url.database or ""}
    host = url.host or url.query.get("host")
    if isinstance(host, str):
        attributes |= {"server.address": host, "server.port": url.port or POSTGRES_PORT}
    return attributes


def described(static: Attributes, shape: Shape, function: str | None) -> tuple[str, Attributes]:
    """Return the span name of statements of one shape, and the attributes that each of their runs has."""
    text = " ".join(str(shape).split())
    operation, tables = operation_of(shape), tables_of(shape)
    name = " ".join((operation, *tables))
    attributes: Attributes = {
        **static,
        "db.operation.name": operation,
        "db.query.summary": name,
        "db.query.text": plans.masked(text),
    }
    if len(tables) == 1:
        attributes["db.collection.name"] = tables[0]
    if function:
        attributes["code.function.name"] = function
    return name, attributes


def failure_attributes(error: BaseException) -> Attributes:
    """Return what a failure is called: its SQLSTATE, or the driver's name for what has none."""
    sqlstate = getattr(error, "pgcode", None)
    if sqlstate is None:
        return {"error.type": type(error).__name__}
    waited = {"app.db.lock_wait": True} if sqlstate == LOCK_NOT_AVAILABLE else {}
    return {"db.response.status_code": sqlstate, "error.type": sqlstate, **waited}


def operation_of(shape: Shape) -> str:
    """Return the SQL command."""
    if isinstance(shape, SQLCompiler):
        written = {"INSERT": shape.isinsert, "UPDATE": shape.isupdate, "DELETE": shape.isdelete}
        if found := [name for name, is_it in written.items() if is_it]:
            return found[0]
    return (str(shape).split(None, 1) or ["?"])[0].upper()


def tables_of(shape: Shape) -> tuple[str, ...]:
    """Return the tables that a statement reads or writes, without parsing it."""
    statement = getattr(shape, "statement", None)
    sources: Sequence[Any] = ()
    if isinstance(statement, UpdateBase):
        sources = [statement.table]
    elif isinstance(statement, Select):
        sources = statement.get_final_froms()
    return tuple(source.name for source in sources if isinstance(source, Table))


def caller(function: str | None) -> Attributes:
    """Return the line of code that asked. Walking the stack is dear: for slow statements alone."""
    frames = (frame for frame, _ in walk_stack(sys._getframe(1)) if is_asking(frame.f_code.co_filename))
    candidates = list(frames)
    wanted = [frame for frame in candidates if function and function.endswith(frame.f_code.co_qualname)]
    for frame in wanted or candidates[:1]:
        path = Path(frame.f_code.co_filename).relative_to(ROOT)
        return {
            "code.function.name": function or f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}",
            "code.file.path": str(path),
            "code.line.number": frame.f_lineno,
        }
    return {}


def is_asking(filename: str) -> bool:
    """Tell the application's own code from libraries, from this package and from what it asks through."""
    return filename.startswith(f"{APP}/") and not filename.startswith((f"{APP}/telemetry/", f"{APP}/db.py"))
