"""The route class of everything under /api: who asks, and how often, is settled before what was sent is looked at."""

from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter

from app import deadline
from app.auth import Unauthenticated
from app.web.body import JsonRequest, parse
from app.web.direct import Unusual, asked
from app.web.docs import problems
from app.web.params import refuse_odd_query
from app.web.threads import HANDOVER, Handover, in_thread

COMMON = (401, 408, 413, 414, 422, 429, 431, 500, 503)
BODY = (400, 415)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ApiRoute(APIRoute):
    """A route that answers only for a verified user, within the user's limits.

    FastAPI parses the body before any dependency runs, so a dependency could not refuse a stranger first.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        has_body = bool({"POST", "PUT", "PATCH"} & set(options.get("methods") or ()))
        statuses = COMMON + (BODY if has_body else ()) + ((404,) if "{" in path else ())
        options["responses"] = {**problems(*sorted(statuses)), **(options.get("responses") or {})}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        """Return the handler: token, then limit, then query and body, then the endpoint."""
        assert self.dependant.call
        call = self.dependant.call
        if not iscoroutinefunction(call):
            self.dependant.call = in_thread(call)
        run, direct = self.dependant.call, asked(self.dependant, call)
        endpoint = super().get_route_handler()
        known = _query_names(self.dependant)
        model: Any = self.body_field and self.body_field.field_info.annotation
        adapter = TypeAdapter[Any](model) if model else None

        async def handler(request: Request) -> Response:
            deadline.start(request.app.state.database.timeout_s)
            await admit(request)
            refuse_odd_query(request.scope["query_string"], known)
            parsed = None
            if adapter and (body := await request.body()):
                parsed = parse(adapter, body, ",".join(request.headers.getlist("content-type")))
                request = JsonRequest(request, body, parsed)
            request.state.handover = handover = Handover(request.app.state.workers)
            HANDOVER.set(handover)
            if direct and (parsed is not None or not adapter):
                with suppress(Unusual):
                    answer: Response = await run(**await direct.gathered(request, {}, parsed))
                    return answer
            return await endpoint(request)

        return handler


async def admit(request: Request) -> None:
    """Let in a verified user who is within the limits, as `request.state.principal`.

    Raises:
        Unauthenticated: there is no good token.
        RateLimited: too many requests of this user, or too many without a good token from this address.

    """
    state = request.app.state
    try:
        request.state.principal = await state.authenticator(request.headers)
    except Unauthenticated as failure:
        state.limits.refuse(request, failure)
        raise
    await state.limits.admit(request)


def _query_names(dependant: Dependant) -> frozenset[str]:
    """Return the names of every query parameter that the endpoint or one of its dependencies reads."""
    names = {name for child in dependant.dependencies for name in _query_names(child)}
    for field in dependant.query_params:
        model: Any = field.field_info.annotation
        is_model = isinstance(model, type) and issubclass(model, BaseModel)
        names |= set(model.model_fields) if is_model else {field.alias}
    return frozenset(names)


def json(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer whose JSON is bytes already: `response_model` documents it and costs nothing."""
    return Response(body, status, headers, media_type="application/json")
