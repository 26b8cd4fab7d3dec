"""The arguments of an endpoint, gathered without working out at each request what the endpoint asks for.

FastAPI works that out anew each time, which makes a request to a task dearer by a fifth. Its own functions read the
parameters here too. Where an endpoint asks for more (see `_is_plain`), FastAPI solves everything itself.
"""

from typing import Any

from fastapi import Request
from fastapi._compat import Undefined
from fastapi.dependencies.models import Dependant, _is_coroutine_callable
from fastapi.dependencies.utils import _get_param_model, request_body_to_args, request_params_to_args
from fastapi.exceptions import RequestValidationError

from app.web.body import StrictField, read_json
from app.web.query import QueryNames

# What only FastAPI gives to an endpoint.
NOT_PLAIN = (
    "background_tasks_param_name",
    "concurrency",
    "cookie_params",
    "http_connection_param_name",
    "own_oauth_scopes",
    "parent_oauth_scopes",
    "response_param_name",
    "security_scopes_param_name",
    "websocket_param_name",
)


class Arguments:
    """What a callable asks for."""

    def __init__(self, dependant: Dependant) -> None:
        self._dependant = dependant
        self._dependencies = [Arguments(child) for child in dependant.dependencies]
        self._has_query_model = _has_query_model(dependant)

    async def call(self, request: Request) -> Any:
        """Return what the endpoint returns, or raise RequestValidationError with all that is wrong, as FastAPI does."""
        body, parts, wrong = None, dict[str, Any](), list[Any]()
        if self._dependant.body_params:
            body = await read_json(request)
            text = await request.body() or Undefined  # a StrictField reads the JSON itself
            parts, wrong = await request_body_to_args(self._dependant.body_params, text, embed_body_fields=False)
        values, errors = await self._gather(request, {})
        if errors or wrong:
            raise RequestValidationError([*errors, *wrong], body=body)
        return await self._run(values | parts)

    async def _gather(self, request: Request, found: dict[Any, Any]) -> tuple[dict[str, Any], list[Any]]:
        """Return the arguments and what is wrong with them; `found` holds what dependencies returned so far."""
        values: dict[str, Any] = {}
        errors: list[Any] = []
        for dependency in self._dependencies:
            arguments, wrong = await dependency._gather(request, found)
            if wrong:
                errors += wrong
                continue
            call, name = dependency._dependant.call, dependency._dependant.name
            value = (
                found[call] if dependency._dependant.use_cache and call in found else await dependency._run(arguments)
            )
            found.setdefault(call, value)
            if name is not None:
                values[name] = value
        self._add_parameters(request, values, errors)
        if self._dependant.request_param_name:
            values[self._dependant.request_param_name] = request
        return values, errors

    def _add_parameters(self, request: Request, values: dict[str, Any], errors: list[Any]) -> None:
        dependant = self._dependant
        found = []
        if dependant.path_params:
            found.append(request_params_to_args(dependant.path_params, request.path_params))
        if self._has_query_model:
            (field,) = dependant.query_params
            value, wrong = field.validate(dict(request.query_params), loc=("query",))
            found.append(({field.name: value}, wrong))
        elif dependant.query_params:
            found.append(request_params_to_args(dependant.query_params, request.query_params))
        if dependant.header_params:
            found.append(request_params_to_args(dependant.header_params, request.headers))
        for some, wrong in found:
            values |= some
            errors += wrong

    async def _run(self, arguments: dict[str, Any]) -> Any:
        call: Any = self._dependant.call
        return await call(**arguments)


def arguments_of(dependant: Dependant) -> Arguments | None:
    """Return what an endpoint asks for; None where only FastAPI can find it."""
    bodies = dependant.body_params
    is_strict = all(isinstance(field, StrictField) and not getattr(field.field_info, "embed", None) for field in bodies)
    return Arguments(dependant) if len(bodies) <= 1 and is_strict and _is_plain(dependant) else None


def _is_plain(dependant: Dependant) -> bool:
    """Tell whether a callable and its dependencies are coroutines that ask for nothing of NOT_PLAIN."""
    return (
        _is_coroutine_callable(dependant.call)
        and not any(getattr(dependant, name) for name in NOT_PLAIN)
        and all(_is_plain(child) and not child.body_params and child.scope is None for child in dependant.dependencies)
    )


def _has_query_model(dependant: Dependant) -> bool:
    """Tell whether the query, whose names were checked, is what one model takes, field by field."""
    fields = dependant.query_params
    model = _get_param_model(fields[0]) if len(fields) == 1 else None
    if model is None:
        return False
    names = QueryNames(Dependant(query_params=fields))
    is_plain = fields[0].field_info.annotation is model and not names.takes_any and not names.lists
    return is_plain and names.single == set(model.model_fields)
