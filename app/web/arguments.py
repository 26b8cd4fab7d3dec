"""How most endpoints get what they ask for: without working out anew for each request what a route is.

What an endpoint asks for is known when its route is made. Where that is the request, parameters of its path, query and
headers, a strict body, and coroutines that ask for no more, it is gathered here, by FastAPI's own fields and in its
order. For anything else FastAPI solves the dependencies itself. Either way every dependency runs once.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

from fastapi import Request
from fastapi._compat import ModelField, Undefined, field_annotation_is_sequence, get_cached_model_fields
from fastapi.dependencies.models import Dependant, _is_coroutine_callable
from fastapi.dependencies.utils import (
    _get_param_aliases,
    _get_param_model,
    request_body_to_args,
    request_params_to_args,
)
from fastapi.exceptions import RequestValidationError

from app.web.body import StrictField, read_strict

# What of a Dependant is not gathered here.
ELSEWHERE = (
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
    """What a callable asks for, and where it is found."""

    def __init__(self, dependant: Dependant) -> None:
        self._call: Any = dependant.call
        self._request, self._name, self._use_cache = dependant.request_param_name, dependant.name, dependant.use_cache
        self._dependencies = [Arguments(child) for child in dependant.dependencies]
        self._path, self._headers = dependant.path_params, dependant.header_params
        self._model = _plain_model(dependant.query_params)
        self._query = [] if self._model else dependant.query_params
        # Most requests send none of the headers that a route knows, and FastAPI's search for each is long.
        self._unsent = {field.name: None for field in self._headers if _is_none_where_absent(field)}
        self._header_names = [(field, _header(field)) for field in self._headers]
        self._has_parameters = bool(self._path or dependant.query_params or self._headers)
        self._is_leaf = not (self._has_parameters or self._dependencies)
        self._body: Any = dependant.body_params[0] if dependant.body_params else None

    async def call(self, request: Request) -> Any:
        """Return what the endpoint returns for `request`.

        Raises:
            RequestValidationError: names everything that is missing or wrong, as FastAPI would.

        """
        body, wrong = await self._read_body(request) if self._body else ({}, [])
        values, errors = await self._gather(request, {})
        if errors or wrong:
            raise RequestValidationError([*errors, *wrong], body=await self._sent(request))
        return await self._call(**values, **body)

    async def _sent(self, request: Request) -> Any:
        """Return the body for those who handle the error: Python has no number of more than 4,300 digits."""
        with suppress(ValueError):
            return await request.json() if self._body and await request.body() else None

    async def _read_body(self, request: Request) -> tuple[dict[str, Any], list[Any]]:
        if await request.body():
            value, errors = await read_strict(request, self._body)
            return {self._body.name: value}, errors
        return await request_body_to_args([self._body], Undefined, embed_body_fields=False)

    async def _gather(self, request: Request, found: dict[Any, Any]) -> tuple[dict[str, Any], list[Any]]:
        """Return the arguments and what is wrong with them; `found` holds what dependencies returned so far."""
        values: dict[str, Any] = {}
        errors: list[Any] = []
        for dependency in self._dependencies:
            if dependency._is_leaf:
                arguments, wrong = dependency._with_request(request), list[Any]()
            else:
                arguments, wrong = await dependency._gather(request, found)
            if wrong:
                errors += wrong
            elif dependency._use_cache and dependency._call in found:
                values[dependency._name or ""] = found[dependency._call]
            else:
                values[dependency._name or ""] = value = await dependency._call(**arguments)
                found.setdefault(dependency._call, value)
        values.pop("", None)  # wanted for what it does, not for what it returns
        if self._has_parameters:
            for some, wrong in self._parameters(request):
                values |= some
                errors += wrong
        return values | self._with_request(request), errors

    def _with_request(self, request: Request) -> dict[str, Any]:
        return {self._request: request} if self._request else {}

    def _parameters(self, request: Request) -> Iterator[tuple[dict[str, Any], list[Any]]]:
        """Give the parameters of each kind, and what is wrong with them."""
        if self._path:
            yield request_params_to_args(self._path, request.path_params)
        if self._model:
            value, wrong = self._model.validate(dict(request.query_params), {}, loc=("query",))
            yield {self._model.name: value}, wrong
        if self._query:
            yield request_params_to_args(self._query, request.query_params)
        if self._headers:
            yield self._unsent, []
            sent = {name for name, _ in request.scope["headers"]}
            fields = [field for field, name in self._header_names if name in sent or field.name not in self._unsent]
            yield request_params_to_args(fields, request.headers)


def arguments_of(dependant: Dependant) -> Arguments | None:
    """Return what an endpoint asks for; None where FastAPI is to find it."""
    bodies = dependant.body_params
    is_plain_body = not bodies or (
        len(bodies) == 1 and isinstance(bodies[0], StrictField) and not _is_embedded(bodies[0])
    )
    return Arguments(dependant) if is_plain_body and _is_plain(dependant) else None


def _is_embedded(field: StrictField) -> bool:
    return bool(getattr(field.field_info, "embed", False))


def _is_plain(dependant: Dependant) -> bool:
    """Tell whether a callable and its dependencies are coroutines that ask for nothing of ELSEWHERE."""
    return (
        _is_coroutine_callable(dependant.call)
        and not any(getattr(dependant, name) for name in ELSEWHERE)
        and all(_is_plain(child) and not child.body_params and child.scope is None for child in dependant.dependencies)
    )


def _plain_model(fields: list[ModelField]) -> ModelField | None:
    """Return the one model that stands for a whole query, where each of its fields is one value under one name.

    What is unknown or repeated was refused, so that the query is the model's input as it is. FastAPI's search for each
    field makes a list of tasks dearer by 6 %.
    """
    model = _get_param_model(fields[0]) if len(fields) == 1 else None
    if model is None or model.model_config.get("extra") == "allow":
        return None
    parts = get_cached_model_fields(cast(Any, model))  # a type, says the line before
    return fields[0] if fields[0].field_info.annotation is model and all(map(_has_one_value, parts)) else None


def _has_one_value(field: ModelField) -> bool:
    return _has_one_name(field) and not field_annotation_is_sequence(field.field_info.annotation)


def _has_one_name(field: ModelField) -> bool:
    return len(_get_param_aliases(field)) == 1 and field.field_info.validation_alias in (None, field.alias)


def _header(field: ModelField) -> bytes:
    return field.alias.lower().encode("latin-1", "replace")


def _is_none_where_absent(field: ModelField) -> bool:
    """Tell whether a header parameter is None, and nothing is checked, where its one header is not sent."""
    info = field.field_info
    is_model = _get_param_model(field) is not None
    return not is_model and _has_one_name(field) and info.default is None and not info.validate_default
