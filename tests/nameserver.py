"""A name server that may fall silent, and a process that asks no other. Only root may start one."""

import shlex
import struct
from collections.abc import Sequence
from pathlib import Path
from socket import inet_aton
from socketserver import BaseRequestHandler, UDPServer

NAME = "postgres.test"
ADDRESS, PORT = "127.53.53.53", 53  # of our own: the machine's own resolver may be at 127.0.0.53
A, OK, NO_SUCH_NAME = 1, 0x8180, 0x8183  # RFC 1035, 3.2.2 and 4.1.1


class Nameserver(UDPServer):
    """Answers that NAME is at 127.0.0.1, that it is unknown, or nothing."""

    is_silent, knows_name = False, True

    def __init__(self) -> None:
        super().__init__((ADDRESS, PORT), Question)

    def answer(self, query: bytes) -> bytes:
        """Return the answer to a question (RFC 1035, 4.1)."""
        end = query.index(b"\0", 12) + 5  # the name, its final zero, type and class
        (asked,) = struct.unpack("!H", query[end - 4 : end - 2])
        has_address = self.knows_name and asked == A
        head = struct.pack("!HHHHH", OK if self.knows_name else NO_SUCH_NAME, 1, has_address, 0, 0)
        record = struct.pack("!HHHIH", 0xC00C, A, 1, 0, 4) + inet_aton("127.0.0.1")
        return query[:2] + head + query[12:end] + (record if has_address else b"")


class Question(BaseRequestHandler):
    server: Nameserver

    def handle(self) -> None:
        query, own = self.request
        if not self.server.is_silent:
            own.sendto(self.server.answer(query), self.client_address)


def asking_it(folder: Path) -> Sequence[str]:
    """Return what to put before a command so that it asks this name server, and no other."""
    settings = folder / "resolv.conf"
    settings.write_text(f"nameserver {ADDRESS}\n")
    script = f'mount --bind {shlex.quote(str(settings))} /etc/resolv.conf && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]
