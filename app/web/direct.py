"""How most endpoints get what they ask for: without working out anew for each request what a route is.

What an endpoint asks for is known when its route is made. Where that is parts of the request, and coroutines that ask
for no more, it is gathered here by FastAPI's own fields, in a fifth of the time. Whatever else there is (generators,
background tasks, an answer to be serialised, a part that is wrong or missing) takes FastAPI's own road, so that every
error is FastAPI's.
"""

from inspect import iscoroutinefunction
from typing import Any, get_type_hints

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from pydantic import BaseModel
from pydantic.fields import FieldInfo

# What of a Dependant is not gathered here.
ELSEWHERE = (
    "background_tasks_param_name",
    "concurrency",
    "cookie_params",
    "http_connection_param_name",
    "own_oauth_scopes",
    "response_param_name",
    "security_scopes_param_name",
    "websocket_param_name",
)

OPTIONAL = (str | None, list[str] | None)


class Unusual(Exception):
    """FastAPI is to see to this request: it knows what is wrong with it."""


class Asked:
    """What a callable asks for, and where it is found."""

    def __init__(self, dependant: Dependant) -> None:
        assert dependant.call
        self._call, self._request = dependant.call, dependant.request_param_name
        self._body = dependant.body_params[0].name if dependant.body_params else None
        self._dependencies = [(child.name or "", Asked(child)) for child in dependant.dependencies]
        # Most requests send none of the headers that a route knows, and to look for each is dear.
        self._defaults = {field.name: None for field in dependant.header_params if _is_optional(field.field_info)}
        self._model = _model(dependant.query_params)
        query = [] if self._model else dependant.query_params
        fields = {"path_params": dependant.path_params, "query_params": query, "headers": dependant.header_params}
        self._fields = [(source, wanted) for source, wanted in fields.items() if wanted]

    async def gathered(self, request: Request, found: dict[Any, Any], body: Any = None) -> dict[str, Any]:
        """Return the callable's arguments; `found` holds what the request's dependencies returned so far.

        Raises:
            Unusual: something is missing or wrong.

        """
        arguments = {name: await asked._value(request, found) for name, asked in self._dependencies}
        arguments.pop("", None)  # wanted for what it does, not for what it returns
        arguments |= self._defaults
        if self._model:
            # Unknown and repeated parameters were refused, so that what is left can be taken as it is.
            arguments[self._model.name], errors = self._model.validate(dict(request.query_params), {}, loc=())
            if errors:
                raise Unusual
        for source, fields in self._fields:
            received = getattr(request, source)
            sent = [field for field in fields if field.name not in self._defaults or field.alias in received]
            values, errors = request_params_to_args(sent, received)
            if errors:
                raise Unusual
            arguments |= values
        if self._request:
            arguments[self._request] = request
        if self._body:
            arguments[self._body] = body
        return arguments

    async def _value(self, request: Request, found: dict[Any, Any]) -> Any:
        if self._call not in found:
            found[self._call] = await self._call(**await self.gathered(request, found))
        return found[self._call]


def asked(dependant: Dependant, endpoint: Any) -> Asked | None:
    """Return what `endpoint` asks for; None where FastAPI is to find that, or to serialise the answer."""
    returned = get_type_hints(endpoint).get("return")
    answers = isinstance(returned, type) and issubclass(returned, Response)
    return Asked(dependant) if answers and len(dependant.body_params) <= 1 and _is_plain(dependant) else None


def _model(fields: list[Any]) -> Any:
    """Return the one field that stands for a whole query, where there is one: FastAPI's way to fill it is long."""
    annotation = fields[0].field_info.annotation if len(fields) == 1 else None
    return fields[0] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _is_optional(field: FieldInfo) -> bool:
    return field.default is None and field.annotation in OPTIONAL


def _is_plain(dependant: Dependant) -> bool:
    if any(getattr(dependant, name) for name in ELSEWHERE):
        return False
    return all(
        child.use_cache and not child.body_params and _is_coroutine(child.call) and _is_plain(child)
        for child in dependant.dependencies
    )


def _is_coroutine(call: Any) -> bool:
    return iscoroutinefunction(call) or iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004  its kind
