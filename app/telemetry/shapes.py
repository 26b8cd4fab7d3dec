"""A statement and its runs, and what the semantic conventions call it: worked out once for all runs.

https://opentelemetry.io/docs/specs/semconv/database/postgresql/
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from opentelemetry.trace import Span
from opentelemetry.util.types import AttributeValue
from sqlalchemy import Compiled, Select, Table, UpdateBase
from sqlalchemy.engine import URL

from app.telemetry.database_metrics import DatabaseMetrics, Series
from app.telemetry.plans import mask

POSTGRES_PORT = 5432

Attributes = dict[str, AttributeValue]


class Shape(NamedTuple):
    """A statement, whatever its parameters."""

    name: str
    attributes: Attributes  # of its spans
    log_fields: Attributes  # those of them that log lines have as well
    series: Series | None


@dataclass(slots=True)
class Run:
    """One run of a statement. While it runs, its span is the current one in the OpenTelemetry context of `token`."""

    shape: Shape
    text: str  # as the driver gets it
    parameters: Any
    principal: Any  # who asks; opaque here
    span: Span
    token: Any
    started: float
    seconds: float = 0.0


def describe(
    server: Attributes, metrics: DatabaseMetrics | None, compiled: Compiled | str, function: str | None
) -> Shape:
    """Return the shape of a statement that `function` sends to `server`."""
    operation, tables = operation_of(compiled), tables_of(compiled)
    name = " ".join((operation, *tables))
    log_fields: Attributes = {"db.query.text": mask(" ".join(str(compiled).split()))}
    if function:
        log_fields["code.function.name"] = function
    attributes = {**server, **log_fields, "db.operation.name": operation, "db.query.summary": name}
    if len(tables) == 1:
        attributes["db.collection.name"] = tables[0]
    return Shape(name, attributes, log_fields, metrics.series_of(operation, tables) if metrics else None)


def server_attributes(url: URL) -> Attributes:
    """Return what all statements of a database have in common."""
    attributes: Attributes = {"db.system.name": "postgresql", "db.namespace": url.database or ""}
    host = url.host or url.query.get("host")
    if isinstance(host, str):
        attributes |= {"server.address": host, "server.port": url.port or POSTGRES_PORT}
    return attributes


def operation_of(compiled: Compiled | str) -> str:
    """Return the SQL command."""
    statement = getattr(compiled, "statement", None)
    if isinstance(statement, UpdateBase):
        return statement.__visit_name__.upper()
    return (str(compiled).split(None, 1) or ["?"])[0].upper()


def tables_of(compiled: Compiled | str) -> tuple[str, ...]:
    """Return the tables that a statement reads or writes, without parsing it."""
    statement = getattr(compiled, "statement", None)
    froms = statement.get_final_froms() if isinstance(statement, Select) else [getattr(statement, "table", None)]
    return tuple(source.name for source in froms if isinstance(source, Table))
