"""A PostgreSQL that a test may freeze, kill and start again. The server that all tests share is another one."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import psycopg2
import pytest

from devtools.examples.schema import migrate
from devtools.postgres.cluster import INITDB, VOLATILE, give_to_server, start_program
from devtools.postgres.home import prepare_folders, remove
from tests.support import wait_until

LOGIN = "CREATE ROLE tasks LOGIN CREATEROLE NOSUPERUSER NOBYPASSRLS"


class Postmaster:
    """One cluster. Its address stays the same when its server starts again."""

    def __init__(self, folder: Path, programs: Path, socket: Path, log: BinaryIO) -> None:
        self.programs, self.socket, self._log = programs, socket, log
        self._data = folder / "data"
        self._numbers = count(1)
        self._server: subprocess.Popen[bytes] | None = None

    def initialise(self) -> None:
        """Create the cluster, the application's login, and a migrated database to copy."""
        self._data.mkdir(mode=0o700)
        give_to_server(self._data)
        assert not self._spawn("initdb", f"--pgdata={self._data}", "--no-sync", *INITDB).wait()
        self.start()
        self.ask(LOGIN)
        self.ask("CREATE DATABASE migrated OWNER tasks")
        migrate(self.url("migrated"))

    def start(self, *, durable: bool = False) -> None:
        """Start the server if it does not run, and wait until it answers."""
        if self._server and self._server.poll() is None:
            return
        settings = {"listen_addresses": "", "max_connections": "30", "unix_socket_directories": str(self.socket)}
        settings |= {} if durable else VOLATILE
        options = [f"--{name}={value}" for name, value in settings.items()]

        def answers() -> bool:
            if self._server is None or self._server.poll() is not None:  # a killed one's children still hold its memory
                self._server = self._spawn("postgres", "-D", str(self._data), *options)
            with suppress(psycopg2.OperationalError):
                return self.ask("SELECT 1") == [(1,)]
            return False

        wait_until(answers, seconds=30)

    def stop(self) -> None:
        """Stop the server fast: it ends its sessions."""
        if self._server:
            self.signal(signal.SIGCONT)
            self._server.send_signal(signal.SIGINT)
            self._server.wait(30)

    def kill(self) -> None:
        """Kill the server. Its children notice and end."""
        assert self._server
        self._server.kill()
        self._server.wait()

    @contextmanager
    def freeze(self) -> Iterator[None]:
        """Freeze server and children until the block ends: connections stay open, and nobody answers."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def signal(self, signum: int) -> None:
        """Send a signal to the server and each of its children."""
        assert self._server
        with suppress(ProcessLookupError):
            os.kill(self._server.pid, signum)
        listed = subprocess.run(["pgrep", "-P", str(self._server.pid)], capture_output=True, text=True, check=False)
        for pid in listed.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signum)

    def log(self) -> str:
        """Return what the server has written so far."""
        return Path(self._log.name).read_text(errors="replace")

    def url(self, database: str, login: str = "tasks") -> str:
        return f"postgresql+psycopg2://{login}@/{database}?host={self.socket}&port=5432"

    def new_database(self) -> str:
        """Return the name of a new migrated database."""
        name = f"tasks_{next(self._numbers)}"
        self.ask(f"CREATE DATABASE {name} OWNER tasks TEMPLATE migrated")
        return name

    def ask(self, statement: str, database: str = "postgres", login: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement in a transaction of its own. The default login is the superuser. Return the rows."""
        with closing(self.connect(database, login)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def connect(self, database: str = "postgres", login: str = "postgres") -> Any:
        connection = psycopg2.connect(self.url(database, login).replace("+psycopg2", ""))
        connection.autocommit = True
        return connection

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        return start_program(self.programs / program, *arguments, stdout=self._log, stderr=self._log)


@pytest.fixture(scope="session")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postmaster]:
    state = tmp_path_factory.mktemp("postmaster")
    folder, programs = prepare_folders(state)
    socket = Path(tempfile.mkdtemp(prefix="task-api-", dir="/tmp"))
    give_to_server(socket)
    with (folder / "log").open("ab") as log:
        server = Postmaster(folder, programs, socket, log)
        try:
            server.initialise()
            yield server
        finally:
            server.stop()
            shutil.rmtree(socket)
            remove(state)


@pytest.fixture
def postmaster(own_postgres: Postmaster) -> Iterator[Postmaster]:
    """A running server that a test may stop, freeze or kill."""
    own_postgres.start()
    yield own_postgres
    own_postgres.signal(signal.SIGCONT)


@pytest.fixture
def durable(postmaster: Postmaster) -> Iterator[Postmaster]:
    """A server that writes to disk before it says so."""
    postmaster.stop()
    postmaster.start(durable=True)
    yield postmaster
    postmaster.stop()
