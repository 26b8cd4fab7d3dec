"""What users do with tasks, well and badly, in the shares that a busy day has."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple
from uuid import uuid4

import httpx

from devtools.caller import SLOW_SEARCH

WORDS = ("plants", "invoice", "groceries", "passport", "bicycle", "letter", "garden", "backup", "dentist", "review")
BURST = 130  # over the default limit of 100 a minute
BURST_AT_ONCE = 8
NEVER_WAS = 2**62
KNOWN = 50


class Sample(NamedTuple):
    """One answer. A `status` of 0 means that there was none."""

    action: str
    status: int
    seconds: float
    trace_id: str


@dataclass
class User:
    """One user at work, who remembers the last tasks seen and their tags."""

    http: httpx.AsyncClient
    headers: dict[str, str]
    record: Callable[[Sample], None]
    tags: dict[int, str] = field(default_factory=dict)

    async def send(self, action: str, method: str, path: str = "", **options: Any) -> httpx.Response | None:
        """Send one request, and record how it went; None where no answer came."""
        headers = self.headers | options.pop("headers", {})
        started = perf_counter()
        try:
            answer = await self.http.request(method, f"/api/tasks{path}", headers=headers, **options)
        except httpx.HTTPError:
            self.record(Sample(action, 0, perf_counter() - started, ""))
            return None
        trace_id = answer.headers.get("X-Trace-Id", "")
        self.record(Sample(action, answer.status_code, perf_counter() - started, trace_id))
        self._remember(answer)
        return answer

    def _remember(self, answer: httpx.Response) -> None:
        if "ETag" in answer.headers and answer.content:
            self.tags[answer.json()["id"]] = answer.headers["ETag"]
        while len(self.tags) > KNOWN:
            self.tags.pop(next(iter(self.tags)))

    async def task(self) -> int:
        """Return the id of a task of this user, made where there is none."""
        if not self.tags:
            await create(self)
        return random.choice(list(self.tags)) if self.tags else NEVER_WAS


def chance(share: float) -> bool:
    """Tell, for this time, whether it is one of a `share` of times."""
    return random.random() < share


def title() -> str:
    """Return a title as people write them."""
    return f"{random.choice(('Buy', 'Check', 'Send', 'Water', 'Plan'))} the {random.choice(WORDS)}"


async def list_tasks(user: User) -> None:
    """List a page, and now and then the one after it."""
    query = random.choice(({}, {"limit": "20"}, {"completed": "false"}, {"order": "oldest", "limit": "10"}))
    page = await user.send("list", "GET", params=query)
    if page is not None and "next" in page.links and chance(0.2):
        await user.send("list", "GET", page.links["next"]["url"].removeprefix("/api/tasks"))


async def read(user: User) -> None:
    """Read a task, half the time with the tag of the copy at hand."""
    task = await user.task()
    tag = {"If-None-Match": user.tags[task]} if task in user.tags and chance(0.5) else {}
    await user.send("read", "GET", f"/{task}", headers=tag)


async def create(user: User) -> None:
    """Create a task; one in ten is sent twice, as after a time-out."""
    key = {"Idempotency-Key": str(uuid4())}
    body = {"title": title(), "description": "Soon. " * random.randint(0, 200)}
    for _ in range(1 + chance(0.1)):
        await user.send("create", "POST", json=body, headers=key)


async def change(user: User) -> None:
    """Change a task as it was last seen."""
    task = await user.task()
    await user.send("change", "PATCH", f"/{task}", json={"title": title()}, headers=if_match(user, task))


async def complete(user: User) -> None:
    """Complete a task."""
    await user.send("complete", "PATCH", f"/{await user.task()}/complete")


async def delete(user: User) -> None:
    """Delete a task."""
    task = await user.task()
    user.tags.pop(task, None)
    await user.send("delete", "DELETE", f"/{task}")


async def search(user: User) -> None:
    """Search for a word."""
    await user.send("search", "GET", params={"q": random.choice(WORDS), "limit": "10"})


async def search_slowly(user: User) -> None:
    """Search the archive for what compares badly with all of it."""
    await user.send("slow search", "GET", params={"q": SLOW_SEARCH})


async def conflict(user: User) -> None:
    """Change a task in two windows at once: the second is refused with 412."""
    task = await user.task()
    headers = if_match(user, task)
    both = [user.send("conflict", "PATCH", f"/{task}", json={"title": title()}, headers=headers) for _ in range(2)]
    await asyncio.gather(*both)


async def lose(user: User) -> None:
    """Ask for a task that never was."""
    await user.send("not found", "GET", f"/{NEVER_WAS}")


async def mistake(user: User) -> None:
    """Send what cannot be accepted."""
    await user.send("invalid", "POST", json={"title": " ", "colour": "green"})


async def bad_token(user: User) -> None:
    """Come with a token that is none, or with one that was tampered with."""
    token = random.choice(("nonsense", user.headers["Authorization"].removeprefix("Bearer ")[:-4] + "AAAA"))
    await user.send("bad token", "GET", headers={"Authorization": f"Bearer {token}"})


async def burst(user: User) -> None:
    """Ask far more often than a minute allows."""
    gate = asyncio.Semaphore(BURST_AT_ONCE)

    async def once() -> None:
        async with gate:
            await user.send("burst", "GET", params={"limit": "1"})

    await asyncio.gather(*(once() for _ in range(BURST)))


def if_match(user: User, task: int) -> dict[str, str]:
    """Return the precondition that the task is as the user last saw it."""
    return {"If-Match": user.tags[task]} if task in user.tags else {}


Action = Callable[[User], Coroutine[Any, Any, None]]
SHARES: dict[Action, float] = {
    list_tasks: 30,
    read: 28,
    create: 14,
    change: 8,
    complete: 6,
    search: 5,
    delete: 3,
    conflict: 1.5,
    lose: 1,
    mistake: 1,
    bad_token: 0.7,
}
EXPECTED = {
    "list": {200},
    "read": {200, 304, 404},
    "create": {201},
    "change": {200, 404, 412},
    "complete": {200, 404},
    "delete": {204, 404},
    "search": {200},
    "slow search": {200, 503},  # the deadline may cut it
    "conflict": {200, 404, 412},
    "not found": {404},
    "invalid": {422},
    "bad token": {401, 429},
    "burst": {200, 429},
}
