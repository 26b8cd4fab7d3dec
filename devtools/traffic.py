"""Drives an API as a day of users would: reads, writes, slow searches, conflicts, bad tokens, bursts over the limit."""

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
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from app.settings import Settings, SettingsError
from devtools.caller import ARCHIVED, ARCHIVIST, Endpoints, Tokens, fill_archive
from devtools.mix import SHARES, Action, Sample, User, burst, search_slowly
from devtools.tally import Tally

TIMEOUT_S = 10.0
PER_USER = 40  # requests a minute: well within the default limit
SLOW_EVERY_S = 4.0
BURST_EVERY_S = 30.0
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds(duration: str) -> float:
    """Return the seconds of `90`, `90s`, `5m` or `1h`.

    Raises:
        SettingsError: it is none of these.

    """
    found = re.fullmatch(r"(\d+)([smh]?)", duration)
    if not found or not int(found[1]):
        raise SettingsError("--duration: must be seconds, or such as 90s, 5m or 1h.")
    return float(found[1]) * UNITS[found[2]]


def checked_url(url: str) -> str:
    """Return `url` without a slash at its end.

    Raises:
        SettingsError: it is none that a request can be sent to.

    """
    try:
        return str(HttpUrl(url)).rstrip("/")
    except ValueError:
        raise SettingsError("--url: must be a URL such as http://127.0.0.1:8000.") from None


def traffic(settings: Settings, url: str | None, rate: float, duration: float) -> bool:
    """Send `rate` requests a second to `url` during `duration` seconds, and print what came back.

    Returns whether every answer was one that the contract has for its request. Ctrl-C ends it early.

    Raises:
        SettingsError: `url` is none.
        NoAnswer: nothing listens there, or its tokens cannot be made here.

    """
    endpoints = Endpoints.load()
    url = checked_url(url or endpoints.url(endpoints.api_port))
    tokens = Tokens(url, settings)
    console, tally = Console(), Tally()
    with progress_bar(console) as progress:
        archive(url, tokens, progress)
        bar = progress.add_task("Sending", total=duration, answers="")
        http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S)
        started = monotonic()

        def show(sample: Sample) -> None:
            tally.add(sample)
            progress.update(bar, completed=monotonic() - started, answers=f"{tally}")

        with suppress(KeyboardInterrupt):
            asyncio.run(drive(http, tokens, show, rate, duration))
    console.print(tally.table())
    jaeger = endpoints.url(endpoints.jaeger_port)
    for line in tally.slowest(f"{jaeger}/trace/" if is_there(jaeger) else "trace "):
        console.print(line, highlight=False, soft_wrap=True)
    return not tally.unexpected


def is_there(url: str) -> bool:
    """Tell whether anything answers at `url`."""
    with suppress(httpx.TransportError):
        httpx.get(url)
        return True
    return False


def progress_bar(console: Console) -> Progress:
    """Return the progress bar: what is done, how far, what came back."""
    text, answers = TextColumn("{task.description}"), TextColumn("{task.fields[answers]}")
    return Progress(text, BarColumn(), TimeRemainingColumn(), answers, console=console)


def archive(url: str, tokens: Tokens, progress: Progress) -> None:
    """Make the tasks that a search is slow on."""
    bar = progress.add_task("Filling the archive", total=ARCHIVED, answers="")
    with httpx.Client(base_url=url, headers=tokens.header(ARCHIVIST), timeout=TIMEOUT_S) as client:
        for number in fill_archive(client):
            progress.update(bar, completed=number)
        progress.update(bar, completed=ARCHIVED)


async def drive(
    http: httpx.AsyncClient, tokens: Tokens, record: Callable[[Sample], None], rate: float, duration: float
) -> None:
    """Start actions at the given rate, whether or not the answers keep up, and the slow and the greedy beside them."""

    def user(name: str) -> User:
        return User(http, tokens.header(name), record)

    crowd = [user(f"user-{number}") for number in range(max(10, ceil(rate * 60 / PER_USER)))]
    archivist, greedy = user(ARCHIVIST), user("greedy")
    with suppress(TimeoutError):
        async with http, asyncio.timeout(duration), asyncio.TaskGroup() as tasks:
            tasks.create_task(repeat(tasks, 1 / rate, lambda: any_action()(random.choice(crowd))))
            tasks.create_task(repeat(tasks, SLOW_EVERY_S, lambda: search_slowly(archivist)))
            tasks.create_task(repeat(tasks, BURST_EVERY_S, lambda: burst(greedy)))


def any_action() -> Action:
    """Return an action, by its share."""
    return random.choices(list(SHARES), list(SHARES.values()))[0]


async def repeat(tasks: asyncio.TaskGroup, every_s: float, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start `action` again and again, at even distances however long it takes."""
    start = monotonic()
    for number in count(1):
        tasks.create_task(action())
        await asyncio.sleep(max(0, start + number * every_s - monotonic()))
