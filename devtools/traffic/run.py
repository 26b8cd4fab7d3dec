"""Sends what users send in a day: reads, writes, slow searches, conflicts, bad tokens, bursts over the limit."""

import asyncio
import random
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import count
from math import ceil
from time import monotonic
from typing import Any

import httpx
from pydantic import HttpUrl
from rich.console import Console
from rich.progress import Progress

from app.settings import Settings, SettingsError
from devtools.client import ARCHIVED, ARCHIVIST, Endpoints, Tokens, fill_archive, find_collection
from devtools.traffic.actions import SHARES, Sample, User, exceed_limit, search_slowly
from devtools.traffic.tally import Tally

TIMEOUT_S = 10.0
PER_USER = 40  # requests a minute: well within the default limit
SLOW_EVERY_S = 4.0
BURST_EVERY_S = 30.0
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """Return the seconds of `90`, `90s`, `5m` or `1h`."""
    found = re.fullmatch(r"(\d+)([smh]?)", text)
    if not found or not int(found[1]):
        raise SettingsError("--duration: must be seconds, or such as 90s, 5m or 1h.")
    return float(found[1]) * UNITS[found[2]]


def send_traffic(settings: Settings, url: str | None, rate: float, duration: float) -> bool:
    """Send `rate` requests a second to `url` during `duration` seconds, and print what came back.

    Return whether every answer was one that the contract has for its request. Ctrl-C ends it early.
    """
    endpoints = Endpoints.load()
    url = _parse_url(url or endpoints.url(endpoints.api_port))
    tokens = Tokens(url, settings)
    collection = find_collection(url)
    console, tally = Console(), Tally()
    with Progress(console=console) as progress:
        with httpx.Client(base_url=url, headers=tokens.header(ARCHIVIST), timeout=TIMEOUT_S) as client:
            for _ in progress.track(fill_archive(client, collection), ARCHIVED, description="Filling the archive"):
                pass
        bar = progress.add_task("Sending", total=duration)
        http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S)
        started = monotonic()

        def record(sample: Sample) -> None:
            tally.add(sample)
            progress.update(bar, completed=monotonic() - started, description=f"Sending: {tally}")

        def new_user(name: str) -> User:
            return User(http, collection, tokens.header(name), record)

        with suppress(KeyboardInterrupt):
            asyncio.run(_send_actions(new_user, http, rate, duration))
    console.print(tally.table())
    jaeger = endpoints.url(endpoints.jaeger_port)
    for line in tally.slowest(f"{jaeger}/trace/" if _answers(jaeger) else "trace "):
        console.print(line, highlight=False, soft_wrap=True)
    return not tally.unexpected


def _parse_url(url: str) -> str:
    try:
        return str(HttpUrl(url)).rstrip("/")
    except ValueError:
        raise SettingsError("--url: must be a URL such as http://127.0.0.1:8000.") from None


def _answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        httpx.get(url)
        return True
    return False


async def _send_actions(new_user: Callable[[str], User], http: httpx.AsyncClient, rate: float, duration: float) -> None:
    """Start actions at the given rate, even if the answers are late, and the slow searches and bursts beside them."""
    users = [new_user(f"user-{number}") for number in range(max(10, ceil(rate * 60 / PER_USER)))]
    archivist, greedy = new_user(ARCHIVIST), new_user("greedy")

    def act() -> Coroutine[Any, Any, None]:
        (action,) = random.choices(list(SHARES), list(SHARES.values()))
        return action(random.choice(users))

    with suppress(TimeoutError):
        async with http, asyncio.timeout(duration), asyncio.TaskGroup() as tasks:
            tasks.create_task(repeat(tasks, 1 / rate, act))
            tasks.create_task(repeat(tasks, SLOW_EVERY_S, lambda: search_slowly(archivist)))
            tasks.create_task(repeat(tasks, BURST_EVERY_S, lambda: exceed_limit(greedy)))


async def repeat(tasks: asyncio.TaskGroup, every_s: float, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start `act` again and again at equal intervals, however long it takes."""
    start = monotonic()
    for number in count(1):
        tasks.create_task(act())
        await asyncio.sleep(max(0, start + number * every_s - monotonic()))
