"""JSON bodies: strict types, text that any reader can show, and read-only fields that may be sent back."""

import json
import re
from typing import Annotated, Any, Never, get_args

from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.params import Form
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.json_schema import SkipJsonSchema
from starlette.requests import Request

from app.errors import FieldError, InvalidRequest, MalformedBody, UnsupportedMediaType, list_known

UNCOMPRESSED = "Send the body uncompressed, without Content-Encoding."
LONG_NUMBER: FieldError = {"pointer": "", "message": "must hold no number of over 4,300 digits"}
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


class RowBody(Body):
    """A `Body` about a row of a user: what was read can be edited and sent back."""

    id: ReadOnly = None
    user_id: ReadOnly = None
    created_at: ReadOnly = None
    updated_at: ReadOnly = None


class StrictField(ModelField):
    """A part of a body that is a `Body`, or holds some: validated as JSON, in which a date is text and 5 is no "5"."""

    def validate(self, value: Any, values: Any = None, *, loc: tuple[int | str, ...] = ()) -> tuple[Any, list[Any]]:  # noqa: ARG002  FastAPI's signature
        """Return what `value` stands for, and what is wrong with it: the JSON itself, or what FastAPI read from it."""
        try:
            text = value if isinstance(value, bytes) else json.dumps(value)
            return self._type_adapter.validate_json(text), []
        except RecursionError:  # it is nested too deep to be written as JSON again
            raise MalformedBody from None
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            return None, [self._tell(line) | {"loc": (*loc, *line["loc"]), "input": None} for line in found]

    def _tell(self, line: Any) -> dict[str, Any]:
        """Return a line of pydantic's; for an unknown field it says which are known."""
        model, is_unknown = self.field_info.annotation, line["type"] == "extra_forbidden" and len(line["loc"]) == 1
        if is_unknown and isinstance(model, type) and issubclass(model, Body):
            known = [field.alias or name for name, field in model.model_fields.items() if not field.exclude]
            return {**line, "msg": f"is no field here; {list_known(known)}"}
        return dict(line)


def make_strict(dependant: Dependant) -> bool:
    """Let the `Body` models that a callable and its dependencies take be strict; tell whether there are any."""
    found = [make_strict(child) for child in dependant.dependencies]
    for place, field in enumerate(dependant.body_params):
        if not isinstance(field.field_info, Form) and _holds_body(field.field_info.annotation):
            dependant.body_params[place] = StrictField(field.field_info, field.name, field.mode, field.config)
            found.append(True)
    return any(found)


def _holds_body(annotation: Any) -> bool:
    """Tell whether a type is a `Body`, or has one among its arguments."""
    if isinstance(annotation, type) and issubclass(annotation, Body):
        return True
    return any(_holds_body(argument) for argument in get_args(annotation))


def refuse_compressed(request: Request) -> None:
    """Raise UnsupportedMediaType for a body that is compressed, or coded otherwise (RFC 9110, 12.5.3 and 15.5.16)."""
    codings = ",".join(request.headers.getlist("content-encoding")).lower()
    if not {coding.strip() for coding in codings.split(",")} <= {"", "identity"}:
        raise UnsupportedMediaType(UNCOMPRESSED, headers={"Accept-Encoding": "identity"})


async def read_json(request: Request) -> Any:
    """Return what a body holds, where there is one; raise for one that is not JSON in UTF-8, or does not say so.

    Python's own parser would take UTF-16, and NaN (RFC 8259, 6 and 8.1).
    """
    body = await request.body()
    if not body:
        return None
    _refuse_type(request)
    try:
        return DECODER.decode(body.decode())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise MalformedBody from None
    except ValueError:  # of `int`
        raise InvalidRequest(errors=[LONG_NUMBER]) from None


def _refuse_type(request: Request) -> None:
    content_type = ",".join(request.headers.getlist("content-type"))
    media_type, *parameters = map(str.strip, content_type.lower().split(";"))
    charsets = {text.removeprefix("charset=").strip('"') for text in parameters if text.startswith("charset=")}
    if media_type != "application/json" or not charsets <= {"utf-8"}:
        raise UnsupportedMediaType


def _refuse_constant(_: str) -> Never:
    raise MalformedBody


DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
