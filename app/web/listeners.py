"""How listeners close so that no client is reset.

The kernel completes a handshake without the process, and queues the connection. When a listener closes, the kernel
resets what is still queued, though the client may have sent its request.
"""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from ctypes import addressof, create_string_buffer
from select import POLLIN, poll
from socket import SOL_SOCKET, socket
from struct import pack
from time import monotonic

SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python does not name it
DROP_SYN = (  # https://docs.kernel.org/networking/filter.html: operation, jump if true, jump if false, operand
    (0x30, 0, 0, 13),  # load the byte of the TCP header that holds the flags
    (0x45, 0, 1, 0x02),  # if SYN is not set, skip one
    (0x06, 0, 0, 0),  # drop the packet
    (0x06, 0, 0, 0xFFFF_FFFF),  # keep the packet
)
HANDSHAKE_S = 0.01  # a handshake that has begun ends within this, if the proxy is near


async def close(servers: Sequence[asyncio.Server], end: float) -> None:
    """Accept who has connected, or begun to, and close the listeners; at `end` of `monotonic` close them in any case.

    Who begins to connect meanwhile gets no answer. The client's kernel tries again after a second, and is refused.
    """
    queues = poll()
    for listener in [listener for server in servers for listener in server.sockets]:
        _drop_handshakes(listener)
        queues.register(listener.fileno(), POLLIN)
    await asyncio.sleep(HANDSHAKE_S)
    while queues.poll(0) and monotonic() < end:
        await asyncio.sleep(0)  # each turn of the event loop accepts one
    for server in servers:
        server.close()


def _drop_handshakes(listener: socket) -> None:
    """Let the kernel drop packets that begin a connection. Only Linux can, and not every sandbox of it."""
    if sys.platform == "linux":
        code = create_string_buffer(b"".join(pack("HBBI", *instruction) for instruction in DROP_SYN))
        with suppress(OSError):
            listener.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, pack("HP", len(DROP_SYN), addressof(code)))
