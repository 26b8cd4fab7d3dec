"""JSON bodies: strict types, text that any reader can show, and read-only fields that may be sent back."""

import json
import re
from typing import Annotated, Any, Never

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.json_schema import SkipJsonSchema
from starlette.requests import Request

from app.errors import InvalidRequest, MalformedBody, UnsupportedMediaType, field_errors

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _clean(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n")
    if CONTROL.search(text):
        raise ValueError("must not hold control characters other than tab and newline")
    return text


Clean = BeforeValidator(_clean)
"""Marks text, last of its annotations: CRLF becomes LF, then NUL, lone surrogates and other control characters are
refused, then the annotations before it apply."""

ReadOnly = Annotated[SkipJsonSchema[Any], Field(exclude=True, repr=False)]
"""A field that a client may send back as it read it; it is ignored."""


class Body(BaseModel):
    """What a client may send: no type is coerced, no unknown field is passed over."""

    model_config = ConfigDict(allow_inf_nan=False, extra="forbid", frozen=True, strict=True)


class JsonRequest(Request):
    """A request whose body was read and validated: FastAPI takes the model's instance as it is."""

    def __init__(self, request: Request, body: bytes, model: Any) -> None:
        super().__init__(request.scope)
        self._read, self._model = body, model

    async def body(self) -> bytes:
        """Return the body as it came."""
        return self._read

    async def json(self) -> Any:
        """Return the body as the model it was validated as."""
        return self._model


def parse(adapter: TypeAdapter[Any], body: bytes, content_type: str) -> Any:
    """Return `body` as the adapter's type, validated from JSON without a detour through Python objects.

    Raises:
        UnsupportedMediaType: `content_type` is not JSON in UTF-8.
        MalformedBody: the body is not JSON.
        InvalidRequest: it is JSON, and not what is asked for.

    """
    if not _is_json_type(content_type):
        raise UnsupportedMediaType
    if (b"NaN" in body or b"Infinity" in body) and not _is_json(body):  # pydantic takes both where any value will do
        raise MalformedBody
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        if not _is_json(body):
            raise MalformedBody from None
        raise InvalidRequest(errors=field_errors(error.errors(include_url=False, include_input=False))) from None


def _is_json_type(content_type: str) -> bool:
    media_type, *parameters = map(str.strip, content_type.lower().split(";"))
    charsets = {text.removeprefix("charset=").strip('"') for text in parameters if text.startswith("charset=")}
    return media_type == "application/json" and charsets <= {"utf-8"}


def _is_json(body: bytes) -> bool:
    """Tell malformed JSON (400) from JSON that cannot be accepted (422), such as an escaped lone surrogate."""
    try:
        json.loads(body.decode(), parse_int=str, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> Never:
    raise ValueError(name)
