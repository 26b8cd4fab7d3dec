"""Load from one event loop. It needs so little CPU that the server is at its limit first, not the client."""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple, cast

import uvloop

REFUSED = -1
MAX_OPEN = 700  # connections: some systems let a process open 1,024 files at most
CLOSING_S = 0.05  # a transport closes in a later turn of the loop than close() was called


class Answer(NamedTuple):
    """One answer. Its status is 0 if the connection broke, and REFUSED if nobody listened; its head then says why."""

    status: int
    head: bytes
    body: bytes
    seconds: float


class Connection(asyncio.Protocol):
    """One keep-alive connection. It opens at the first request, and sends one request at a time and none twice."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: asyncio.WriteTransport | None = None
        self._answer: asyncio.Future[tuple[int, bytes, bytes]]
        self._data = b""

    async def send(self, request: bytes) -> Answer:
        started, loop = monotonic(), asyncio.get_running_loop()
        try:
            if self._transport is None:
                await loop.create_connection(lambda: self, "127.0.0.1", self._port)
        except OSError as error:
            status = REFUSED if isinstance(error, ConnectionRefusedError) else 0
            return Answer(status, repr(error).encode(), b"", monotonic() - started)
        assert self._transport
        self._data, self._answer = b"", loop.create_future()
        self._transport.write(request)
        status, head, body = await self._answer
        return Answer(status, head, body, monotonic() - started)

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._answer = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end or self._answer.done():
            return
        lower = head.lower()
        length = int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if len(body) >= length:
            if b"\r\nconnection: close" in lower:
                self._forget()
            self._answer.set_result((int(head[9:12]), head, body))

    def connection_lost(self, error: Exception | None) -> None:
        self._forget()
        if not self._answer.done():
            self._answer.set_result((0, repr(error).encode(), b""))

    def _forget(self) -> None:
        if self._transport:
            self._transport.close()
        self._transport = None


def request(method: str, path: str, token: str, body: bytes = b"", headers: Sequence[str] = ()) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: test", f"Authorization: Bearer {token}", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def closed_loop(
    port: int,
    requests: Sequence[bytes],
    clients: int,
    is_last: Callable[[Answer], bool],
    answers: list[Answer],
    *,
    reconnect: bool = False,
    pause_s: float = 0,
) -> None:
    """Let each client send its next request `pause_s` after an answer, until `is_last` is true of the answer."""

    async def work() -> None:
        connection = Connection(port)
        while True:
            answer = await connection.send(requests[len(answers) % len(requests)])
            answers.append(answer)
            if is_last(answer):
                break
            if reconnect:
                connection.close()
                connection = Connection(port)
            await asyncio.sleep(pause_s)
        connection.close()

    async def work_all() -> None:
        await asyncio.gather(*(work() for _ in range(clients)))
        await asyncio.sleep(CLOSING_S)

    uvloop.run(work_all())


def open_loop(port: int, requests: Sequence[bytes], seconds: float, rate: float) -> list[Answer]:
    """Send `rate` requests a second. One waits for an answer to another only when MAX_OPEN are on their way."""
    free: list[Connection] = []
    answers: list[Answer] = []

    async def send_one(number: int, places: asyncio.Semaphore) -> None:
        async with places:
            connection = free.pop() if free else Connection(port)
            answers.append(await connection.send(requests[number % len(requests)]))
            free.append(connection)

    async def send_all() -> None:
        places = asyncio.Semaphore(MAX_OPEN)
        async with asyncio.TaskGroup() as tasks:
            started, sent = monotonic(), 0
            while (now := monotonic() - started) < seconds:
                for number in range(sent, int(now * rate)):
                    tasks.create_task(send_one(number, places))
                sent = int(now * rate)
                await asyncio.sleep(0.002)
        for connection in free:
            connection.close()
        await asyncio.sleep(CLOSING_S)

    uvloop.run(send_all())
    return answers
