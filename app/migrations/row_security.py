"""Row-level security: PostgreSQL itself shows a user only own rows, even if a query forgets to.

Policies are forced, so they bind the owner of the tables too, in migrations and dumps as well. The roles belong to the
whole cluster: they are created where missing, and no downgrade drops them, since another database may use them.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from alembic import context, op
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from app.db.roles import ADMIN_ROLE, ROLE, missing_roles, remedy

OWN = "{by} = nullif(current_setting('app.{by}', true), '')"
SEQUENCES = text("""
    SELECT pg_get_serial_sequence(:table, attname) FROM pg_attribute
    WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped
""")


class RoleMissing(RuntimeError):
    """The login may neither create the roles nor switch to them; the message is what an administrator must run."""


def create_roles() -> None:
    """Create the roles where they are missing, and let the login that serves switch to them; or raise RoleMissing."""
    connection = op.get_bind()
    url = context.config.attributes["settings"].database_url
    login = (url and make_url(url.get_secret_value()).username) or str(connection.scalar(text("SELECT current_user")))
    quoted = connection.dialect.identifier_preparer.quote_identifier(login)
    for role in missing_roles(connection, login):
        if not role.is_there:
            _run_if_possible(connection, f"CREATE ROLE {role.name} NOLOGIN NOBYPASSRLS")
        _run_if_possible(connection, f"GRANT {role.name} TO {quoted} WITH SET TRUE, INHERIT FALSE")
    if line := remedy(connection, login):
        raise RoleMissing(f"{login} may not switch to the roles of the API. An administrator must run: {line}")
    op.execute("GRANT SELECT ON alembic_version TO PUBLIC")


def _run_if_possible(connection: Connection, statement: str) -> None:
    """Run a statement that this login may have no right to, or that a migration of another database runs as well."""
    with suppress(ProgrammingError, IntegrityError), connection.begin_nested():
        connection.exec_driver_sql(statement)


def _quote(table: str) -> str:
    """Return a name as SQL takes it, with its schema if it has one: `order` is a word of SQL."""
    return ".".join(map(op.get_bind().dialect.identifier_preparer.quote, table.split(".")))


def protect(table: str, by: Literal["user_id", "org_id"] = "user_id") -> None:
    """Let each user see and change own rows of `table`, which has a `user_id`, and administrators see all of them.

    With `by="org_id"`, a column of the table as well, the rows are those of the user's organization: every member sees
    and changes them, whoever made them.
    """
    table, own = _quote(table), OWN.format(by=by)
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON {table} USING ({own}) WITH CHECK ({own})")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}")
    for sequence in filter(None, op.get_bind().scalars(SEQUENCES, {"table": table})):
        op.execute(f"GRANT USAGE ON SEQUENCE {sequence} TO {ROLE}")
    op.execute(f"CREATE POLICY look ON {table} FOR SELECT TO {ADMIN_ROLE} USING (true)")
    op.execute(f"GRANT SELECT ON {table} TO {ADMIN_ROLE}")


def share(table: str) -> None:
    """Let every user read all rows of `table`, which has no `user_id`; only migrations change them."""
    op.execute(f"GRANT SELECT ON {_quote(table)} TO {ROLE}, {ADMIN_ROLE}")


@contextmanager
def every_row(table: str) -> Iterator[None]:
    """Let a data migration reach all rows of `table`: forced policies would hide them from the owner too."""
    table = _quote(table)
    op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    yield
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
