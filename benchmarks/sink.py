"""An OTLP/HTTP receiver that accepts everything at once: `python -m benchmarks.sink PORT`."""

import asyncio
import sys
from typing import Any

import httptools

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Sink(asyncio.Protocol):
    """One connection of an exporter."""

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse the request."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer 200."""
        self._transport.write(ANSWER)


async def main(port: int) -> None:
    """Serve until the process ends."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
