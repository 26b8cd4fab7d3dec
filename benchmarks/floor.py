"""The floor: what the same answers cost with only ASGI, PyJWT and psycopg2.

It has what a request needs here: one hop to a thread, one message with the preamble of row-level security, one
verification of the token. It has no framework, no validation, no deadline, no errors.
"""

import json
import os
from asyncio import get_running_loop
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from queue import SimpleQueue
from typing import Any

import jwt
import psycopg2
from psycopg2 import extensions

from app.db.pool import PREAMBLES
from app.db.roles import ROLE

POOL = 8
SECRET = os.environ["BETTER_AUTH_SECRET"]
URL = os.environ["DATABASE_URL"].replace("+psycopg2", "")
COLUMNS = ("id", "title", "description", "completed", "user_id", "created_at", "updated_at")
NAMES = ", ".join(COLUMNS)
GET = f"SELECT {NAMES} FROM example WHERE user_id = %s AND id = %s"  # noqa: S608  names of our own
LIST = f"SELECT {NAMES} FROM example WHERE user_id = %s ORDER BY id DESC LIMIT %s"  # noqa: S608
CREATE = f"INSERT INTO example (user_id, title, description, completed) VALUES (%s, %s, %s, false) RETURNING {NAMES}"  # noqa: S608

threads = ThreadPoolExecutor(POOL)
connections: SimpleQueue[extensions.connection] = SimpleQueue()


def connect() -> None:
    """Open the pool."""
    for _ in range(POOL):
        connection = psycopg2.connect(URL)
        connection.autocommit = True
        connections.put(connection)


def run_statement(user: str, statement: str, *parameters: Any) -> list[dict[str, Any]]:
    """Run one statement as `user`, who sees only own rows."""
    connection = connections.get()
    try:
        with connection.cursor() as cursor:
            preamble = cursor.mogrify(PREAMBLES[ROLE], (user, "2000", "1000"))
            cursor.execute(preamble + cursor.mogrify(statement, (user, *parameters)))
            return [dict(zip(COLUMNS, row, strict=True)) for row in cursor.fetchall()]
    finally:
        connections.put(connection)


def answer(user: str, scope: Any, body: bytes) -> tuple[int, bytes]:
    """Return status and body."""
    if scope["method"] == "POST":
        example = json.loads(body)
        return 201, encode_json(run_statement(user, CREATE, example["title"], example.get("description"))[0])
    if scope["path"] == "/api/examples":
        return 200, encode_json(run_statement(user, LIST, int(scope["query_string"].removeprefix(b"limit="))))
    return 200, encode_json(run_statement(user, GET, int(scope["path"].rpartition("/")[2]))[0])


def encode_json(value: Any) -> bytes:
    """Return JSON."""
    return json.dumps(value, default=datetime.isoformat).encode()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer as the project does when there is no error."""
    if scope["type"] == "lifespan":
        await receive()
        connect()
        await send({"type": "lifespan.startup.complete"})
        return
    status, body = 200, b'{"status":"healthy"}'
    if scope["path"] != "/health":
        token = dict(scope["headers"])[b"authorization"].removeprefix(b"Bearer ")
        user = jwt.decode(token, SECRET, algorithms=["HS256"])["sub"]
        sent = (await receive())["body"] if scope["method"] == "POST" else b""
        status, body = await get_running_loop().run_in_executor(threads, answer, user, scope, sent)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
