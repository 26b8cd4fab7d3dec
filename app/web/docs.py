"""What the OpenAPI document says of every route."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter

from app.errors import FieldError

FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")  # what a 422 is elsewhere


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable and for programs, `detail` is for people."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str
    code: str = Field(examples=["not_found"])
    trace_id: str | None = Field(None, examples=["4bf92f3577b34da6a3ce929d0e0e4736"])
    errors: list[FieldError] | None = None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of these error statuses."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"content": content} for status in statuses}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document that says how errors are answered here, and has parameters as a URL can hold them."""
    schema = TypeAdapter(Problem).json_schema(ref_template="#/components/schemas/{model}")
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= schema.pop("$defs") | {"Problem": schema}
    for name in FASTAPIS_OWN:
        schemas.pop(name, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            _complete_operation(operation)
    return document


def _complete_operation(operation: dict[str, Any]) -> None:
    responses = operation.get("responses", {})
    invalid = responses.get("422", {})
    if "HTTPValidationError" in str(invalid.get("content")):
        invalid |= problems(422)[422]
    if "security" in operation:
        for status, response in problems(401, 429).items():
            responses.setdefault(str(status), {"description": HTTPStatus(int(status)).phrase, **response})
    for parameter in operation.get("parameters", ()):
        if "schema" in parameter:
            parameter["schema"] = _without_null(parameter["schema"])


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter as a URL can hold it: left out, or a value."""
    kept: list[dict[str, Any]] = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(kept) != 1:
        return schema
    return {name: value for name, value in schema.items() if name != "anyOf"} | kept[0]
