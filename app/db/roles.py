"""The two roles of the cluster that statements run as, and what a login needs before it may switch to them."""

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

from app.auth.tokens import Administrator, Principal

ROLE, ADMIN_ROLE = Principal.database_role, Administrator.database_role
ROLES = (ROLE, ADMIN_ROLE)
LOGIN = text("SELECT current_user::text, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
WANTED = text("""
    SELECT wanted.name, role.oid IS NOT NULL AS is_there, EXISTS (
        SELECT FROM pg_roles AS login WHERE login.rolname = :login AND pg_has_role(login.oid, role.oid, 'SET')
    ) AS is_granted
    FROM unnest(CAST(:roles AS text[])) AS wanted (name) LEFT JOIN pg_roles AS role ON role.rolname = wanted.name
""")


class Login(NamedTuple):
    """The database's login; `remedy` is what an administrator must run before it can serve."""

    name: str
    bypasses_row_security: bool
    remedy: str | None


def read_login(connection: Connection) -> Login:
    """Return what the database knows of the login of `connection`."""
    name, bypasses = connection.execute(LOGIN).one()
    return Login(name, bypasses, remedy(connection, name))


def missing_roles(connection: Connection, login: str) -> list[Row[Any]]:
    """Return the roles that `login` may not switch to: the `name` of each, and whether it `is_there`."""
    wanted = connection.execute(WANTED, {"login": login, "roles": list(ROLES)})
    return [role for role in wanted if not role.is_granted]


def remedy(connection: Connection, login: str) -> str | None:
    """Return the line that an administrator of the database must run for `login`, or None where nothing is missing."""
    missing = missing_roles(connection, login)
    if not missing:
        return None
    create = "".join(f"CREATE ROLE {role.name} NOLOGIN NOBYPASSRLS; " for role in missing if not role.is_there)
    names = ", ".join(role.name for role in missing)
    return f'{create}GRANT {names} TO "{login}" WITH SET TRUE, INHERIT FALSE;'
