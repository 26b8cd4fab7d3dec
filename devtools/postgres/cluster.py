"""One PostgreSQL cluster: how it is created, run and stopped."""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

POLL_S = 0.01
STOP_S = 5.0
PR_SET_PDEATHSIG = 1  # prctl(2)
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "PGOPTIONS": "-c client_min_messages=warning"}
C_UTF8 = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")  # with plain C, ILIKE does not fold É
INITDB = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", *C_UTF8)
SETTINGS = {
    "listen_addresses": "",
    "shared_preload_libraries": "auto_explain,pg_stat_statements",
    "compute_query_id": "on",
    "track_io_timing": "on",
    "track_activity_query_size": "4096",
}
VOLATILE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Cluster:
    """One cluster: the folder `state` that its users share, the server's own `folder`, and how to run it.

    Every program inherits `lock`. A program that fails has written why into the log; this process then exits.
    """

    state: Path
    folder: Path
    programs: Path
    slow_query_ms: int
    volatile: bool
    lock: BinaryIO

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory. It exists only when initdb has finished."""
        return self.folder / "data"

    def initialise(self) -> None:
        """Create the cluster, under another name until it is complete."""
        partial = self.folder / "data-partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        give_to_server(partial)
        sync = ("--no-sync",) if self.volatile else ()
        if self.start("initdb", f"--pgdata={partial}", *INITDB, *sync).wait():
            sys.exit(1)
        partial.rename(self.data)

    @contextmanager
    def run(self, socket: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Run the server until the block ends."""
        settings = SETTINGS | (VOLATILE if self.volatile else {}) | {"unix_socket_directories": str(socket)}
        server = self.start("postgres", "-D", str(self.data), *(f"--{name}={settings[name]}" for name in settings))
        try:
            yield server
        finally:
            stop(server)

    def start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a program of PostgreSQL as the server's account."""
        return start_program(self.programs / program, *arguments, pass_fds=[self.lock.fileno()])

    def set_up(self, server: subprocess.Popen[bytes], socket: Path) -> None:
        """Wait until the server answers, then create its login and database if they are missing."""
        while self._run_client(socket, "pg_isready", "--quiet"):
            if server.poll() is not None:
                sys.exit(1)
            time.sleep(POLL_S)
        script = Path(__file__).with_name("cluster.sql")
        options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--set=slow_query_ms={self.slow_query_ms}")
        if self._run_client(socket, "psql", *options, f"--file={script}"):
            sys.exit(1)

    def _run_client(self, socket: Path, program: str, *arguments: str) -> int:
        options = (f"--host={socket}", "--username=postgres", "--dbname=postgres", *arguments)
        return subprocess.run([self.programs / program, *options], check=False, env=ENVIRONMENT).returncode  # noqa: S603 - a program of the wheel


def start_program(program: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a program as the server's account. On Linux it ends with this process, even after SIGKILL."""
    account = _server_account()
    return subprocess.Popen(  # noqa: S603 - a program of the wheel
        [program, *arguments],
        cwd="/",
        env=ENVIRONMENT,
        user=account and account.pw_uid,
        group=account and account.pw_gid,
        extra_groups=account and [],
        preexec_fn=end_with_parent(os.getpid()),  # noqa: PLW1509 - it makes one system call
        **options,
    )


def give_to_server(folder: Path) -> None:
    """Make the server's account the owner of `folder`."""
    if account := _server_account():
        os.chown(folder, account.pw_uid, account.pw_gid)


def _server_account() -> pwd.struct_passwd | None:
    """Return the account that runs the server instead of root. PostgreSQL refuses to run as root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def end_with_parent(parent: int) -> Callable[[], None] | None:
    """Return a `preexec_fn` that makes a child end when its parent does. Only Linux has it."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def tell_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:  # the parent ended before the kernel was told
            os._exit(1)

    return tell_kernel


def stop(server: subprocess.Popen[bytes]) -> None:
    """Stop the server, at first gently (PostgreSQL's manual, "Shutting Down the Server")."""
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        server.send_signal(signum)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_S)
            return
