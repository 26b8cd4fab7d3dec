"""A real PgBouncer in transaction mode before a test's PostgreSQL, as Neon and others run it."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import create_connection

from tests.postmaster import Postmaster
from tests.process import free_port, needed
from tests.support import wait_until

CONFIGURATION = """
[databases]
* = host={server} port=5432
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {size}
client_tls_sslmode = require
client_tls_key_file = {folder}/key
client_tls_cert_file = {folder}/certificate
"""
CERTIFICATE = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key -out certificate"


@contextmanager
def pgbouncer(postmaster: Postmaster, size: int) -> Iterator[str]:
    """Run a PgBouncer of `size` connections for each database until the block ends. It speaks TLS alone.

    Yield its host and port.
    """
    program, folder = needed("pgbouncer"), postmaster.socket / "pgbouncer"
    folder.mkdir()
    port = free_port()
    subprocess.run(CERTIFICATE.split(), cwd=folder, check=True, capture_output=True)
    (folder / "users").write_text('"tasks" ""')
    (folder / "ini").write_text(CONFIGURATION.format(server=postmaster.socket, port=port, folder=folder, size=size))
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None  # it refuses to run as root
    if account:
        os.chown(folder / "key", account.pw_uid, account.pw_gid)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, folder / "ini"], stderr=log, user=account and account.pw_uid)
        try:
            wait_until(lambda: listens(port) or process.poll() is not None)
            assert process.poll() is None, (folder / "log").read_text()
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(folder)


def listens(port: int) -> bool:
    with suppress(OSError), create_connection(("127.0.0.1", port)):
        return True
    return False
