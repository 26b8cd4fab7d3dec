"""A stretch of wire between the application and PostgreSQL, where a test can listen, and cut.

It speaks the frontend's side of the protocol (https://www.postgresql.org/docs/current/protocol-message-formats.html)
just so far as to tell queries apart.
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
    """Forwards connections to `server`, and notes every query that the application sends."""

    def __init__(self, server: Path) -> None:
        self._server, self._lock = server, Lock()
        self._sockets: list[socket] = []
        self._seen: list[str] = []
        self._muted: set[socket] = set()
        self._lost: set[socket] = set()
        self._cut_after: str | None = None
        self._listener = create_server(("127.0.0.1", 0))
        Thread(target=self._accept, daemon=True).start()

    def url(self, database: str, login: str = "tasks") -> str:
        port = self._listener.getsockname()[1]
        return f"postgresql+psycopg2://{login}@127.0.0.1:{port}/{database}?sslmode=disable&gssencmode=disable"

    def queries(self) -> list[str]:
        """Return the queries since the last call, but for those that only ask whether the server is there."""
        with self._lock:
            seen, self._seen = self._seen, []
        return [query for query in seen if query != PING]

    def cut(self) -> None:
        """Close every connection, as a server that is suspended does."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for end in sockets:
            with suppress(OSError):
                end.shutdown(SHUT_RDWR)

    def mute(self) -> None:
        """Hand on nothing more of the connections there are, and leave them open: nobody ever learns of it."""
        with self._lock:
            self._muted = set(self._sockets[::2])

    def cut_after(self, pattern: str) -> None:
        """Hand on the next query that matches, and lose its answer."""
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
                Thread(target=self._listen, args=(application, server), daemon=True).start()
                Thread(target=self._answer, args=(server, application), daemon=True).start()

    def _listen(self, application: socket, server: socket) -> None:
        with suppress(OSError, EOFError), application, server:
            length = exactly(application, 4)  # the start-up message alone has no type
            server.sendall(length + exactly(application, struct.unpack("!I", length)[0] - 4))
            while True:
                head = exactly(application, 5)
                body = exactly(application, struct.unpack("!I", head[1:])[0] - 4)
                query = body[:-1].decode() if head[:1] == b"Q" else ""
                if application in self._muted:
                    continue
                if self._note(query):
                    self._lost.add(application)
                server.sendall(head + body)

    def _note(self, query: str) -> bool:
        with self._lock:
            self._seen += [query] if query else []
            lost = self._cut_after is not None and re.search(self._cut_after, query) is not None
            if lost:
                self._cut_after = None
        return lost

    def _answer(self, server: socket, application: socket) -> None:
        with suppress(OSError):
            while (data := server.recv(65536)) and application not in self._lost:
                application.sendall(data)
            application.shutdown(SHUT_RDWR)


def exactly(source: socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


@contextmanager
def run_proxy(server: Path) -> Iterator[Proxy]:
    tapped = Proxy(server)
    try:
        yield tapped
    finally:
        tapped.close()
