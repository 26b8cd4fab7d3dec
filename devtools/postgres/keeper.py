"""The process that runs one PostgreSQL while anybody uses it, and stops it when the last user is gone.

Each user holds a shared lock on `users.lock`; the kernel lets go of it however the user ends. The keeper stops the
server once it gets that lock exclusively, and keeps it until it ends itself: whoever comes then waits and starts anew.
Two more locks are held by inheritance: `keeper.lock` by this process, `server.lock` by all that runs on the data.
It has a session of its own, so Ctrl-C in a user's terminal does not reach it.
"""

import argparse
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from devtools.postgres.cluster import Cluster, give_to_server
from devtools.postgres.home import locked

POLL_S = 0.05


def main() -> None:
    """Read the command line, and go on in a child: whoever started this need neither wait for it nor reap it."""
    parser = argparse.ArgumentParser(description="Keep one PostgreSQL running while `users.lock` is held.")
    for name in ("state", "folder", "binaries"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--slow-query-ms", type=int, required=True)
    parser.add_argument("--volatile", action="store_true")
    options = parser.parse_args()
    if os.fork() == 0:
        os.chdir("/")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        with (options.state / "users.lock").open("ab") as users, (options.state / "server.lock").open("ab") as lock:
            keep(Cluster(**vars(options), lock=lock), users)


def keep(cluster: Cluster, users: BinaryIO) -> None:
    """Run the server, from initdb where that is still to do, to its end."""
    end_predecessor(cluster)
    if not cluster.data.exists():
        cluster.initialise()
    with private_folder() as socket, cluster.running(socket) as server:
        cluster.set_up(server, socket)
        with announced(cluster.state / "socket", socket):
            while server.poll() is None and not locked(users, fcntl.LOCK_EX):
                time.sleep(POLL_S)


def end_predecessor(cluster: Cluster) -> None:
    """Wait for what a killed keeper left running. Where its server goes on (not on Linux), tell it to stop."""
    while not locked(cluster.lock, fcntl.LOCK_EX):
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):  # another program is running, or it ends
            os.kill(int((cluster.data / "postmaster.pid").read_text().split("\n", 1)[0]), signal.SIGINT)
        time.sleep(POLL_S)


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder which only the server's account and root may enter.

    In /tmp, whatever $TMPDIR says: a unix socket's path has at most 103 bytes, and `nobody` must get there.
    """
    folder = Path(tempfile.mkdtemp(prefix="task-api-", dir="/tmp"))
    give_to_server(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def announced(link: Path, folder: Path) -> Iterator[None]:
    """While this lasts, `link` leads users to the socket."""
    link.symlink_to(folder)
    try:
        yield
    finally:
        link.unlink()


if __name__ == "__main__":
    main()
