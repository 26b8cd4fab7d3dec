"""Whatever names the database's host, libpq connects as it did, and goes by the name where it has one."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import AF_UNIX, create_server, socket
from threading import Thread, stack_size
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine, exc, pool, text

from app.db import deadline
from app.db.addresses import Resolver, resolve_hosts
from app.db.checks import Checks
from app.db.pool import engine_for
from tests.certificates import certificate
from tests.postmaster import Postmaster
from tests.proxy import run_proxy


def parameters_of(url: str) -> Any:
    dialect = create_engine(url, poolclass=pool.NullPool).dialect
    parameters = dialect.create_connect_args(create_engine(url).url)[1]
    resolve_hosts(dialect, None, [], parameters)
    return parameters


@pytest.mark.parametrize(
    "host",
    [
        "@/db?host=/folder",
        "@127.0.0.1:5432/db",
        "@[::1]/db",
        "@/db",
        "@/db?host=/folder,127.0.0.1",
    ],
)
def test_what_is_no_name_is_left_as_it_is(host: str) -> None:
    """Sockets, addresses, or none at all."""
    assert "hostaddr" not in parameters_of(f"postgresql+psycopg2://u{host}")


def test_an_address_of_the_url_wins() -> None:
    """The name is not looked up."""
    parameters = parameters_of("postgresql+psycopg2://u@no-such-name.invalid/db?hostaddr=127.0.0.1")
    assert (parameters["host"], parameters["hostaddr"]) == ("no-such-name.invalid", "127.0.0.1")


def test_each_address_keeps_its_host_and_port() -> None:
    """A name may have several addresses; sockets and addresses stand between the names."""
    parameters = parameters_of("postgresql+psycopg2://u@/db?host=/folder:1&host=localhost:2&host=127.0.0.9:3")
    entries = list(zip(*(parameters[name].split(",") for name in ("host", "hostaddr", "port")), strict=True))
    assert (entries[0], entries[-1]) == (("/folder", "", "1"), ("127.0.0.9", "", "3"))
    assert {(host, port) for host, _, port in entries[1:-1]} == {("localhost", "2")}
    assert ("localhost", "127.0.0.1", "2") in entries


def test_the_first_host_that_answers_is_used(postmaster: Postmaster) -> None:
    """A name, a socket and an address are asked in turn."""
    with run_proxy(postmaster.socket) as proxy:
        port = proxy.url("").rpartition("@127.0.0.1:")[2].partition("/")[0]
        second = f"localhost:{port}"
        for hosts in (["localhost:1", second], ["/nowhere:1", second], ["localhost:1", f"127.0.0.1:{port}"]):
            query = "&".join(f"host={host}" for host in hosts)
            engine = engine_for(f"postgresql+psycopg2://tasks@/migrated?{query}&sslmode=disable", 1, Checks())
            with engine.connect() as connection:
                assert connection.scalar(text("SELECT 1")) == 1
            engine.dispose()


@contextmanager
def run_tls(server: Path, folder: Path, names: list[str | None]) -> Iterator[int]:
    """Speak TLS as `localhost` in front of `server`, for one connection at a time; note which name clients ask for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(folder))
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                plain.recv(8)  # SSLRequest
                plain.sendall(b"S")
                with suppress(OSError), context.wrap_socket(plain, server_side=True) as client, socket(AF_UNIX) as end:
                    end.connect(str(server / ".s.PGSQL.5432"))
                    answers = Thread(target=forward, args=(end, client), daemon=True)
                    answers.start()
                    forward(client, end)

    with create_server(("127.0.0.1", 0)) as listener:
        Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def forward(source: socket, target: socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def test_tls_goes_by_the_name(postmaster: Postmaster, tmp_path: Path) -> None:
    """The certificate is verified for the name, and the server learns it, as Neon's must."""
    names: list[str | None] = []
    with run_tls(postmaster.socket, tmp_path, names) as port:
        query = f"sslmode=verify-full&sslrootcert={tmp_path}/server.pem"
        engine = engine_for(f"postgresql+psycopg2://tasks@localhost:{port}/migrated?{query}", 1, Checks())
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        engine.dispose()
        assert names[-1] == "localhost"
        other = engine_for(f"postgresql+psycopg2://tasks@127.0.0.1:{port}/migrated?{query}", 1, Checks())
        with pytest.raises(exc.OperationalError, match="does not match host name"):
            other.connect()


def test_a_name_that_cannot_be_one_is_an_error_of_the_driver() -> None:
    """As libpq's own: whoever handles that handles this."""
    with pytest.raises(psycopg2.OperationalError, match="could not translate host name"):
        parameters_of(f"postgresql+psycopg2://u@{'x' * 300}/db")


def test_a_look_up_without_a_thread_is_tried_again() -> None:
    """Where the system gives no thread, that is an error of the driver, and the next one has a thread again."""
    resolver, before = Resolver(), stack_size(2**46)  # no system has room for it
    try:
        with pytest.raises(psycopg2.OperationalError, match="can't start new thread"):
            resolver.find("localhost")
    finally:
        stack_size(before)
    with deadline.start(5):
        assert "127.0.0.1" in resolver.find("localhost")
