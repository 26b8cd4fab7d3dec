"""What a statement is called: its SQL command and the tables it is about, without parsing it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Compiled, Select, Table, UpdateBase
from sqlalchemy.sql.compiler import SQLCompiler


def operation_of(compiled: Compiled | str) -> str:
    """Return the SQL command."""
    if isinstance(compiled, SQLCompiler):  # other compilers, such as those of DDL, have none of the three
        written = {"INSERT": compiled.isinsert, "UPDATE": compiled.isupdate, "DELETE": compiled.isdelete}
        if found := [name for name, is_it in written.items() if is_it]:
            return found[0]
    return (str(compiled).split(None, 1) or ["?"])[0].upper()


def tables_of(compiled: Compiled | str) -> tuple[str, ...]:
    """Return the tables that a statement reads or writes; none for plain text."""
    found: Sequence[Any]
    statement = getattr(compiled, "statement", None)
    if isinstance(statement, UpdateBase):
        found = [statement.table]
    elif isinstance(statement, Select):
        found = statement.get_final_froms()
    else:
        return ()
    return tuple(source.name for source in found if isinstance(source, Table))
