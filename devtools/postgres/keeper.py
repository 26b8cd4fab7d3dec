"""The process that runs one PostgreSQL while anybody uses it, and stops it when the last user has gone.

Each user holds a shared lock on `users.lock`. The kernel releases it however the user ends. The keeper stops the
server when it gets that lock exclusively, and holds it until it ends itself: a new user waits and starts a new keeper.
Child processes inherit two more locks: the keeper holds `keeper.lock`; all that works on the data hold `server.lock`.
The keeper has a session of its own, so Ctrl-C in a user's terminal does not reach it.
"""

import argparse
import fcntl
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from devtools.postgres.cluster import Cluster, give_to_server
from devtools.postgres.home import try_lock

POLL_S = 0.05


def main() -> None:
    """Read the command line and go on in a child, so that the user's process needs no wait for it."""
    parser = argparse.ArgumentParser(description="Keep one PostgreSQL running while `users.lock` is held.")
    for name in ("state", "folder", "programs"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--slow-query-ms", type=int, required=True)
    parser.add_argument("--volatile", action="store_true")
    options = parser.parse_args()
    if os.fork() == 0:
        os.chdir("/")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        with (options.state / "users.lock").open("ab") as users, (options.state / "server.lock").open("ab") as lock:
            keep_running(Cluster(**vars(options), lock=lock), users)


def keep_running(cluster: Cluster, users: BinaryIO) -> None:
    """Run the server until it has no users. Create the cluster first if it is missing.

    The socket is in /tmp, whatever $TMPDIR says: its path has at most 103 bytes, and `nobody` must get there. Only the
    server's account and root may enter its folder. The link `socket` leads users to it.
    """
    _wait_for_predecessor(cluster)
    if not cluster.data.exists():
        cluster.initialise()
    with TemporaryDirectory(prefix="task-api-", dir="/tmp") as name:
        socket, link = Path(name), cluster.state / "socket"
        give_to_server(socket)
        with cluster.run(socket) as server:
            cluster.set_up(server, socket)
            link.symlink_to(socket)
            try:
                while server.poll() is None and not try_lock(users, fcntl.LOCK_EX):
                    time.sleep(POLL_S)
            finally:
                link.unlink()


def _wait_for_predecessor(cluster: Cluster) -> None:
    """Wait for the programs of a killed keeper. If its server goes on (not on Linux), tell it to stop."""
    while not try_lock(cluster.lock, fcntl.LOCK_EX):
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):  # another program is running, or it ends
            os.kill(int((cluster.data / "postmaster.pid").read_text().split("\n", 1)[0]), signal.SIGINT)
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
