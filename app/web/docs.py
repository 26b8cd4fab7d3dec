"""What the OpenAPI document says of every route."""

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import validation_error_definition, validation_error_response_definition
from fastapi.routing import RouteContext
from pydantic import BaseModel, Field, TypeAdapter

from app.auth.requirements import Requirement
from app.errors import FieldError

FASTAPIS_OWN = {  # what a 422 is elsewhere
    "HTTPValidationError": validation_error_response_definition,
    "ValidationError": validation_error_definition,
}
PREFIX = "app__web__docs__"  # FastAPI's own way to tell models of one name apart


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable and for programs, `detail` is for people."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str
    code: str = Field(examples=["not_found"])
    trace_id: str | None = Field(None, examples=["4bf92f3577b34da6a3ce929d0e0e4736"])
    errors: list[FieldError] | None = None
    spent: dict[str, int] | None = Field(
        None, examples=[{"waiting_ms": 0, "database_ms": 12, "calls_ms": 1893, "other_ms": 4}]
    )


SCHEMA = TypeAdapter(Problem).json_schema(ref_template=f"#/components/schemas/{PREFIX}{{model}}")
SCHEMAS = {PREFIX + name: schema for name, schema in (SCHEMA.pop("$defs") | {"Problem": SCHEMA}).items()}
CONTENT = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{PREFIX}Problem"}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of these error statuses."""
    return {status: {"content": CONTENT} for status in statuses}


def complete(document: dict[str, Any], routes: Iterable[RouteContext]) -> dict[str, Any]:
    """Return an OpenAPI document that says how errors are answered here, and has parameters as a URL can hold them."""
    for route in routes:
        if _has_requirement(getattr(route, "dependant", None)):
            _document_refusal(document["paths"].get(route.path_format, {}), route.methods or ())
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name, definition in FASTAPIS_OWN.items():
        if schemas.get(name) == definition:
            del schemas[name]
    for operations in document["paths"].values():
        for operation in operations.values():
            _complete_operation(operation)
    schemas |= SCHEMAS
    is_taken = any(schemas.get(name, schema) != schema for name, schema in _shorten_names(SCHEMAS).items())
    return document if is_taken else _shorten_names(document)  # a team may have a model of that name


def _shorten_names(part: dict[str, Any]) -> dict[str, Any]:
    shortened: dict[str, Any] = json.loads(json.dumps(part).replace(PREFIX, ""))
    return shortened


def _has_requirement(dependant: Dependant | None) -> bool:
    """Tell whether an endpoint or one of its dependencies lets users in by their claims."""
    if dependant is None:
        return False
    return isinstance(dependant.call, Requirement) or any(map(_has_requirement, dependant.dependencies))


def _document_refusal(operations: dict[str, Any], methods: Iterable[str]) -> None:
    for method in methods:
        if operation := operations.get(method.lower()):
            operation["responses"].setdefault("403", _problem(HTTPStatus.FORBIDDEN))


def _problem(status: HTTPStatus) -> dict[str, Any]:
    return {"description": status.phrase, "content": CONTENT}


def _complete_operation(operation: dict[str, Any]) -> None:
    responses = operation.get("responses", {})
    if "security" in operation:
        for status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS):
            responses.setdefault(str(int(status)), _problem(status))
    if "HTTPValidationError" in str(responses.get("422", {}).get("content")):
        responses["422"]["content"] = CONTENT
    for parameter in operation.get("parameters", ()):
        if "schema" in parameter:
            parameter["schema"] = _without_null(parameter["schema"])


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter as a URL can hold it: left out, or a value."""
    kept: list[dict[str, Any]] = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(kept) != 1:
        return schema
    return {name: value for name, value in schema.items() if name != "anyOf"} | kept[0]
