"""Code that blocks the event loop: a line of the log names it, and so do the spans of the requests that waited."""

import asyncio
import json
import signal
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from io import StringIO
from typing import Any

import httpx
import pytest
import uvloop

from app.telemetry.event_loop import LATE_S, EventLoopWatch
from tests.otlp_receiver import Receiver
from tests.process import Process
from tests.support import Api, wait_until
from tests.telemetry.support import entries, server_span, stop
from tests.web.team import api_router

Start = Callable[..., AbstractContextManager[Api]]

BLOCKED_S = 0.4
NUMBERS = 30_000_000  # take about as long to add up
THREAD = "event loop watch"
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])

router = api_router()
waiting, blocking = threading.Event(), threading.Event()


@router.get("/block")
async def block() -> None:
    blocking.set()
    time.sleep(BLOCKED_S)  # the fault


@router.get("/wait")
async def wait() -> None:
    waiting.set()
    while not blocking.is_set():
        await asyncio.sleep(0.001)


@router.get("/quick")
async def quick() -> None:
    return


def lines_of(log: StringIO) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{"))
    return [line for line in lines if line["logger"] == "app.telemetry.event_loop"]


def block_others(client: httpx.Client) -> list[httpx.Response]:
    """Return the answers of the request that blocks, one that was there before, and one that came meanwhile."""
    waiting.clear()
    blocking.clear()
    with ThreadPoolExecutor() as threads:
        waited = threads.submit(client.get, "/api/wait")
        assert waiting.wait(10)
        blocked = threads.submit(client.get, "/api/block")
        assert blocking.wait(10)
        came = threads.submit(client.get, "/api/quick")
        return [asked.result() for asked in (blocked, waited, came)]


def is_blocked(receiver: Receiver, answer: httpx.Response) -> bool:
    return "app.event_loop.blocked_ms" in server_span(receiver, answer)["attributes"]


def test_the_code_that_blocks_is_named(traced: Start, receiver: Receiver, log: StringIO) -> None:
    """By one line, and by the span of each request that was there, or came meanwhile; of later ones by none."""
    with traced([router]) as api, api.client() as client:
        tries = ([server_span(receiver, one) for one in block_others(client)] for _ in range(5))
        # More than one try only without a free CPU: then nobody is blamed, or a request comes too late to be blocked.
        spans = next(spans for spans in tries if all("app.event_loop.blocked_by" in one["attributes"] for one in spans))
        assert is_blocked(receiver, client.get("/api/block"))
        wait_until(lambda: not is_blocked(receiver, client.get("/api/quick")))
    (line,) = lines_of(log)
    assert line["level"] == "WARNING"
    assert line["code.function.name"] == "tests.telemetry.test_event_loop_watch.block"
    assert line["code.file.path"] == "tests/telemetry/test_event_loop_watch.py"
    place = f"{line['code.function.name']} ({line['code.file.path']}:{line['code.line.number']})"
    assert line["message"] == f"the event loop is blocked by {place}"
    assert "time.sleep(BLOCKED_S)" in line["stack"].splitlines()[-1]
    assert line["late_ms"] >= 100 > 2 * line["cpu_ms"]
    for span in spans:
        assert span["attributes"]["app.event_loop.blocked_by"] == place
        assert span["attributes"]["app.event_loop.blocked_ms"] > BLOCKED_S * 1000 - 110


def watched(loop: Callable[[], AbstractEventLoop], act: Callable[[], object]) -> list[float]:
    """Run this on a loop that is watched; return by how much the loop was late, each time."""
    late: list[float] = []

    async def run() -> None:
        async with EventLoopWatch(late.append).running():
            while not late:
                await asyncio.sleep(0.01)
            act()
            seen = len(late)
            while len(late) == seen:
                await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
    return late


@LOOPS
def test_code_that_keeps_the_interpreter_is_named_as_well(log: StringIO, loop: Callable[[], AbstractEventLoop]) -> None:
    """The watch cannot look before such code ends; the time of the CPU says that it was at work all the time."""

    def compute() -> None:
        sum(range(NUMBERS))  # which looks at nothing else until its end

    tries = (watched(loop, compute) for _ in range(5))  # more than one only without a free CPU
    assert max(next(late for late in tries if lines_of(log))) > LATE_S
    (line,) = lines_of(log)
    assert line["code.function.name"].endswith("<locals>.compute")
    assert line["cpu_ms"] > 100


@LOOPS
def test_a_loop_that_waits_for_work_is_not_blocked(log: StringIO, loop: Callable[[], AbstractEventLoop]) -> None:
    """And its watch ends with it."""
    before = {*threading.enumerate()}
    watched(loop, lambda: None)
    assert lines_of(log) == []
    wait_until(lambda: THREAD not in {thread.name for thread in {*threading.enumerate()} - before})


@pytest.mark.slow
def test_a_process_that_stood_still_blames_no_code(run: Callable[..., AbstractContextManager[Process]]) -> None:
    """Stopped for half a second, as a debugger or a busy machine does: no line."""
    with run() as process:
        for _ in range(3):
            process.popen.send_signal(signal.SIGSTOP)
            time.sleep(0.4)  # the fault: how long it is stopped
            process.popen.send_signal(signal.SIGCONT)
            wait_until(process.is_alive)
        stop(process)
        assert [entry for entry in entries(process) if entry["logger"] == "app.telemetry.event_loop"] == []
