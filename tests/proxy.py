"""A proxy between the application and PostgreSQL: a test can read the queries, and cut the connections.

It knows only so much of the protocol that it finds the queries
(https://www.postgresql.org/docs/current/protocol-message-formats.html).
"""

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import AF_UNIX, SHUT_RDWR, create_server, socket
from threading import Lock, Thread

PING = "SELECT 1"


class Proxy:
    """Forwards connections to `server`, and records every query that the application sends."""

    def __init__(self, server: Path) -> None:
        self._server, self._lock = server, Lock()
        self._sockets: list[socket] = []
        self._seen: list[str] = []
        self._muted: set[socket] = set()
        self._lost: set[socket] = set()
        self._cut_after: str | None = None
        self._listener = create_server(("127.0.0.1", 0))
        Thread(target=self._accept, daemon=True).start()

    def url(self, database: str, login: str = "tasks", host: str = "127.0.0.1") -> str:
        port = self._listener.getsockname()[1]
        return f"postgresql+psycopg2://{login}@{host}:{port}/{database}?sslmode=disable&gssencmode=disable"

    def queries(self) -> list[str]:
        """Return the queries since the last call, without the pings."""
        with self._lock:
            seen, self._seen = self._seen, []
        return [query for query in seen if query != PING]

    def cut(self) -> None:
        """Close every connection, as a server does that is suspended."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for end in sockets:
            with suppress(OSError):
                end.shutdown(SHUT_RDWR)

    def mute(self) -> None:
        """Forward nothing more on the present connections, but keep them open: neither side is told."""
        with self._lock:
            self._muted = set(self._sockets[::2])

    def cut_after(self, pattern: str) -> None:
        """Forward the next query that matches, and close its connection instead of answering."""
        self._cut_after = pattern

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                application, _ = self._listener.accept()
                server = socket(AF_UNIX)
                server.connect(str(self._server / ".s.PGSQL.5432"))
                with self._lock:
                    self._sockets += [application, server]
                Thread(target=self._forward_queries, args=(application, server), daemon=True).start()
                Thread(target=self._forward_answers, args=(server, application), daemon=True).start()

    def _forward_queries(self, application: socket, server: socket) -> None:
        with suppress(OSError, EOFError), application, server:
            length = receive_exactly(application, 4)  # only the start-up message has no type
            server.sendall(length + receive_exactly(application, struct.unpack("!I", length)[0] - 4))
            while True:
                head = receive_exactly(application, 5)
                body = receive_exactly(application, struct.unpack("!I", head[1:])[0] - 4)
                query = body[:-1].decode() if head[:1] == b"Q" else ""
                if application in self._muted:
                    continue
                if self._record(query):
                    self._lost.add(application)
                server.sendall(head + body)

    def _record(self, query: str) -> bool:
        with self._lock:
            self._seen += [query] if query else []
            lost = self._cut_after is not None and re.search(self._cut_after, query) is not None
            if lost:
                self._cut_after = None
        return lost

    def _forward_answers(self, server: socket, application: socket) -> None:
        with suppress(OSError):
            while (data := server.recv(65536)) and application not in self._lost:
                application.sendall(data)
            application.shutdown(SHUT_RDWR)


def receive_exactly(source: socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


@contextmanager
def run_proxy(server: Path) -> Iterator[Proxy]:
    proxy = Proxy(server)
    try:
        yield proxy
    finally:
        proxy.close()
