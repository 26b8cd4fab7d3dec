"""Users at a steady rate: some send what they are given, others hold each answer against what they remember."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from random import Random
from time import monotonic
from typing import Any, TypeVar

import uvloop

from tests.examples.support import EXAMPLES, Json
from tests.load import CLOSING_S, Answer, Connection, request
from tests.support import make_token

USERS = [f"user_{number}" for number in range(20)]
MOST_ROWS = 10  # of a user, so that a list is one page
ONE = EXAMPLES + "/{id}"


class User(ABC):
    """Somebody with one connection, who sends one request after the other."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.token, self._port = name, make_token(name), port
        self._connection = Connection(port)
        self.steps = 0
        self.reconnects = False  # with it, each request has a connection of its own

    @abstractmethod
    async def step(self) -> None:
        """Send one request."""

    async def send(self, sent: bytes) -> Answer:
        self.steps += 1
        answer = await self._connection.send(sent)
        if self.reconnects:
            self.close()
            self._connection = Connection(self._port)
        return answer

    def close(self) -> None:
        self._connection.close()


U = TypeVar("U", bound=User)


class Caller(User):
    """Somebody who sends what they are given. Each answer is kept with the time at which its request was sent."""

    def __init__(self, name: str, port: int, requests: Iterator[bytes]) -> None:
        super().__init__(name, port)
        self._requests = requests
        self.answers: list[tuple[float, Answer]] = []

    async def step(self) -> None:
        sent = monotonic()
        self.answers.append((sent, await self.send(next(self._requests))))


class Owner(User):
    """Somebody who remembers their `rows`.

    What an answer has of others is in `foreign`, what else is not as expected in `wrong`. They try to reach the rows of
    `everybody`.
    """

    def __init__(self, name: str, port: int, everybody: "list[Owner]") -> None:
        super().__init__(name, port)
        self._everybody, self.rows = everybody, dict[int, Json]()
        self._chance = Random(name)  # noqa: S311  what a user does next is no secret
        self.sent: Counter[tuple[str, str, int]] = Counter()
        self.foreign: list[str] = []
        self.wrong: list[str] = []

    async def step(self) -> None:
        """Do one thing at random. There are as many that make a row as those that delete one."""
        steps = [self._create, self._delete, self._change, self._read, self._read, self._list, self._try_foreign]
        step = self._chance.choice(steps)
        if not self.rows:
            step = self._create
        elif step == self._create and len(self.rows) == MOST_ROWS:
            step = self._list
        await step()

    async def _create(self) -> None:
        title = f"{self.steps} of {self.name}"
        row = await self._ask("POST", "", 201, {"title": title})
        if row:
            self._expect(row["title"] == title, f"created {row}")
            self.rows[row["id"]] = row

    async def _read(self) -> None:
        chosen = self._choose()
        row = await self._ask("GET", f"/{chosen}", 200)
        self._expect(row == self.rows[chosen], f"read {row}")

    async def _change(self) -> None:
        chosen, title = self._choose(), f"{self.steps} of {self.name}, changed"
        row = await self._ask("PATCH", f"/{chosen}", 200, {"title": title})
        if row:
            self._expect(self.rows[chosen] | {"title": title, "updated_at": row["updated_at"]} == row, f"changed {row}")
            self.rows[chosen] = row

    async def _delete(self) -> None:
        chosen = self._choose()
        await self._ask("DELETE", f"/{chosen}", 204)
        del self.rows[chosen]

    async def _list(self) -> None:
        rows = await self._ask("GET", "?limit=100", 200)
        self._expect(rows == [self.rows[row] for row in sorted(self.rows, reverse=True)], f"listed {rows}")

    async def _try_foreign(self) -> None:
        """Read, change or delete a row that another has right now. Nothing may come of it, for either."""
        other = self._chance.choice(self._everybody)
        if other is self or not other.rows:
            await self._list()
            return
        method, path = self._chance.choice(["GET", "PATCH", "DELETE"]), f"/{self._chance.choice(list(other.rows))}"
        error = await self._ask(method, path, 404, {"title": "taken"} if method == "PATCH" else None)
        self._expect(error and error["code"] == "example_not_found", f"{method} of a foreign row: {error}")

    def _choose(self) -> int:
        return self._chance.choice(list(self.rows))

    async def _ask(self, method: str, path: str, status: int, body: object = None) -> Any:
        """Send a request. Return what its answer holds, if that has the status that is expected."""
        content = json.dumps(body).encode() if body else b""
        answer = await self.send(request(method, EXAMPLES + path, self.token, content))
        self.sent[method, ONE if path.startswith("/") else EXAMPLES, answer.status] += 1
        found = json.loads(answer.body) if b"json" in answer.head else None  # HAProxy's own answers are pages
        rows = found if isinstance(found, list) else [found or {}]
        self.foreign += [f"{method} {path}: {row}" for row in rows if row.get("user_id", self.name) != self.name]
        self._expect(answer.status == status, f"{method} {path}: {answer}")
        return found if answer.status == status else None

    def _expect(self, held: object, what: str) -> None:
        if not held:
            self.wrong.append(what)


def owners(port: int) -> list[Owner]:
    """Twenty users, each of whom tries to reach the rows of the others."""
    everybody: list[Owner] = []
    everybody += [Owner(name, port, everybody) for name in USERS]
    return everybody


def act(users: Sequence[U], rate: float, goes_on: Callable[[U], bool]) -> None:
    """Let each user take steps while `goes_on`, all together `rate` a second, or as many as the machine can."""

    async def pace(user: U) -> None:
        started = monotonic()
        for number in count():
            await asyncio.sleep(max(0.0, started + number * len(users) / rate - monotonic()))
            if not goes_on(user):
                return
            await user.step()

    async def act_all() -> None:
        await asyncio.gather(*(pace(user) for user in users))
        for user in users:
            user.close()
        await asyncio.sleep(CLOSING_S)

    uvloop.run(act_all())
