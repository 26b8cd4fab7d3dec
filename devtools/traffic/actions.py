"""What users do, right and wrong, in the shares that a busy day has."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple
from uuid import uuid4

import httpx

from devtools.client import SLOW_SEARCH

VERBS = ("Buy", "Check", "Send", "Water", "Plan")
WORDS = ("plants", "invoice", "groceries", "passport", "bicycle", "letter", "garden", "backup", "dentist", "review")
BURST = 130  # over the default limit of 100 a minute
BURST_AT_ONCE = 10
UNKNOWN_ID = 2**62


class Sample(NamedTuple):
    """One answer. A `status` of 0 means that there was none."""

    action: str
    status: int
    seconds: float
    trace_id: str


@dataclass
class User:
    """One user at work, who remembers the ETag of each row as it was last seen."""

    http: httpx.AsyncClient
    collection: str
    headers: dict[str, str]
    record: Callable[[Sample], None]
    tags: dict[int, str] = field(default_factory=dict)

    async def send(self, action: str, method: str, path: str = "", **options: Any) -> httpx.Response | None:
        """Send one request and record its sample. Return the answer, or None if there was none."""
        return await self.visit(action, f"{self.collection}{path}", method, **options)

    async def visit(self, action: str, path: str, method: str = "GET", **options: Any) -> httpx.Response | None:
        """Send one request to any path; the rest as `send`."""
        headers = self.headers | options.pop("headers", {})
        started = perf_counter()
        try:
            answer = await self.http.request(method, path, headers=headers, **options)
        except httpx.HTTPError:
            self.record(Sample(action, 0, perf_counter() - started, ""))
            return None
        trace_id = answer.headers.get("X-Trace-Id", "")
        self.record(Sample(action, answer.status_code, perf_counter() - started, trace_id))
        if "ETag" in answer.headers and answer.content:
            self.tags[answer.json()["id"]] = answer.headers["ETag"]
        return answer

    async def pick_row(self) -> int:
        """Return the id of a row of this user. Create one if there is none."""
        if not self.tags:
            await create(self)
        return random.choice(list(self.tags)) if self.tags else UNKNOWN_ID

    def condition(self, header: str, row: int) -> dict[str, str]:
        """Return If-Match or If-None-Match with the ETag that the user saw last, if any."""
        return {header: self.tags[row]} if row in self.tags else {}


def _happens(share: float) -> bool:
    return random.random() < share


def _title() -> str:
    return f"{random.choice(VERBS)} the {random.choice(WORDS)}"


async def list_rows(user: User) -> None:
    """List a page, and sometimes the next one."""
    query = random.choice(({}, {"limit": "20"}, {"completed": "false"}, {"order": "oldest", "limit": "10"}))
    page = await user.send("list", "GET", params=query)
    if page is not None and "next" in page.links and _happens(0.2):
        await user.send("list", "GET", page.links["next"]["url"].removeprefix(user.collection))


async def read(user: User) -> None:
    """Read a row, half the time only if it has changed."""
    row = await user.pick_row()
    await user.send("read", "GET", f"/{row}", headers=user.condition("If-None-Match", row) if _happens(0.5) else {})


async def create(user: User) -> None:
    """Create a row. One in ten is sent twice, as after a time-out."""
    key = {"Idempotency-Key": str(uuid4())}
    body = {"title": _title(), "description": "Soon. " * random.randint(0, 200)}
    for _ in range(1 + _happens(0.1)):
        await user.send("create", "POST", json=body, headers=key)


async def change(user: User) -> None:
    """Change a row as it was last seen."""
    row = await user.pick_row()
    await user.send("change", "PATCH", f"/{row}", json={"title": _title()}, headers=user.condition("If-Match", row))


async def complete(user: User) -> None:
    """Complete a row."""
    await user.send("complete", "PATCH", f"/{await user.pick_row()}/complete")


async def delete(user: User) -> None:
    """Delete a row."""
    row = await user.pick_row()
    user.tags.pop(row, None)
    await user.send("delete", "DELETE", f"/{row}")


async def search(user: User) -> None:
    """Search for a word."""
    await user.send("search", "GET", params={"q": random.choice(WORDS), "limit": "10"})


async def search_slowly(user: User) -> None:
    """Search the archive for a text that takes long to compare."""
    await user.send("slow search", "GET", params={"q": SLOW_SEARCH})


async def change_twice(user: User) -> None:
    """Change a row in two windows at once: the second change is refused with 412."""
    row = await user.pick_row()
    headers = user.condition("If-Match", row)
    both = [user.send("conflict", "PATCH", f"/{row}", json={"title": _title()}, headers=headers) for _ in range(2)]
    await asyncio.gather(*both)


async def read_unknown(user: User) -> None:
    """Read a row that does not exist."""
    await user.send("not found", "GET", f"/{UNKNOWN_ID}")


async def send_invalid(user: User) -> None:
    """Send a body that is not valid."""
    await user.send("invalid", "POST", json={"title": " ", "colour": "green"})


async def send_bad_token(user: User) -> None:
    """Send a text that is no token, or a token whose signature was changed."""
    token = random.choice(("nonsense", user.headers["Authorization"].removeprefix("Bearer ")[:-4] + "AAAA"))
    await user.send("bad token", "GET", headers={"Authorization": f"Bearer {token}"})


async def exceed_limit(user: User) -> None:
    """Send more requests than a minute's limit allows."""
    for _ in range(BURST // BURST_AT_ONCE):
        await asyncio.gather(*(user.send("burst", "GET", params={"limit": "1"}) for _ in range(BURST_AT_ONCE)))


Action = Callable[[User], Coroutine[Any, Any, None]]


def asking(path: str) -> Action:
    """Return the action that gets a path."""

    async def ask(user: User) -> None:
        await user.visit(path, path)

    return ask


SHARES: dict[Action, float] = {
    list_rows: 30,
    read: 28,
    create: 14,
    change: 8,
    complete: 6,
    search: 5,
    delete: 3,
    change_twice: 1.5,
    read_unknown: 1,
    send_invalid: 1,
    send_bad_token: 0.7,
}
EXPECTED = {  # the statuses that the contract has for each action's requests
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
