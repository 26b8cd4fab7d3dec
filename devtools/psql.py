"""How to look into the development database: psql, with a login that sees every user's rows where there is one."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence

from sqlalchemy import make_url

from app.db.roles import ADMIN_ROLE
from app.migrations import owner_url
from app.settings import Settings
from devtools.environment import HOME, is_embedded
from devtools.postgres.home import prepare_folders

OWN_PSQL = "psql is not installed here. PostgreSQL's own is used, which has no history and no completion."
ALL_ROWS = "{url}\nThe login postgres sees the rows of every user."
OWN_ROWS = (
    "Unless the login is a superuser or has BYPASSRLS, row-level security hides all rows:"
    f" `SET ROLE {ADMIN_ROLE};` shows them, `SET app.user_id = 'alice';` hers."
)


def open_psql(settings: Settings, arguments: Sequence[str], say: Callable[[str], None]) -> int:
    """Open psql in the database of `settings`, in this terminal. Return its exit code.

    The login is the superuser of the embedded database, which no policy binds, or that of the given database.
    """
    url = make_url(owner_url(settings)).set(drivername="postgresql")
    embedded = is_embedded()
    if embedded:
        url = url.set(username="postgres")
    address = url.set(password=None).render_as_string()
    program = shutil.which("psql")
    say(ALL_ROWS.format(url=address) if embedded else OWN_ROWS)
    if not program:
        say(OWN_PSQL)
    password = {"PGPASSWORD": str(url.password)} if url.password else {}
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for psql: it ends a statement
    command = [program or prepare_folders(HOME / "postgres")[1] / "psql", address, *arguments]
    return subprocess.run(command, check=False, env=os.environ | password).returncode  # noqa: S603  as the user typed it
