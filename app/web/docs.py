"""What the OpenAPI document says of every route."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field, TypeAdapter

from app.errors import FieldError


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable and for programs, `detail` is for people."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str
    code: str = Field(examples=["not_found"])
    errors: list[FieldError] | None = None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of these error statuses."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"content": content} for status in statuses}


class Api(FastAPI):
    """FastAPI, whose document also holds the schema that `problems` refers to."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        schema = TypeAdapter(Problem).json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"] |= schema.pop("$defs") | {"Problem": schema}
        for operations in document["paths"].values():
            for operation in operations.values():
                for parameter in operation.get("parameters", ()):
                    parameter["schema"] = _without_null(parameter["schema"])
        return document


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter as a URL can hold it: left out, or a value."""
    kept: list[dict[str, Any]] = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(kept) != 1:
        return schema
    return {name: value for name, value in schema.items() if name != "anyOf"} | kept[0]
