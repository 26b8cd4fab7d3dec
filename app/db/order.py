"""The orders of a list, and the cursors that name the place of a row in one of them."""

import base64
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import ConfigDict, Field, TypeAdapter
from sqlalchemy.sql.operators import asc_op, desc_op

from app.errors import InvalidRequest

BIGINT = Annotated[int, Field(ge=-(2**63), lt=2**63)]
ID = TypeAdapter(Annotated[int, Field(gt=0, lt=2**63)])
ID_BYTES = 8
COMPLETE = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")

Column = sa.ColumnElement[Any]


class Order:
    """Columns, each ascending unless it says `.desc()`; the last one is the primary key, so that no two rows are equal.

    A cursor has the values of a row. It goes on where that row was, or would be: the row may be gone by then.

    Raises:
        ValueError: a column may be NULL or is not among `rows`, or no primary key ends them.
    """

    def __init__(self, name: str, columns: Sequence[Column], rows: sa.Select[Any]) -> None:
        plain, down = zip(*map(_direction, columns), strict=True)
        for column in plain:
            _verify(name, column, rows)
        if not plain[-1].primary_key:
            raise ValueError(f"The order {name!r} must end with the primary key: rows may be equal in all else.")
        self.columns, self.follows = columns, _follows(plain, down)
        self._name, self._names = name, [column.name for column in plain]
        kinds = [_kind(column.type) for column in plain]
        self._is_id = kinds == [BIGINT]  # its cursor is older than the others, and shorter
        self._cursor: TypeAdapter[Any] = TypeAdapter(tuple[str, *kinds], config=COMPLETE)  # type: ignore[valid-type]

    def encode(self, row: Mapping[str, Any]) -> str:
        """Return the cursor of a row."""
        return self._encode([row[name] for name in self._names])

    def decode(self, cursor: str) -> dict[str, Any]:
        """Return the parameters of `follows`.

        Raises:
            InvalidRequest: it is no cursor, or one of another order.
        """
        try:
            values = self._read(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
            is_own = self._encode(values) == cursor  # base64 and JSON have several spellings of one value
        except ValueError:
            is_own = False
        if not is_own:
            message = "must be a cursor from a Link header"
            raise InvalidRequest(errors=[{"pointer": "/query/cursor", "message": message}])
        return {f"after_{name}": value for name, value in zip(self._names, values, strict=True)}

    def _read(self, raw: bytes) -> Sequence[Any]:
        if self._is_id:
            return [ID.validate_python(int.from_bytes(raw, "big"))]
        values: tuple[Any, ...] = self._cursor.validate_json(raw, strict=True)
        return values[1:]

    def _encode(self, values: Sequence[Any]) -> str:
        raw = values[0].to_bytes(ID_BYTES, "big") if self._is_id else self._cursor.dump_json((self._name, *values))
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _kind(type: sa.types.TypeEngine[Any]) -> Any:
    """Return what pydantic reads a value of a column as."""
    plain = type.impl_instance if isinstance(type, sa.TypeDecorator) and not isinstance(type, sa.Interval) else type
    return BIGINT if plain.python_type is int else plain.python_type


def _direction(column: Column) -> tuple[sa.Column[Any], bool]:
    """Return a column of an order without its direction, and whether that is downwards."""
    found: Any = getattr(column, "__clause_element__", lambda: column)()
    modifier = getattr(found, "modifier", None)
    return (found.element if modifier in {asc_op, desc_op} else found), modifier is desc_op


def _verify(order: str, column: Column, rows: sa.Select[Any]) -> None:
    """Raise ValueError for a column that no cursor can hold."""
    fault = None
    if not isinstance(column, sa.Column):
        fault = "is no column"
    elif column.nullable:
        fault = "may be NULL, which is neither before nor after any value"
    elif column.name not in rows.selected_columns:
        fault = "is not among the columns that are read"
    if fault:
        raise ValueError(f"In the order {order!r} {column} {fault}.")


def _follows(columns: Sequence[sa.Column[Any]], down: Sequence[bool]) -> sa.ColumnElement[bool]:
    """Return the condition of the rows that follow the one of the parameters `after_<column>`."""
    after = [sa.bindparam(f"after_{column.name}", type_=column.type) for column in columns]
    if len(set(down)) == 1:  # an index serves this as one range
        here, there = sa.tuple_(*columns), sa.tuple_(*after)
        return here < there if down[0] else here > there
    follows: sa.ColumnElement[bool] = sa.false()
    for column, value, is_down in reversed(list(zip(columns, after, down, strict=True))):
        beyond = column < value if is_down else column > value
        follows = beyond | ((column == value) & follows)
    return follows
