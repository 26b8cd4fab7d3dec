"""What the statements of every entity share. Each is built once, when its module or its first caller needs it.

A table of users' rows has `id`, `user_id`, `version` and `updated_at`. The parameter `owner` is the user who asks.
"""

import re
from functools import cache
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert, insert

Order = Literal["newest", "oldest"]


class Listing:
    """The rows of a list, and its filters: each has a parameter of its own name, and applies where that is given."""

    def __init__(self, rows: sa.Select[Any], id: sa.ColumnElement[int], **filters: sa.ColumnElement[bool]) -> None:
        self._rows, self._id, self._filters = rows, id, filters
        self.page = cache(self._page)

    def _page(self, order: Order, given: tuple[str, ...]) -> sa.Select[Any]:
        """Return the statement of a page: up to `page_limit` rows that follow the row `cursor`, never an OFFSET."""
        oldest = order == "oldest"
        after_cursor = self._id > sa.bindparam("cursor") if oldest else self._id < sa.bindparam("cursor")
        filters = self._filters | {"cursor": after_cursor}
        rows = self._rows.where(*(filters[name] for name in given))
        return rows.order_by(self._id if oldest else self._id.desc()).limit(sa.bindparam("page_limit"))


def like_pattern(text: str | None) -> str | None:
    r"""Return the LIKE pattern of all that contains `text`: in it `%`, `_` and `\` stand for themselves."""
    return None if text is None else "%" + re.sub(r"([\\%_])", r"\\\1", text) + "%"


def insert_once(table: sa.Table) -> Insert:
    """Return the insert of a row of `owner`, which does nothing if this `idempotency_key` has made one before."""
    columns = table.c
    return (
        insert(table)
        .values(user_id=sa.bindparam("owner"))
        .on_conflict_do_nothing(
            index_elements=[columns.user_id, columns.idempotency_key], index_where=columns.idempotency_key.is_not(None)
        )
    )


def at_version(version: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return the condition of a change that may start from the parameter `versions`, or from any if that is None."""
    return sa.func.coalesce(version == sa.any_(sa.cast(sa.bindparam("versions"), sa.ARRAY(sa.Integer))), sa.true())


@cache
def set_fields(update: sa.Update, fields: tuple[str, ...]) -> sa.Update:
    """Return the update that sets `fields` to the parameters `new_<field>`.

    `version` and `updated_at` change only where one of the fields differs.
    """
    columns = update.table.c
    new: dict[str, Any] = {field: sa.bindparam(f"new_{field}") for field in fields}
    differs = sa.or_(sa.false(), *(columns[field].is_distinct_from(value) for field, value in new.items()))
    new["updated_at"] = sa.case((differs, sa.func.now()), else_=columns.updated_at)
    new["version"] = columns.version + sa.case((differs, 1), else_=0)
    return update.values(new)
