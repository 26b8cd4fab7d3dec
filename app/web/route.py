"""The route class of everything under /api: the token and the limit are checked before the query and the body."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

from fastapi import Depends, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.params import Depends as Dependency
from fastapi.routing import APIRoute, _effective_route_context_var

from app.auth.authenticator import admit, current_user
from app.record import current
from app.web.arguments import arguments_of
from app.web.body import make_strict, read_json, refuse_compressed
from app.web.docs import problems
from app.web.query import Overrides, QueryNames, override
from app.web.threads import in_thread

COMMON = (401, 408, 413, 414, 422, 429, 431, 500, 503)
BODY = (400, 415)
RESULT = "app.result"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class CurrentApplication:
    """Gives FastAPI the `dependency_overrides` for a route that was made before its application."""

    @property
    def dependency_overrides(self) -> Overrides:
        """Those of the application that serves the request."""
        overrides: Overrides = current().app.dependency_overrides
        return overrides


class ApiRoute(APIRoute):
    """A route that answers only for a verified user, within the user's limits.

    FastAPI parses the body before any dependency runs, so a dependency could not refuse a stranger first. Under /api
    the gate has checked the token before (app.web.gate), elsewhere the route does. An endpoint that blocks runs in one
    of the application's threads.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        dependencies: Sequence[Dependency] | None = None,
        **options: Any,
    ) -> None:
        dependencies = [Depends(current_user), *(dependencies or ())]  # so that each is documented with its token
        super().__init__(path, in_thread(endpoint), dependencies=dependencies, **options)
        of_body = BODY if self._is_strict else (415,) if self.body_field else ()
        statuses = COMMON + of_body + ((404,) if "{" in path else ())
        self.responses = {**problems(*sorted(statuses)), **self.responses}

    def get_route_handler(self) -> Handler:
        """Return the handler: token, then limit, then query and body, then the endpoint."""
        context = _effective_route_context_var.get()  # this route, as it was included: there is no public way to it
        route = cast(ApiRoute, context) if context and context.original_route is self else self
        route.dependency_overrides_provider = provider = route.dependency_overrides_provider or CurrentApplication()
        dependant, has_body = route.dependant, route.body_field is not None
        self._is_strict = is_strict = make_strict(dependant)
        names, solve, gather = QueryNames(dependant), super().get_route_handler(), self._gather_handler(route)

        async def handler(request: Request) -> Response:
            record = current()
            if record.principal is None:
                await admit(record, request)
            overrides = provider.dependency_overrides
            if query_string := request.scope["query_string"]:
                known = QueryNames(override(dependant, overrides)) if overrides else names
                known.check(query_string)
            if has_body:
                refuse_compressed(request)
            if gather and not overrides:
                response = await gather(request)
            else:
                if is_strict:
                    await read_json(request)
                response = await solve(request)
            record.goes_on = response.background is not None
            return response

        return handler

    def _gather_handler(self, route: "ApiRoute") -> Handler | None:
        """Return the handler that gathers the endpoint's arguments by itself; None where only FastAPI can."""
        arguments = arguments_of(route.dependant)
        if arguments is None:
            return None
        whole, body = route.dependant, route.body_field
        route.dependant, route.body_field = Dependant(call=_result, request_param_name="request"), None
        try:
            serialize = super().get_route_handler()
        finally:
            route.dependant, route.body_field = whole, body

        async def gather(request: Request) -> Response:
            result = await arguments.call(request)
            if isinstance(result, Response):
                return result
            request.scope[RESULT] = result
            return await serialize(request)

        return gather


async def _result(request: Request) -> Any:
    """Return what the endpoint returned before: FastAPI makes an answer of it."""
    return request.scope[RESULT]


def json(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer whose JSON is bytes already: `response_model` documents it and costs nothing."""
    return Response(body, status, headers, media_type="application/json")
