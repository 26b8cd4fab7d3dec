"""The page around an application: what is below /_dev/ it answers itself, all else it passes on.

/_dev/data/… is for the page's script. Every other path below /_dev/ is the page, which reads its address.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.datastructures import QueryParams
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.settings import SettingsError
from devtools.page.door import HEADERS, find_fault
from devtools.page.now import Now
from devtools.page.store import Json, Store

ROOT, DATA = "/_dev", "/_dev/data/"
FILES = {"page.js": "text/javascript", "page.css": "text/css"}
PROBLEM = (b"content-type", b"application/problem+json")
MAX_PROBLEM, FAILED = 8 * 1024, 400


class Page:
    """The page of what `store` keeps. `facts` tell it what it is for; `make_token` signs somebody in."""

    def __init__(self, app: ASGIApp, store: Store, now: Now, facts: Json, make_token: Callable[[str], str]) -> None:
        self._app, self._store, self._now, self._facts, self._make_token = app, store, now, facts, make_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_http = scope["type"] == "http"
        if is_http and (scope["path"] == ROOT or scope["path"].startswith(f"{ROOT}/")):
            await self._answer(scope)(scope, receive, send)
        else:
            await self._app(scope, receive, self._watch(send) if is_http else send)

    def _watch(self, send: Send) -> Send:
        """Return `send` with an eye on problem documents, which no span and no line holds."""
        trace = 0

        async def watch(message: Message) -> None:
            nonlocal trace
            if message.get("status", 0) >= FAILED and PROBLEM in message["headers"]:
                trace = int(dict(message["headers"]).get(b"x-trace-id", b"0"), 16)
            elif trace and "body" in message:
                body = message["body"][:MAX_PROBLEM].decode(errors="replace")
                self._store.add_line(trace, {"logger": "problem", "message": body, "fields": {}})
            await send(message)

        return watch

    def _answer(self, scope: Scope) -> Response:
        path, query = scope["path"], QueryParams(scope["query_string"])
        if fault := find_fault(scope):
            return Response(fault, 403, HEADERS, "text/plain")
        if scope["method"] != "GET":
            return Response("", 405, {**HEADERS, "allow": "GET"})
        if path == ROOT:
            return RedirectResponse(f"{ROOT}/", headers=HEADERS)
        if path.startswith(DATA):
            found = self._find(path.removeprefix(DATA), query)
            return Response(encode(found), 404 if found is None else 200, HEADERS, "application/json")
        name = path.removeprefix(f"{ROOT}/")
        file = Path(__file__).with_name(name if name in FILES else "page.html")
        return Response(file.read_bytes(), 200, HEADERS, FILES.get(name, "text/html"))

    def _find(self, name: str, query: QueryParams) -> Any:
        """Return what the script asks for, or None."""
        kind, _, which = name.partition("/")
        after = int(number) if (number := query.get("after", "0")[:15]).isdecimal() else 0
        if kind == "changes":
            self._now.look()  # so that its history begins when the page is opened
            return self._store.changes(after) | self._facts
        if kind == "token":
            try:
                return {"token": self._make_token(query.get("user", ""))}
            except SettingsError as error:
                return {"error": str(error)}
        finders = {"now": lambda: self._now.look(after), "statements": self._store.statements}
        return self._store.trace(which) if kind == "trace" else finders.get(kind, lambda: None)()


def encode(found: Any) -> str:
    """Return JSON, whatever a team put on its spans and lines."""
    text = json.dumps(found, default=lambda value: dict(value) if isinstance(value, Mapping) else str(value))
    return json.dumps(json.loads(text, parse_constant=str)) if "NaN" in text or "Infinity" in text else text
