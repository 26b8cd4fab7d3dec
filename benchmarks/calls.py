"""The calls that are measured, as bytes: of many users, each with examples of their own."""

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import cycle, repeat
from typing import Any

import jwt
import psycopg2

SECRET = "a-secret-that-only-this-benchmark-knows"  # noqa: S105  signs nothing else
USERS = 50
EXAMPLES = 100  # a user
SEED = """
    INSERT INTO example (user_id, title, description, completed, created_at, updated_at)
    SELECT 'user-' || u, 'Row ' || t, 'The description of a row, as long as many are.', t %% 2 = 0, now(), now()
    FROM generate_series(1, %s) u, generate_series(1, %s) t
    RETURNING user_id, id
"""
CALLS = ("get", "list", "post", "health")
MIX = ("get", "get", "get", "list", "get", "get", "get", "list", "get", "post")  # 70, 20 and 10 of a hundred
HEAVY = ("list 100", "search", "body", "upload")
BODY = json.dumps({"title": "Buy milk", "description": "Two litres, and mind the date."}).encode()
LINE = "A line of a long note, which has as many characters as many lines have."
NOTE = json.dumps({"lines": [LINE] * 1300}).encode()
FORM = "multipart/form-data; boundary=part"
UPLOAD = (
    b'--part\r\nContent-Disposition: form-data; name="file"; filename="picture"\r\n\r\n'
    + bytes(range(250)) * 4000
    + b"\r\n--part--\r\n"
)
SEARCHER, SEARCHED = "searcher", 200_000
OWNED = """
    INSERT INTO example (user_id, title, description, completed, created_at, updated_at)
    SELECT %s, 'Row ' || n, 'The description of a row, as long as many are.', false, now(), now()
    FROM generate_series(1, %s) n
"""


@dataclass(frozen=True)
class Calls:
    """Requests for the examples of one database. `examples` are pairs of user and id in mixed order."""

    examples: list[tuple[str, int]]

    def requests(self, call: str) -> Iterator[bytes]:
        """Return endless requests of one kind. No two in a row are of the same user."""
        tokens = {user: make_token(user) for user, _ in self.examples}
        if call == "get":
            return cycle([request("GET", f"/api/examples/{number}", tokens[user]) for user, number in self.examples])
        if call == "list":
            return cycle([request("GET", "/api/examples?limit=20", tokens[user]) for user in tokens])
        if call == "post":
            return cycle([request("POST", "/api/examples", tokens[user], BODY) for user in tokens])
        if call == "health":
            return cycle([request("GET", "/health")])
        if call == "mix":
            return self._mix()
        return repeat(heavy_requests()[call])

    def _mix(self) -> Iterator[bytes]:
        kinds = {call: self.requests(call) for call in ("get", "list", "post")}
        return (next(kinds[call]) for call in cycle(MIX))


def heavy_requests() -> dict[str, bytes]:
    """Return a list of 100, a search through 200,000 rows, a body of 100 kB and an upload of 1 MB."""
    token = make_token(SEARCHER)
    return {
        "list 100": request("GET", "/api/examples?limit=100", token),
        "search": request("GET", "/api/examples?q=nowhere", token),
        "body": request("POST", "/api/team/bodies", token, NOTE),
        "upload": request("POST", "/api/team/uploads", token, UPLOAD, FORM),
    }


def insert_examples(superuser_url: str) -> Calls:
    """Insert examples of many users. Return the calls that read them."""
    with open_cursor(superuser_url) as cursor:
        cursor.execute(SEED, (USERS, EXAMPLES))
        examples = sorted(cursor.fetchall(), key=lambda row: row[1] % EXAMPLES)  # neighbours are of different users
        cursor.execute("ANALYZE example")
    return Calls(examples)


def insert_searched(superuser_url: str) -> None:
    """Insert the rows that a search reads."""
    with open_cursor(superuser_url) as cursor:
        insert_owned(cursor, SEARCHER, SEARCHED)
        cursor.execute("VACUUM ANALYZE example")


def insert_owned(cursor: Any, user: str, examples: int) -> int:
    """Insert so many examples of one user. Return the id of the newest one."""
    cursor.execute(OWNED, (user, examples))
    cursor.execute("SELECT max(id) FROM example WHERE user_id = %s", (user,))
    newest: int = cursor.fetchone()[0]
    return newest


@contextmanager
def open_cursor(url: str) -> Iterator[Any]:
    """Open a cursor in the database at an SQLAlchemy URL. Each statement is a transaction of its own."""
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def make_token(user: str) -> str:
    """Return a user's token, valid for a day."""
    now = int(time.time())
    return jwt.encode({"sub": user, "iat": now, "exp": now + 24 * 3600}, SECRET)


def request(
    method: str, target: str, bearer: str | None = None, body: bytes = b"", kind: str = "application/json"
) -> bytes:
    """Return one request of HTTP/1.1."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", "User-Agent: benchmark", "Accept: application/json"]
    lines += [f"Authorization: Bearer {bearer}"] if bearer else []
    lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body
