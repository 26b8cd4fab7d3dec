"""Which route a request is for, and whether it may be: under /api nothing but an ApiRoute, however it came to match.

FastAPI keeps included routers as they are, so that a list of its routes is no list of what answers; the effective
routes are those of `fastapi.routing.iter_route_contexts`.
"""

import logging
from collections.abc import Callable, Iterator

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from starlette._utils import get_route_path
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import NotFound, problem
from app.record import CURRENT
from app.web.route import ApiRoute

API = "/api"
NO_MATCH: tuple[Match, Scope] = (Match.NONE, {})

logger = logging.getLogger(__name__)


class OpenRoute(RuntimeError):
    """A route under /api would answer without a token; the message is one line that says what to do."""


class Routes:
    """The effective routes of an application, in the order in which they are tried."""

    def __init__(self, api: FastAPI) -> None:
        self._api, self._version = api, -1
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

    def refuse_open(self) -> None:
        """Check that no stranger can get an answer under /api.

        Raises:
            OpenRoute: names the first route that would give one.

        """
        for route in self:
            path = route.path or ""
            if is_api(path) and not is_closed(route):
                remedy = f"give its router route_class=ApiRoute, or move it out of {API}"
                raise OpenRoute(f"{path} would answer without a token: {remedy}.")


class Gate:
    """The innermost layer: notes the route that was chosen, and refuses an open one under /api.

    Refused is what cannot be seen at the start: a pattern such as /{name}/things, asked for as /api/things, a
    catch-all, a mounted application. HEAD is answered as GET where no route knows it (RFC 9110, 9.3.2); the server
    leaves out the body.
    """

    def __init__(self, app: ASGIApp, routes: Routes) -> None:
        self._app, self._routes = app, routes
        self._told: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and is_api(get_route_path(scope)):
            await send({"type": "websocket.close", "code": 1008})  # policy violation (RFC 6455, 7.4.1)
            return
        if scope["type"] == "http":
            scope, route = self._choose(scope)
            if record := CURRENT.get():
                record.route = route.path if route else None
            if is_api(get_route_path(scope)) and not (route and is_closed(route)):
                self._tell(route)
                await problem(NotFound())(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _choose(self, scope: Scope) -> tuple[Scope, RouteContext | None]:
        route, match = self._routes.find(scope)
        if scope["method"] != "HEAD" or match is Match.FULL:
            return scope, route
        scope = {**scope, "method": "GET"}
        return scope, self._routes.find(scope)[0]

    def _tell(self, route: RouteContext | None) -> None:
        path = route and (route.path or str(route.original_route))
        if path and path not in self._told:
            self._told.add(path)
            logger.warning("the route %s is no ApiRoute: it is not used for paths under %s", path, API)


def is_api(path: str) -> bool:
    """Tell whether a path is under /api."""
    return path == API or path.startswith(f"{API}/")


def is_closed(route: RouteContext) -> bool:
    """Tell whether a route refuses strangers."""
    return isinstance(route.original_route, ApiRoute)


def _bound(route: RouteContext) -> int | None:
    bound: int | None = getattr(route, "max_body_size", None)
    return bound
