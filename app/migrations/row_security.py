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

from app.db.roles import ADMIN_ROLE, ROLE, ROLES, missing_roles, remedy

OWN = "{by} = nullif(current_setting('app.{by}', true), '')"
SWITCH = "WITH SET TRUE, INHERIT FALSE"
MAINTENANCE = "current_setting('app.every_row', true) = 'on'"
IS_ON = text(f"SELECT {MAINTENANCE}")
CREATE_ROLE = "DO $$ BEGIN CREATE ROLE {} NOLOGIN NOBYPASSRLS; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
GRANT_SEQUENCES = """DO $$
DECLARE sequence text;
BEGIN
    FOR sequence IN SELECT pg_get_serial_sequence('{table}', attname) FROM pg_attribute
        WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped
    LOOP
        IF sequence IS NOT NULL THEN EXECUTE format('GRANT USAGE ON SEQUENCE %s TO {role}', sequence); END IF;
    END LOOP;
END $$"""
# The policy is for the login that protected the table, which may own it no more: after a restore, for example.
OUT_OF_REACH = text("""
    SELECT relname FROM pg_class
    WHERE pg_has_role(relowner, 'USAGE') AND row_security_active(pg_class.oid) AND NOT EXISTS (
        SELECT FROM pg_policy WHERE polrelid = pg_class.oid AND polname = 'maintenance'
          AND EXISTS (SELECT FROM pg_roles WHERE pg_roles.oid = ANY (polroles) AND pg_has_role(pg_roles.oid, 'USAGE'))
    ) ORDER BY relname
""")


class RoleMissing(RuntimeError):
    """The login may neither create the roles nor switch to them; the message is what an administrator must run."""


class OutOfReach(RuntimeError):
    """Some rows cannot be reached by a data migration, which would leave them out; the message is one line."""


def create_roles() -> None:
    """Create the roles where they are missing, and let the login that serves switch to them; or raise RoleMissing."""
    if op.get_context().as_sql:
        for statement in (*map(CREATE_ROLE.format, ROLES), f"GRANT {', '.join(ROLES)} TO CURRENT_USER {SWITCH}"):
            op.execute(statement)
    else:
        _create_missing_roles(op.get_bind())
    op.execute("GRANT SELECT ON alembic_version TO PUBLIC")


def _create_missing_roles(connection: Connection) -> None:
    url = context.config.attributes["settings"].database_url
    login = (url and make_url(url.get_secret_value()).username) or str(connection.scalar(text("SELECT current_user")))
    quoted = connection.dialect.identifier_preparer.quote_identifier(login)
    for role in missing_roles(connection, login):
        if not role.is_there:
            _run_if_possible(connection, f"CREATE ROLE {role.name} NOLOGIN NOBYPASSRLS")
        _run_if_possible(connection, f"GRANT {role.name} TO {quoted} {SWITCH}")
    if line := remedy(connection, login):
        raise RoleMissing(f"{login} may not switch to the roles of the API. An administrator must run: {line}")


def _run_if_possible(connection: Connection, statement: str) -> None:
    """Run a statement that this login may have no right to, or that a migration of another database runs as well."""
    with suppress(ProgrammingError, IntegrityError), connection.begin_nested():
        connection.exec_driver_sql(statement)


def quote(table: str) -> str:
    """Return a name as SQL takes it, with its schema if it has one: `order` is a word of SQL."""
    return ".".join(map(op.get_context().dialect.identifier_preparer.quote, table.split(".")))


def protect(table: str, by: Literal["user_id", "org_id"] = "user_id") -> None:
    """Let each user see and change own rows of `table`, which has a `user_id`, and administrators see all of them.

    With `by="org_id"`, a column of the table as well, the rows are those of the user's organization: every member sees
    and changes them, whoever made them.
    """
    table, own = quote(table), OWN.format(by=by)
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON {table} USING ({own}) WITH CHECK ({own})")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}")
    op.execute(GRANT_SEQUENCES.format(table=table.replace("'", "''"), role=ROLE))
    op.execute(f"CREATE POLICY look ON {table} FOR SELECT TO {ADMIN_ROLE} USING (true)")
    op.execute(f"GRANT SELECT ON {table} TO {ADMIN_ROLE}")
    op.execute(f"CREATE POLICY maintenance ON {table} TO CURRENT_USER USING ({MAINTENANCE}) WITH CHECK ({MAINTENANCE})")


def share(table: str) -> None:
    """Let every user read all rows of `table`, which has no `user_id`; only migrations change them."""
    op.execute(f"GRANT SELECT ON {quote(table)} TO {ROLE}, {ADMIN_ROLE}")


@contextmanager
def every_row() -> Iterator[None]:
    """Let the statements of the block reach all rows of all tables; otherwise forced policies hide them from the owner.

    No lock is taken, and no role of the API can do the same: the policy is for the owner of the tables.

    Raises:
        OutOfReach: a table has forced policies, and none of them is for this; or this ended before the block did.
    """
    is_run = not op.get_context().as_sql
    if is_run:
        verify_reach(op.get_bind())
    op.execute("SET LOCAL app.every_row = 'on'")
    yield
    if is_run and not op.get_bind().scalar(IS_ON):
        raise OutOfReach(
            "every_row() ended before its block: with the transaction, which backfill() or a commit ends, or with an"
            " every_row() inside of it."
        )
    op.execute("SET LOCAL app.every_row = 'off'")


def verify_reach(connection: Connection) -> None:
    """Raise OutOfReach if a table hides its rows from its owner for good."""
    if names := connection.scalars(OUT_OF_REACH).all():
        raise OutOfReach(
            f"{', '.join(names)}: no policy `maintenance` is for this login, so not every row is in reach."
        )
