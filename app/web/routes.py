"""Which route a request is for, and whether it may be: under /api nothing but an ApiRoute, however it came to match.

FastAPI keeps included routers as they are, so that a list of its routes is no list of what answers; the effective
routes are those of `fastapi.routing.iter_route_contexts`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette._utils import get_route_path
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Match, WebSocketRoute
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from app.auth.dependencies import admit
from app.errors import NotFound
from app.record import current
from app.telemetry.once import Seen
from app.web.route import ApiRoute

API = "/api"
NO_MATCH: tuple[Match, Scope] = (Match.NONE, {})

logger = logging.getLogger(__name__)


class RefusedRoute(RuntimeError):
    """A route that must not be, or cannot be served; the message is one line that says what to do."""


class Routes:
    """The effective routes of an application, in the order in which they are tried."""

    def __init__(self, api: FastAPI) -> None:
        self._api = api
        self._version = -1
        self._routes: tuple[RouteContext, ...] = ()
        self._matchers: list[tuple[str, Callable[[Scope], tuple[Match, Scope]], RouteContext]] = []
        self._bounded = False

    def __iter__(self) -> Iterator[RouteContext]:
        """Give each effective route, those of included routers with their whole path."""
        self._refresh()
        return iter(self._routes)

    def _refresh(self) -> None:
        router = self._api.router
        # By this FastAPI itself knows whether routers have changed.
        version = router._get_routes_version() + len(router.routes)
        if version != self._version:
            self._routes, self._version = tuple(iter_route_contexts(router.routes)), version
            self._matchers = [((route.path or "").partition("{")[0], route.matches, route) for route in self._routes]
            self._bounded = any(_bound(route) is not None for route in self._routes)

    def find(self, scope: Scope) -> tuple[RouteContext | None, Match]:
        """Return the route that FastAPI chooses for a request, and whether its method fits as well."""
        self._refresh()
        path, partial = get_route_path(scope), None
        for prefix, matches, route in self._matchers:
            match, _ = matches(scope) if path.startswith(prefix) else NO_MATCH
            if match is Match.FULL:
                return route, match
            if match is Match.PARTIAL and partial is None:
                partial = route
        return partial, Match.PARTIAL if partial else Match.NONE

    def body_bound(self, scope: Scope, usual: int) -> int:
        """Return the `max_body_size` of the request's route in bytes, or the `usual` one where it sets none."""
        self._refresh()
        if not self._bounded:
            return usual
        route, _ = self.find(scope)
        bound = _bound(route) if route else None
        return usual if bound is None else bound

    def verify(self) -> None:
        """Check that no stranger can get an answer under /api, and that every route can be served.

        Raises:
            RefusedRoute: names the first route that breaks this.

        """
        for route in self:
            path = route.path or ""
            if isinstance(route.original_route, WebSocketRoute):
                raise RefusedRoute(
                    f"{path} is a WebSocket route, which is not served: leave it to another application."
                )
            if is_api(path) and not is_closed(route):
                remedy = f"move it out of {API}"
                if isinstance(route.original_route, APIRoute):
                    remedy = f"give its router route_class=ApiRoute, or {remedy}"
                raise RefusedRoute(f"{path} would answer without a token: {remedy}.")


class Gate:
    """The innermost layer: chooses the route, and lets nobody under /api whose token was not verified.

    Whatever FastAPI makes of a path under /api, who asks is verified and counted before. An open route is not used
    there: a pattern such as /{name}/things, asked for as /api/things, a catch-all, a mounted application. HEAD is
    answered as GET where no route knows it (RFC 9110, 9.3.2).
    """

    def __init__(self, app: ASGIApp, routes: Routes, handlers: Mapping[Any, ExceptionHandler]) -> None:
        self._app, self._routes, self._handlers = app, routes, handlers
        self._open = Seen()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, Sender(send))
        elif scope["type"] == "websocket" and is_api(get_route_path(scope)):
            await send({"type": "websocket.close", "code": 1008})  # policy violation (RFC 6455, 7.4.1)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: "Sender") -> None:
        route, match = self._routes.find(scope)
        if scope["method"] == "HEAD" and match is not Match.FULL:
            scope, send.is_head = {**scope, "method": "GET"}, True
            route, match = self._routes.find(scope)
        record = current()
        record.route = route.path if route else None
        try:
            if is_api(get_route_path(scope)):
                self._refuse(route, match)
                await admit(record, Request(scope))
        except HTTPException as refusal:
            await ExceptionMiddleware(raising(refusal), self._handlers)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Enough:
            return
        except Exception:
            record.broken = bool(record.status) and not send.is_complete
            raise

    def _refuse(self, route: RouteContext | None, match: Match) -> None:
        """Raise for a path under /api that no closed route takes."""
        if route is None:
            raise NotFound
        if not is_closed(route):
            self._tell(route)
            raise NotFound
        if match is Match.PARTIAL:
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED)

    def _tell(self, route: RouteContext) -> None:
        path = route.path or "a mount at /"
        if self._open.is_new(path):
            logger.warning("%s is not used for paths under %s: only an ApiRoute asks for the token", path, API)


def raising(error: Exception) -> ASGIApp:
    """Return an application that fails, so that the handlers of an application answer it, a team's own as well."""

    async def fail(*_: object) -> None:
        raise error

    return fail


class Enough(Exception):
    """The head of an answer is all that was asked for."""


class Sender:
    """Sends, and knows whether the answer is complete; of the answer to a HEAD only the head."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_head = self.is_complete = False

    async def __call__(self, message: Message) -> None:
        if self.is_complete:  # the body of a HEAD
            if message.get("more_body", False):
                raise Enough
            return
        await self._send(message)
        if self.is_head and message["type"] == "http.response.start":
            await self._send({"type": "http.response.body"})
            self.is_complete = True
        elif message["type"] == "http.response.body":
            self.is_complete = not message.get("more_body", False)


def is_api(path: str) -> bool:
    """Tell whether a path is under /api."""
    return path == API or path.startswith(f"{API}/")


def is_closed(route: RouteContext) -> bool:
    """Tell whether a route refuses strangers."""
    return isinstance(route.original_route, ApiRoute)


def _bound(route: RouteContext) -> int | None:
    bound: int | None = getattr(route, "max_body_size", None)
    return bound
