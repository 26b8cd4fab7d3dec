"""The arguments of an endpoint, gathered without working out at each request what the endpoint asks for.

FastAPI works that out anew each time, which makes a request to a task dearer by a fifth. Its own functions read the
parameters here too. Where an endpoint asks for more (see `_is_plain`), FastAPI solves everything itself.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from fastapi import Request
from fastapi._compat import ModelField, Undefined, field_annotation_is_sequence
from fastapi.dependencies.models import Dependant, _is_coroutine_callable
from fastapi.dependencies.utils import (
    _get_param_aliases,
    _get_param_model,
    _is_json_field,
    _validate_value_with_model_field,
    request_body_to_args,
    request_params_to_args,
)
from fastapi.exceptions import RequestValidationError
from fastapi.params import Param, Path

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


Read = tuple[dict[str, Any], list[Any]]  # the values by name, and what is wrong with the others
Reader = Callable[[Any], Read]


class Arguments:
    """What a callable asks for."""

    def __init__(self, dependant: Dependant) -> None:
        self._dependant = dependant
        self._dependencies = [Arguments(child) for child in dependant.dependencies]
        self._has_query_model = _has_query_model(dependant)
        self._read_path, self._read_headers = reader_of(dependant.path_params), reader_of(dependant.header_params)
        self._read_query = reader_of(dependant.query_params)

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
            found.append(self._read_path(request.path_params))
        if self._has_query_model:
            (field,) = dependant.query_params
            value, wrong = field.validate(dict(request.query_params), loc=("query",))
            found.append(({field.name: value}, wrong))
        elif dependant.query_params:
            found.append(self._read_query(request.query_params))
        if dependant.header_params:
            found.append(self._read_headers(request.headers))
        for some, wrong in found:
            values |= some
            errors += wrong

    async def _run(self, arguments: dict[str, Any]) -> Any:
        call: Any = self._dependant.call
        return await call(**arguments)


def reader_of(fields: Sequence[ModelField]) -> Reader:
    """Return what reads these parameters, of a path, a query or headers.

    It is FastAPI's own function where one of them has several names or a model. That finds out anew at each request
    where a parameter stands and whether it may have several values.
    """
    places = [(field, _get_param_aliases(field)) for field in fields]
    if any(len(names) > 1 or _get_param_model(field) or _is_json_field(field) for field, names in places):
        return partial(request_params_to_args, fields)
    known = [(field, names[0][1], _has_many(field)) for field, names in places]

    def read(received: Any) -> Read:
        values: dict[str, Any] = {}
        errors: list[Any] = []
        for field, name, has_many in known:
            found = received.getlist(name) if has_many else received.get(name)
            found = Undefined if found is None or found == [] else found
            place = cast(Param, field.field_info).in_.value, name
            value, wrong = _validate_value_with_model_field(field=field, value=found, values=values, loc=place)
            if wrong:
                errors += wrong
            else:
                values[field.name] = value
        return values, errors

    return read


def _has_many(field: ModelField) -> bool:
    """Tell whether a parameter of a query or of headers may come several times."""
    return not isinstance(field.field_info, Path) and field_annotation_is_sequence(field.field_info.annotation)


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
