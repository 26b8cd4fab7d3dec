"""Which route a request is for, and whether it may be: under /api nothing but an ApiRoute, however it came to match.

FastAPI keeps included routers as they are, so that a list of its routes is no list of what answers; the effective
routes are those of `fastapi.routing.iter_route_contexts`.
"""

import logging
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from typing import TypeAlias

from fastapi import APIRouter, HTTPException, Request
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette._utils import get_route_path
from starlette.routing import Match, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.authenticator import admit
from app.errors import NotFound
from app.record import current
from app.web.deadline import LONGEST_S, SHORTEST_S, deadlines_of
from app.web.route import ApiRoute

API = "/api"
MAX_FAULTS = 10  # that one line names
BY_PATH = {APIRoute.matches, Route.matches, Mount.matches}  # these look at nothing but the path and the method

Found: TypeAlias = tuple[RouteContext | None, Match]

logger = logging.getLogger(__name__)


class RefusedRoute(RuntimeError):
    """A route that must not be, or cannot be served; the message is one line that says what to do."""


class Routes:
    """The effective routes of a router, in the order in which they are tried."""

    def __init__(self, router: APIRouter) -> None:
        self._router = router
        self._version = -1
        self._routes: tuple[RouteContext, ...] = ()
        self._beginnings: tuple[str, ...] = ()
        self._by_path = False

    def __iter__(self) -> Iterator[RouteContext]:
        """Give each effective route, those of included routers with their whole path."""
        self._refresh()
        return iter(self._routes)

    def _refresh(self) -> None:
        version = self._router._get_routes_version() + len(self._router.routes)  # as FastAPI itself sees changes
        if version != self._version:
            self._routes, self._version = tuple(iter_route_contexts(self._router.routes)), version
            self._beginnings = tuple(beginning_of(route) for route in self._routes)
            self._by_path = all(type(route.original_route).matches in BY_PATH for route in self._routes)

    def find(self, scope: Scope) -> Found:
        """Return the route that FastAPI chooses for a request, and whether its method fits as well.

        The guard, the instrumentations and the gate ask for it; it is looked up once where path and method decide. A
        route that looks at more, as one of a team's may, is asked each time: a middleware may have changed that.
        """
        record, asked = current(), (self, scope["method"], get_route_path(scope))
        if record.found and record.found[0] == asked:
            known: Found = record.found[1]
            return known
        found = self._look_up(scope, asked[2])
        if self._by_path:
            record.found = asked, found
        return found

    def _look_up(self, scope: Scope, path: str) -> Found:
        self._refresh()
        partial = None
        for beginning, route in zip(self._beginnings, self._routes, strict=True):
            if not path.startswith(beginning):
                continue
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return route, match
            if match is Match.PARTIAL and partial is None:
                partial = route
        return partial, Match.PARTIAL if partial else Match.NONE

    def body_bound(self, scope: Scope, usual: int) -> int:
        """Return the `max_body_size` of the request's route in bytes, or the `usual` one where it sets none."""
        route, _ = self.find(scope)
        bound: int | None = getattr(route, "max_body_size", None)
        return usual if bound is None else bound

    def verify(self) -> None:
        """Raise RefusedRoute if a route would answer a stranger under /api, or cannot be served; it names each."""
        found = dict.fromkeys(f"{route.path or ''} {fault}" for route in self if (fault := find_fault(route)))
        if found:
            left_out = [f"And {len(found) - MAX_FAULTS} more."] if len(found) > MAX_FAULTS else []
            raise RefusedRoute(" ".join([*found][:MAX_FAULTS] + left_out))


class Gate:
    """Stands before the router: chooses the route, and lets nobody under /api whose token was not verified.

    Every request under /api is verified and counted before FastAPI sees it. An open route is never used there: a
    pattern such as /{name}/things that matches /api/things, a catch-all, a mounted application. HEAD is answered as GET
    where no route knows it (RFC 9110, 9.3.2).
    """

    def __init__(self, app: ASGIApp, routes: Routes) -> None:
        self._app, self._routes = app, routes
        self._warn_once = cache(logger.warning)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket" and is_api(get_route_path(scope)):
            await send({"type": "websocket.close", "code": 1008})  # policy violation (RFC 6455, 7.4.1)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = current()
        route, match = self._routes.find(scope)
        is_head = scope["method"] == "HEAD" and match is not Match.FULL
        if is_head:
            scope = {**scope, "method": "GET"}
            route, match = self._routes.find(scope)
        record.route = route.path if route else None
        if is_api(get_route_path(scope)):
            self._check(route, match)
            await admit(record, Request(scope))
        sender = Sender(send, is_head=is_head)
        try:
            await self._app(scope, receive, sender)
        except HeadSent:
            return
        except Exception:
            record.broken = bool(record.status) and not sender.is_complete
            raise

    def _check(self, route: RouteContext | None, match: Match) -> None:
        """Raise for a path under /api that no closed route takes."""
        if route is None:
            raise NotFound
        if not is_closed(route):
            path = route.path or "a mount at /"
            self._warn_once("%s is not used for paths under %s: only an ApiRoute asks for the token", path, API)
            raise NotFound
        if match is Match.PARTIAL:
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED)


class HeadSent(Exception):
    """The request was a HEAD, and its answer's head is sent."""


class Sender:
    """Sends, and knows whether the answer is complete; of the answer to a HEAD only the head."""

    def __init__(self, send: Send, *, is_head: bool) -> None:
        self._send, self._is_head = send, is_head
        self.is_complete = False

    async def __call__(self, message: Message) -> None:
        if self.is_complete:  # the body of a HEAD
            if message.get("more_body", False):
                raise HeadSent
            return
        await self._send(message)
        if self._is_head and message["type"] == "http.response.start":
            await self._send({"type": "http.response.body"})
            self.is_complete = True
        elif message["type"] == "http.response.body":
            self.is_complete = not message.get("more_body", False)


def is_api(path: str) -> bool:
    """Tell whether a path is under /api."""
    return path == API or path.startswith(f"{API}/")


def beginning_of(route: RouteContext) -> str:
    """Return how the path of each request begins that a route can match."""
    return (route.path or "").partition("{")[0] if isinstance(route.original_route, APIRoute) else ""


def find_fault(route: RouteContext) -> str | None:
    """Return why a route is refused, or None."""
    original = route.original_route
    if isinstance(original, WebSocketRoute):
        return "is a WebSocket route, which is not served: leave it to another application."
    if is_api(route.path or "") and not is_closed(route):
        remedy = f"move it out of {API}"
        if isinstance(original, APIRoute):
            remedy = f"give its router route_class=ApiRoute, or {remedy}"
        return f"would answer without a token: {remedy}."
    if isinstance(original, APIRoute) and not all(each.is_good for each in deadlines_of(route.dependant)):
        return f"has a deadline that is none: seconds must be {SHORTEST_S:g} to {LONGEST_S:g}."
    return None


def is_closed(route: RouteContext) -> bool:
    """Tell whether a route refuses strangers."""
    return isinstance(route.original_route, ApiRoute)
