"""The second lock: PostgreSQL itself shows a user none but own rows, whatever a query forgets.

Policies are forced, so they bind the owner of the tables too, in migrations and dumps as well. The role is one for the
whole cluster: it is created where missing, and no downgrade drops it, since another database may use it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context, op
from sqlalchemy import text

from app.pool import ROLE

OWN = "user_id = nullif(current_setting('app.user_id', true), '')"
CREATE_ROLE = f"""
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
            CREATE ROLE {ROLE} NOLOGIN NOBYPASSRLS;
        END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
    END $$
"""
MAY_SET_ROLE = """
    SELECT EXISTS (
        SELECT FROM pg_roles AS login JOIN pg_roles AS role ON pg_has_role(login.oid, role.oid, 'SET')
        WHERE login.rolname = :login AND role.rolname = :role)
"""
GRANT_ROLE = """
    DO $$ BEGIN
        EXECUTE format('GRANT %I TO %I WITH SET TRUE, INHERIT FALSE', '{role}', '{login}');
    EXCEPTION WHEN undefined_object OR insufficient_privilege THEN NULL;
    END $$
"""


class RoleMissing(RuntimeError):
    """The login may neither create the role nor switch to it; the message is what an administrator must run."""


def create_role() -> None:
    """Create the role where it is missing, and let the login that serves switch to it.

    Raises:
        RoleMissing: this login may do neither, and nobody has done it before.

    """
    connection = op.get_bind()
    login = str(context.config.attributes.get("login") or connection.scalar(text("SELECT current_user::text")))
    connection.exec_driver_sql(CREATE_ROLE)
    if not _may_set_role(login):
        quoted = login.replace("'", "''")
        connection.exec_driver_sql(GRANT_ROLE.format(role=ROLE, login=quoted).replace("%", "%%"))
    if not _may_set_role(login):
        raise RoleMissing(f"{login} may not switch to {ROLE}. An administrator must run: {_administrators_line(login)}")
    op.execute("GRANT SELECT ON alembic_version TO PUBLIC")


def _may_set_role(login: str) -> bool:
    return bool(op.get_bind().scalar(text(MAY_SET_ROLE), {"login": login, "role": ROLE}))


def _administrators_line(login: str) -> str:
    exists = op.get_bind().scalar(text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)"), {"role": ROLE})
    create = "" if exists else f"CREATE ROLE {ROLE} NOLOGIN NOBYPASSRLS; "
    return f'{create}GRANT {ROLE} TO "{login}" WITH SET TRUE, INHERIT FALSE;'


def protect(table: str) -> None:
    """Let each user see and change own rows of `table` alone; it has a column `user_id`."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON {table} USING ({OWN}) WITH CHECK ({OWN})")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}")


@contextmanager
def every_row(table: str) -> Iterator[None]:
    """Let a data migration reach all rows of `table`: forced policies would hide them from the owner too."""
    op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    yield
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
