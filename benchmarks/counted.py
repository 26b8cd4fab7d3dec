"""One mode's application under callgrind: `python -m benchmarks.counted FILE COMMAND…`, which instructions.py starts.

FILE holds requests of each call, as JSON. They go through uvicorn's protocol to a transport that is no socket, so that
nothing is counted but what the server does for them. There is a dump for each call.
"""

import json
import os
import subprocess
import sys
from asyncio import sleep, wait
from pathlib import Path
from typing import Any, cast

import uvicorn
import uvloop
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import ServerState

WARM_UP = 20  # requests
SENT_S = 1.5  # until the last spans are sent


class Transport:
    """Takes what a protocol writes, and keeps the first bytes of it."""

    def __init__(self) -> None:
        self.head = b""

    def write(self, data: bytes) -> None:
        """Keep the head."""
        self.head = self.head or data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return addresses as a socket has them."""
        return {"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 50000)}.get(name, default)

    def is_closing(self) -> bool:
        """Return whether it is closed, which it never is."""
        return False

    def pause_reading(self) -> None:
        """Do nothing: there is one request at a time."""

    resume_reading = close = pause_reading


def config_of(target: str, *, unlimited: bool) -> uvicorn.Config:
    """Return how uvicorn serves the application of a mode; that of the project is configured as in production."""
    if ":" in target:
        return uvicorn.Config(target, log_level="warning", access_log="OBSERVE" in os.environ, lifespan="on")
    from app import main  # noqa: PLC0415  the others do without it
    from app.serving import uvicorn_config  # noqa: PLC0415
    from app.settings import Settings  # noqa: PLC0415
    from app.telemetry import logs  # noqa: PLC0415
    from benchmarks.project import remove_limits  # noqa: PLC0415
    from devtools.examples.routes import router  # noqa: PLC0415

    settings = Settings.load()
    logs.configure(settings)
    if unlimited:
        remove_limits()
    api = main.create_app(settings, entities=(router, *main.ENTITIES))
    api.state.tracing.trace_process()
    return uvicorn_config(api, settings)


async def count(config: uvicorn.Config, requests: dict[str, list[str]]) -> None:
    """Send the requests of each call, and dump what they took."""
    lifespan, state = LifespanOn(config), ServerState()
    await lifespan.startup()
    protocol = cast(Any, config.http_protocol_class)(config=config, server_state=state, app_state=lifespan.state)
    transport = Transport()
    protocol.connection_made(transport)

    async def send(request: bytes) -> None:
        transport.head = b""
        protocol.data_received(request)
        await wait(state.tasks)
        if not transport.head.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(f"not a success: {transport.head[:200]!r}")

    for sent in requests.values():
        raw = [request.encode() for request in sent]
        for request in raw[:WARM_UP]:
            await send(request)
        await sleep(SENT_S)
        control("-i", "on")
        for request in raw:
            await send(request)
        await sleep(SENT_S)
        control("-i", "off")
        control("-d")
    await lifespan.shutdown()


def control(*arguments: str) -> None:
    """Tell callgrind to count, to stop, or to dump and begin anew."""
    command = ["callgrind_control", *arguments, str(os.getpid())]  # it is valgrind's own
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603


if __name__ == "__main__":
    requests, command = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2:]
    target = next(part for part in command if "." in part)
    uvloop.run(count(config_of(target, unlimited="--unlimited" in command), requests))
