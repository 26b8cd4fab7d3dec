"""What users send during a drill."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import count, cycle
from threading import Thread

import httpx

from devtools.drill.incident import Load
from devtools.drill.target import Target
from devtools.traffic.actions import SHARES, Sample, User
from devtools.traffic.run import repeat

USERS = 40
TIMEOUT_S = 10.0
Answers = Counter[tuple[str, int]]


async def do_as_usual(user: User) -> None:
    """Do what users do, in its usual shares."""
    (action,) = random.choices(list(SHARES), list(SHARES.values()))
    await action(user)


ORDINARY = Load(do_as_usual, 20)


@contextmanager
def sending(target: Target, load: Load) -> Iterator[Answers]:
    """Send `load` to all replicas until the block ends. Yield the answers, counted by action and status."""
    answers: Answers = Counter()
    ends: list[Callable[[], object]] = []
    failures: list[Exception] = []

    async def send() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task
        ends.append(lambda: loop.call_soon_threadsafe(task.cancel))
        try:
            await _send_actions(target, load, answers)
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001  told to whoever has started it
            failures.append(error)

    thread = Thread(target=lambda: asyncio.run(send()), daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        for end in ends if thread.is_alive() else ():
            end()
        thread.join(TIMEOUT_S)
        if failures:
            raise failures[0]


async def _send_actions(target: Target, load: Load, answers: Answers) -> None:
    """Start actions at the load's rate, however late the answers are."""

    def record(sample: Sample) -> None:
        answers[sample.action, sample.status] += 1

    names = cycle([load.user] if load.user else [f"user-{number}" for number in range(USERS)])
    turns, users = count(), dict[tuple[str, str], User]()
    async with AsyncExitStack() as clients:

        async def act() -> None:
            name, url = next(names), target.urls[next(turns) % len(target.urls)]  # which change in a deploy
            if (name, url) not in users:
                http = await clients.enter_async_context(httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S))
                users[name, url] = User(http, target.collection, target.header(name), record)
            await load.action(users[name, url])

        async with asyncio.TaskGroup() as tasks:
            await repeat(tasks, 1 / load.rate, act)
