"""The second lock: PostgreSQL itself shows a user none but own rows, whatever a query forgets.

Policies are forced, so they bind the owner of the tables too, in migrations and dumps as well. The roles are those of
the whole cluster: they are created where missing, and no downgrade drops them, since another database may use them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context, op
from sqlalchemy import text

from app.db.roles import ADMIN_ROLE, ROLE, ROLES, missing_roles, remedy

OWN = "user_id = nullif(current_setting('app.user_id', true), '')"
CREATE_ROLE = """
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
            CREATE ROLE {role} NOLOGIN NOBYPASSRLS;
        END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
    END $$
"""
GRANT_ROLE = """
    DO $$ BEGIN
        EXECUTE format('GRANT %I TO %I WITH SET TRUE, INHERIT FALSE', '{role}', '{login}');
    EXCEPTION WHEN undefined_object OR unique_violation OR insufficient_privilege THEN NULL;
    END $$
"""


GRANT_SEQUENCES = """
    DO $$ DECLARE sequence text; BEGIN
        FOR sequence IN SELECT pg_get_serial_sequence('{table}', attname) FROM pg_attribute
            WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped
        LOOP
            IF sequence IS NOT NULL THEN EXECUTE 'GRANT USAGE ON SEQUENCE ' || sequence || ' TO {role}'; END IF;
        END LOOP;
    END $$
"""


class RoleMissing(RuntimeError):
    """The login may neither create the roles nor switch to them; the message is what an administrator must run."""


def create_roles() -> None:
    """Create the roles where they are missing, and let the login that serves switch to them.

    Raises:
        RoleMissing: this login may do neither, and nobody has done it before.

    """
    connection = op.get_bind()
    login = str(context.config.attributes.get("login") or connection.scalar(text("SELECT current_user::text")))
    for role in ROLES:
        connection.exec_driver_sql(CREATE_ROLE.format(role=role))
    quoted = login.replace("'", "''")
    for lacking in missing_roles(connection, login):
        connection.exec_driver_sql(GRANT_ROLE.format(role=lacking.name, login=quoted).replace("%", "%%"))
    if line := remedy(connection, login):
        raise RoleMissing(f"{login} may not switch to the roles of the API. An administrator must run: {line}")
    op.execute("GRANT SELECT ON alembic_version TO PUBLIC")


def protect(table: str) -> None:
    """Let each user see and change own rows of `table`, which has a `user_id`, and administrators see all of them."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON {table} USING ({OWN}) WITH CHECK ({OWN})")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}")
    op.execute(GRANT_SEQUENCES.format(table=table, role=ROLE))
    op.execute(f"CREATE POLICY look ON {table} FOR SELECT TO {ADMIN_ROLE} USING (true)")
    op.execute(f"GRANT SELECT ON {table} TO {ADMIN_ROLE}")


def share(table: str) -> None:
    """Let every user read all rows of `table`, which has no `user_id`; migrations alone change them."""
    op.execute(f"GRANT SELECT ON {table} TO {ROLE}, {ADMIN_ROLE}")


@contextmanager
def every_row(table: str) -> Iterator[None]:
    """Let a data migration reach all rows of `table`: forced policies would hide them from the owner too."""
    op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    yield
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
